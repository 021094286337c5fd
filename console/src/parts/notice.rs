//! What was just done. A form is answered by the address of a page with the word of a notice, and
//! never with its text: a link that somebody sends cannot make the console say what it wants.

const NOTICES: [(&str, &str); 10] = [
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
    ("redriven", "The dead letters are back on the work queue."),
];

/// The sentence that a word stands for.
pub(crate) fn sentence(word: &str) -> Option<&'static str> {
    let found = NOTICES.iter().find(|(known, _)| *known == word);
    found.map(|(_, sentence)| *sentence)
}
