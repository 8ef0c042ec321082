//! Names and values of queries and forms.

use std::borrow::Cow;

/// The pairs of a query or a form, decoded (`application/x-www-form-urlencoded`), in their order.
///
/// ```
/// use fanfare_guest::Params;
///
/// let params = Params::parse("name=J%C3%B6rg+M.&tag=a&tag=b&flag");
/// assert_eq!(params.get("name"), Some("Jörg M."));
/// assert_eq!(params.all("tag").collect::<Vec<_>>(), ["a", "b"]);
/// assert_eq!(params.get("flag"), Some(""));
/// assert_eq!(params.get("other"), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Decodes; every text is a query, so there are no errors: a `%` that begins no code stays, and bytes that
    /// are not UTF-8 become U+FFFD.
    pub fn parse(encoded: &str) -> Self {
        let pairs = encoded
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode_plus(name), decode_plus(value))
            });
        Self(pairs.collect())
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    /// All values of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter()
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no pair at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Params {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<(String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

fn decode_plus(text: &str) -> String {
    decode_percent(&text.replace('+', " "))
}

/// Replaces `%41` and its like; what is no code stays, and what is no UTF-8 becomes U+FFFD.
pub(crate) fn decode_percent(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let code = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match code {
            Some((high, low)) => {
                bytes.push(high * 16 + low);
                rest = &tail[2..];
            }
            None => bytes.push(*first),
        }
    }
    match String::from_utf8_lossy(&bytes) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_codes() {
        assert_eq!(decode_percent("plain"), "plain");
        assert_eq!(decode_percent("%41%c3%A9%20"), "Aé ");
        assert_eq!(decode_percent("100%"), "100%");
        assert_eq!(decode_percent("%4"), "%4");
        assert_eq!(decode_percent("%zz%%41"), "%zz%A");
        assert_eq!(decode_percent("%+1"), "%+1");
        assert_eq!(decode_percent("%ff"), "\u{fffd}");
        assert_eq!(decode_percent("é%41"), "éA");
    }

    #[test]
    fn pairs() {
        let params = Params::parse("a=1&&b=x%3Dy%26z&=empty&a=2&c=1=2&%2B=+");
        let pairs: Vec<_> = params.iter().collect();
        assert_eq!(
            pairs,
            [
                ("a", "1"),
                ("b", "x=y&z"),
                ("", "empty"),
                ("a", "2"),
                ("c", "1=2"),
                ("+", " ")
            ]
        );
        assert!(Params::parse("").is_empty());
        assert_eq!(params.len(), params.clone().into_iter().count());
    }
}
