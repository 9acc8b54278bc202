//! Sizes, rates and times as users write them.

use std::time::Duration;

/// Reads `4096`, `64K`, `256M`, `1G` (powers of 1024), in bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = split(
        text.trim_end_matches(['B', 'b', 'i']),
        &[('k', 1 << 10), ('m', 1 << 20), ('g', 1 << 30)],
    );
    let number = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    number.ok_or_else(|| "give bytes, or a number with K, M or G".to_owned())
}

/// Reads `900`, `500K`, `1.5M`, `1G` (powers of 1000), in bytes a second.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let (digits, unit) = split(
        text.trim_end_matches(['B', 'b']),
        &[('k', 1000), ('m', 1_000_000), ('g', 1_000_000_000)],
    );
    let number = digits.parse::<f64>().ok().map(|n| n * unit as f64);
    let number = number.filter(|n| *n >= 1.0 && *n < 1e18);
    number
        .map(|n| n as u64)
        .ok_or_else(|| "give bytes a second, or a number with K, M or G".to_owned())
}

/// Reads `30`, `1.5s`, `2m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (digits, seconds) = split(text, &[('s', 1), ('m', 60), ('h', 3600)]);
    let number = digits.parse::<f64>().ok();
    let time = number.and_then(|n| Duration::try_from_secs_f64(n * seconds as f64).ok());
    time.ok_or_else(|| "give seconds, or a number with s, m or h".to_owned())
}

/// Reads a time that is worth waiting: up to a day.
pub(super) fn patience(text: &str) -> Result<Duration, String> {
    let sensible = Duration::from_millis(50)..=Duration::from_secs(86_400);
    let time = duration(text)?;
    sensible.contains(&time).then_some(time).ok_or_else(|| "give from 0.05s to 24h".to_owned())
}

/// Splits `text` into what stands before its unit, and what that is worth.
fn split<'a>(text: &'a str, units: &[(char, u64)]) -> (&'a str, u64) {
    let found = units.iter().find_map(|(name, worth)| {
        Some((text.strip_suffix([*name, name.to_ascii_uppercase()])?, *worth))
    });
    found.unwrap_or((text, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        assert_eq!(size("64K"), Ok(65536));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert!(size("99999999999G").is_err());
    }

    #[test]
    fn rates_have_units_of_1000() {
        assert_eq!(rate("500K"), Ok(500_000));
        assert_eq!(rate("1.5M"), Ok(1_500_000));
        assert_eq!(rate("900"), Ok(900));
        for bad in ["", "K", "-1", "0", "fast", "inf"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("-1").is_err());
        assert_eq!(patience("30"), Ok(Duration::from_secs(30)));
        assert!(patience("0").is_err() && patience("25h").is_err());
    }
}
