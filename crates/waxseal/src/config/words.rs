//! The right word for a wrong one.

/// The candidate nearest to `word`, if it is near enough that a slip of the hand explains it.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = word.to_ascii_lowercase();
    let slips = (word.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean ...?`, or what there is to choose from.
pub(crate) fn suggest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str> + Clone) -> String {
    match nearest(word, candidates.clone()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => one_of(candidates),
    }
}

/// `one of: a, b, c`.
pub(crate) fn one_of<'c>(candidates: impl IntoIterator<Item = &'c str>) -> String {
    format!("one of: {}", candidates.into_iter().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_another_word_finds_none() {
        let words = ["smtp", "submission", "imap", "pop3"];
        assert_eq!(nearest("submision", words), Some("submission"));
        assert_eq!(nearest("IMAP", words), Some("imap"));
        assert_eq!(nearest("imaps", words), Some("imap"));
        assert_eq!(nearest("xmpp", words), None);
        assert_eq!(suggest("xmpp", words), "one of: smtp, submission, imap, pop3");
    }
}
