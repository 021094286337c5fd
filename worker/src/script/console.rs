//! What a script writes to the console: as much of it as is kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::CONSOLE_BYTES;

const CUT: &str = "… (cut: only the first 4 KiB are kept)";

/// Shared by the thread that runs the script and the one that waits for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Console(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    text: String,
    cut: bool,
}

impl Console {
    /// Adds a line, or as much of it as there is room for.
    pub(super) fn line(&self, line: &str) {
        let mut kept = self.kept();
        if kept.cut {
            return;
        }
        let room = CONSOLE_BYTES.saturating_sub(kept.text.len() + 1);
        if line.len() <= room {
            kept.text.push_str(line);
            kept.text.push('\n');
            return;
        }
        let end = line.floor_char_boundary(room);
        kept.text.push_str(&line[..end]);
        kept.text.push_str(CUT);
        kept.cut = true;
    }

    /// What is kept so far.
    pub(super) fn text(&self) -> String {
        self.kept().text.clone()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let console = Console::default();
        console.line("first");
        console.line(&"é".repeat(3_000));
        console.line("too late");
        let text = console.text();
        assert!(text.starts_with("first\né"), "{text}");
        assert!(text.ends_with(CUT), "{text}");
        assert!(text.len() <= CONSOLE_BYTES + CUT.len(), "{}", text.len());
    }
}
