//! What was just done. A form is answered by the address of a page with the word of a notice, and
//! never with its text: a link that somebody sends cannot make the console say what it wants.

const NOTICES: [(&str, &str); 13] = [
    ("retried", "It is due now: a worker sends it in a moment."),
    ("cancelled", "It was cancelled, and will not be sent."),
    (
        "enabled",
        "The endpoint is enabled: what waited for it is sent.",
    ),
    (
        "disabled",
        "The endpoint is disabled: what is pending for it waits.",
    ),
    ("created", "The endpoint is there."),
    ("saved", "The settings are saved."),
    ("rotated", "Requests are signed with the new secret."),
    ("deleted", "The endpoint is deleted."),
    ("revoked", "The key does not work any more."),
    ("sent", "It is accepted, and on its way."),
    (
        "already",
        "That form was done already, once: a second click does nothing more.",
    ),
    ("transformed", "The transform is saved."),
    ("redriven", "The dead letters are back on the work queue."),
];

/// What can come of a delivery that was selected: a word, and what is said of one and of several.
/// The first of each action is that it was done.
const RESULTS: [(&str, &str, &str); 9] = [
    ("retried", "is due now", "are due now"),
    ("cancelled", "is cancelled", "are cancelled"),
    (
        "sending",
        "is being sent at this moment",
        "are being sent at this moment",
    ),
    (
        "expired",
        "has expired, and is never sent",
        "have expired, and are never sent",
    ),
    (
        "orphaned",
        "has no endpoint any more",
        "have no endpoint any more",
    ),
    ("finished", "was finished already", "were finished already"),
    ("unknown", "is not there any more", "are not there any more"),
    (
        "refused",
        "could not be changed now",
        "could not be changed now",
    ),
    ("none", "was selected", "were selected"),
];

/// What came of several deliveries, as a word for the address: `retried.3-expired.1`.
pub(crate) fn results(counts: &[(&'static str, usize)]) -> String {
    let some = counts.iter().filter(|(_, count)| *count > 0);
    let parts: Vec<String> = some
        .map(|(word, count)| format!("{word}.{count}"))
        .collect();
    if parts.is_empty() {
        "none.0".to_owned()
    } else {
        parts.join("-")
    }
}

/// The sentence that a word stands for.
pub(crate) fn sentence(word: &str) -> Option<String> {
    if let Some((_, sentence)) = NOTICES.iter().find(|(known, _)| *known == word) {
        return Some((*sentence).to_owned());
    }
    let parts = word.split('-').map(|part| {
        let (word, count) = part.split_once('.')?;
        let count: u32 = count.parse().ok()?;
        let (_, one, several) = RESULTS.iter().find(|(known, ..)| *known == word)?;
        Some(match count {
            0 => "None was selected".to_owned(),
            1 => format!("1 {one}"),
            count => format!("{count} {several}"),
        })
    });
    let parts: Option<Vec<String>> = parts.collect();
    Some(format!("{}.", parts?.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_for_a_sentence_and_nothing_else_does() {
        let said = sentence(&results(&[("retried", 3), ("sending", 0), ("expired", 1)]));
        let expected = "3 are due now; 1 has expired, and is never sent.";
        assert_eq!(said.as_deref(), Some(expected));
        assert_eq!(
            sentence(&results(&[])).as_deref(),
            Some("None was selected.")
        );
        for other in ["", "<b>", "retried", "retried.x", "call.3", "retried.1-"] {
            let is_known = NOTICES.iter().any(|(known, _)| *known == other);
            assert!(is_known || sentence(other).is_none(), "{other}");
        }
    }
}
