//! Cursors of lists, as clients send them back.

use posthaste_shared::store::page::Cursor;

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "cursors",
    about: "a list's cursor: only what a list gave out is taken",
    run,
    tokens: &["AAAAAAAAAAA", "_", "-", "=", "AAVf"],
};

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(cursor) = Cursor::parse(text) {
        assert_eq!(cursor.encode(), text, "two texts for one cursor");
    }
}
