//! Quantities of Kubernetes: `64Mi`, `500m`, `0.5`, `1e6`. Pure.

/// Powers of ten and of two that a quantity's suffix stands for.
const SUFFIXES: [(&str, f64); 13] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
];

/// The number that `text` stands for, if it is a positive quantity.
fn value(text: &str) -> Option<f64> {
    let suffix = SUFFIXES.iter().find_map(|(name, power)| Some((text.strip_suffix(name)?, *power)));
    let (digits, power) = suffix.unwrap_or((text, 1.0));
    let plain = |c: u8| c.is_ascii_digit() || c == b'.';
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) if suffix.is_none() => {
            (mantissa, exponent.parse::<i8>().ok().filter(|e| (-9..=15).contains(e))?)
        }
        _ => (digits, 0),
    };
    if !mantissa.starts_with(|c: char| c.is_ascii_digit()) || !mantissa.bytes().all(plain) {
        return None;
    }
    let number = mantissa.parse::<f64>().ok()? * power * 10_f64.powi(i32::from(exponent));
    (number.is_finite() && number > 0.0).then_some(number)
}

/// Whole bytes, from 1 MiB on: a program with less does not start, and `64m`, which
/// is 64 thousandths of a byte, was meant to be `64Mi`.
pub fn bytes(text: &str) -> Option<u64> {
    let number = value(text)?.ceil();
    (1_048_576.0..=1e15).contains(&number).then_some(number as u64)
}

/// Thousandths of a CPU, rounded up.
pub fn milli_cpus(text: &str) -> Option<u32> {
    let number = (value(text)? * 1000.0 - 1e-6).ceil();
    (1.0..=4_000_000.0).contains(&number).then_some(number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_suffixes_of_two_and_of_ten() {
        for (text, expected) in [
            ("64Mi", Some(67_108_864)),
            ("1Gi", Some(1_073_741_824)),
            ("1.5Gi", Some(1_610_612_736)),
            ("64M", Some(64_000_000)),
            ("128974848", Some(128_974_848)),
            ("129e6", Some(129_000_000)),
            ("123456k", Some(123_456_000)),
            ("64m", None),
            ("64", None),
            ("64MB", None),
            ("64 Mi", None),
            ("-64Mi", None),
            ("0", None),
            ("", None),
            ("Mi", None),
            (".5Gi", None),
            ("0x40Mi", None),
            ("1e99", None),
            ("infMi", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn cpus_are_counted_in_thousandths() {
        for (text, expected) in [
            ("500m", Some(500)),
            ("0.5", Some(500)),
            ("2", Some(2000)),
            ("0.1", Some(100)),
            ("1m", Some(1)),
            ("100u", Some(1)),
            ("0", None),
            ("half", None),
        ] {
            assert_eq!(milli_cpus(text), expected, "{text}");
        }
    }
}
