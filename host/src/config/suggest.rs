//! "Did you mean": the known word nearest to one that is not known.

/// Longer words are nobody's typing mistake, and comparing them would cost the square of their length.
const LONGEST: usize = 64;

/// The candidate that differs from `word` by a few typing mistakes at most.
pub(super) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    if word.len() > LONGEST {
        return None;
    }
    let word: Vec<char> = word.to_lowercase().chars().collect();
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| {
            let chars: Vec<char> = candidate.to_lowercase().chars().collect();
            (
                distance(&word, &chars),
                word.len().max(chars.len()),
                candidate,
            )
        })
        .filter(|(distance, length, _)| *distance <= (length / 3).max(1) && distance < length)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., candidate)| candidate)
}

/// A message's end: what was perhaps meant, and what is known.
pub(super) fn known<'c>(
    word: &str,
    kind: &str,
    candidates: impl IntoIterator<Item = &'c str> + Clone,
) -> String {
    let meant = match nearest(word, candidates.clone()) {
        Some(candidate) => format!("did you mean `{candidate}`? "),
        None => String::new(),
    };
    let all: Vec<String> = candidates
        .into_iter()
        .map(|candidate| format!("`{candidate}`"))
        .collect();
    if all.is_empty() {
        format!("no {kind} are known here")
    } else {
        format!("{meant}known {kind}: {}", all.join(", "))
    }
}

/// How many letters to insert, drop, replace or swap with their neighbour to make one of the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_are_recognised() {
        let known = ["route", "component", "head-bytes", "head-timeout"];
        assert_eq!(nearest("ruote", known), Some("route"));
        assert_eq!(nearest("head_bytes", known), Some("head-bytes"));
        assert_eq!(nearest("Component", known), Some("component"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"a".repeat(10_000), known), None);
    }

    #[test]
    fn one_letter_is_not_near_another() {
        assert_eq!(nearest("a", ["b"]), None);
    }

    #[test]
    fn distances() {
        let of =
            |a: &str, b: &str| distance(&Vec::from_iter(a.chars()), &Vec::from_iter(b.chars()));
        assert_eq!(of("", "abc"), 3);
        assert_eq!(of("abc", ""), 3);
        assert_eq!(of("abc", "acb"), 1);
        assert_eq!(of("kitten", "sitting"), 3);
    }
}
