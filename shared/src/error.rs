//! Errors as text.

use std::error::Error;

/// An error with all its causes in one line, each said once: many errors repeat what caused them.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    causes(Some(error))
}

/// The causes of an error in one line, without itself; empty where there are none.
#[must_use]
pub fn causes_of(error: &(dyn Error + 'static)) -> String {
    causes(error.source())
}

fn causes(mut next: Option<&(dyn Error + 'static)>) -> String {
    let mut said = String::new();
    while let Some(error) = next {
        let text = error.to_string();
        if !said.contains(&text) {
            let separator = if said.is_empty() { "" } else { ": " };
            said = format!("{said}{separator}{text}");
        }
        next = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it cannot be read")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_come_behind_what_they_caused() {
        let error = Outer(std::io::Error::other("it is not there"));
        assert_eq!(chain(&error), "it cannot be read: it is not there");
        assert_eq!(causes_of(&error), "it is not there");
        assert_eq!(causes_of(&std::io::Error::other("alone")), "");
    }
}
