//! What the script printed.

use std::collections::BTreeMap;

/// Facts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(BTreeMap<String, String>);

/// Why a text is no facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactsError {
    /// The first line of the script's is not there.
    #[error("there are no facts in it")]
    None,
    /// The last line of the script's is not there.
    #[error("the facts are cut off")]
    CutOff,
}

impl Facts {
    /// Reads the lines `key=value` from `vz-facts=1` to `end=1`; a login shell may
    /// have said something before.
    ///
    /// # Errors
    /// Where these are not there.
    pub fn parse(text: &str) -> Result<Facts, FactsError> {
        let mut facts = BTreeMap::new();
        for line in text.lines().skip_while(|line| line.trim() != "vz-facts=1") {
            match line.split_once('=') {
                Some(("end", _)) => return Ok(Facts(facts)),
                Some((key, value)) => {
                    facts.insert(key.trim().to_owned(), value.trim().to_owned());
                }
                None => {}
            }
        }
        Err(if facts.is_empty() { FactsError::None } else { FactsError::CutOff })
    }

    /// The fact, or nothing.
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// The fact as a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key).parse().ok()
    }

    /// Whether a list of words has this one.
    pub fn has(&self, key: &str, word: &str) -> bool {
        self.get(key).split_whitespace().any(|w| w == word)
    }

    /// All facts, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_login_shell_says_is_skipped_and_an_end_is_needed() {
        let facts = Facts::parse("Welcome=x\nvz-facts=1\na=1\nb=x=y\nend=1\nbye\n").unwrap();
        assert_eq!((facts.number("a"), facts.get("b"), facts.get("Welcome")), (Some(1), "x=y", ""));
        assert_eq!(Facts::parse("a=1\nend=1\n"), Err(FactsError::None));
        assert_eq!(Facts::parse("vz-facts=1\na=1\n"), Err(FactsError::CutOff));
    }
}
