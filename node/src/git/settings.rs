//! All settings of a configuration, read by one command instead of one for each.

/// Settings as `git config -z --list` gives them.
#[derive(Debug, Default)]
pub(crate) struct Settings(Vec<(String, Option<Vec<u8>>)>);

impl Settings {
    /// The arguments of the command whose answer [`Settings::parse`] takes.
    pub(crate) const LIST: [&str; 2] = ["-z", "--list"];

    /// `key LF value NUL` for each, or `key NUL` where there is no value, which means true.
    pub(crate) fn parse(answer: &[u8]) -> Self {
        let entries = answer.split(|c| *c == 0).filter(|entry| !entry.is_empty());
        let parse = |entry: &[u8]| match entry.iter().position(|c| *c == b'\n') {
            Some(at) => (lossy(&entry[..at]), Some(entry[at + 1..].to_vec())),
            None => (lossy(entry), None),
        };
        Self(entries.map(parse).collect())
    }

    /// The value that counts: the last. `key` has its section and its name in small letters.
    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        let (_, value) = self.0.iter().rfind(|(name, _)| name == key)?;
        Some(value.as_deref().unwrap_or_default())
    }

    /// How often it is set.
    pub(crate) fn count(&self, key: &str) -> usize {
        self.0.iter().filter(|(name, _)| name == key).count()
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_none_is_empty() {
        let settings = Settings::parse(b"a.b\n1\0core.bare\0remote.X.url\nno\ntwo\0a.b\n2\0");
        assert_eq!(settings.get("a.b"), Some(&b"2"[..]));
        assert_eq!((settings.get("core.bare"), settings.count("a.b")), (Some(&b""[..]), 2));
        assert_eq!(settings.get("remote.X.url"), Some(&b"no\ntwo"[..]));
        assert_eq!(settings.get("a"), None);
        assert_eq!(settings.iter().filter(|(_, value)| value.is_none()).count(), 1);
    }
}
