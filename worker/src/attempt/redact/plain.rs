//! A text as it reads once all escapes are undone, with the place of each byte in the original: so
//! what is found in it can be taken out there.

use std::ops::Range;

/// How often a text may have been escaped one way within another.
const LAYERS: usize = 4;

/// The longest name of an HTML entity that is looked for.
const ENTITY: usize = 9;
/// The most digits of a character's number, with zeros in front.
const CODE_POINT: usize = 16;
/// The entities that are read without their semicolon, too.
const OPEN_ENTITIES: &[(&[u8], u8)] = &[
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
];
const ENTITIES: &[(&[u8], u8)] = &[
    (b"apos", b'\''),
    (b"sol", b'/'),
    (b"plus", b'+'),
    (b"equals", b'='),
    (b"lowbar", b'_'),
    (b"period", b'.'),
    (b"colon", b':'),
    (b"commat", b'@'),
    (b"excl", b'!'),
    (b"num", b'#'),
    (b"dollar", b'$'),
    (b"percnt", b'%'),
    (b"lpar", b'('),
    (b"rpar", b')'),
    (b"ast", b'*'),
    (b"midast", b'*'),
    (b"comma", b','),
    (b"semi", b';'),
    (b"quest", b'?'),
    (b"lsqb", b'['),
    (b"lbrack", b'['),
    (b"rsqb", b']'),
    (b"rbrack", b']'),
    (b"Hat", b'^'),
    (b"grave", b'`'),
    (b"lcub", b'{'),
    (b"lbrace", b'{'),
    (b"verbar", b'|'),
    (b"vert", b'|'),
    (b"rcub", b'}'),
    (b"rbrace", b'}'),
];

/// Bytes, with the place of each in the text that they come from.
#[derive(Debug, Clone, Default)]
pub(super) struct Plain {
    bytes: Vec<u8>,
    /// Where each byte is in the original.
    places: Vec<Range<usize>>,
}

impl Plain {
    /// A text as it is.
    pub(super) fn of(text: &str) -> Self {
        Self {
            bytes: text.bytes().collect(),
            places: (0..text.len()).map(|at| at..at + 1).collect(),
        }
    }

    /// As it reads once all escapes are undone.
    pub(super) fn read(self) -> Self {
        let mut plain = self;
        for _ in 0..LAYERS {
            let less = plain.unescaped();
            if less.bytes.len() == plain.bytes.len() {
                break;
            }
            plain = less;
        }
        plain
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its ASCII letters and digits alone.
    pub(super) fn letters(&self) -> Self {
        let mut letters = Self::default();
        for (byte, place) in self.bytes.iter().zip(&self.places) {
            if byte.is_ascii_alphanumeric() {
                letters.push(*byte, place.clone());
            }
        }
        letters
    }

    /// Adds where the pattern is.
    pub(super) fn find(&self, pattern: &[u8], found: &mut Vec<Range<usize>>) {
        self.each(pattern, |at| {
            let end = at + pattern.len();
            found.push(self.place(at..end));
            end
        });
    }

    /// Adds where the pattern is, or its first or last `least` bytes and what goes on from them.
    pub(super) fn find_part(&self, pattern: &[u8], least: usize, found: &mut Vec<Range<usize>>) {
        let (first, _) = pattern.split_at(least);
        let (before, last) = pattern.split_at(pattern.len() - least);
        self.each(first, |at| {
            let rest = self.bytes[at..].iter().zip(pattern);
            let length = rest.take_while(|(one, other)| one == other).count();
            found.push(self.place(at..at + length));
            at + length
        });
        self.each(last, |at| {
            let ahead = self.bytes[..at].iter().rev().zip(before.iter().rev());
            let length = ahead.take_while(|(one, other)| one == other).count();
            let blank = |at: &usize| self.bytes.get(*at).is_none_or(|byte| *byte != b'+');
            // A space before it is not the secret's, whatever stood before it in the header.
            let start = (at - length..at).find(blank).unwrap_or(at);
            found.push(self.place(start..at + least));
            at + least
        });
    }

    /// Calls `take` for each place of the pattern; it answers from where to look on, so that no
    /// byte is taken twice.
    fn each(&self, pattern: &[u8], mut take: impl FnMut(usize) -> usize) {
        let finder = memchr::memmem::Finder::new(pattern);
        let mut at = 0;
        while let Some(next) = finder.find(&self.bytes[at..]) {
            at = take(at + next);
        }
    }

    /// Where these bytes are in the original; `bytes` is not empty.
    pub(super) fn place(&self, bytes: Range<usize>) -> Range<usize> {
        self.places[bytes.start].start..self.places[bytes.end - 1].end
    }

    pub(super) fn push(&mut self, byte: u8, place: Range<usize>) {
        self.bytes.push(byte);
        self.places.push(place);
    }

    /// With one layer of escapes less.
    fn unescaped(&self) -> Self {
        let mut less = Self::default();
        let mut at = 0;
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let (written, length) = escape(rest).unwrap_or((Written::Byte(rest[0]), 1));
            let place = self.place(at..at + length);
            match written {
                Written::Byte(byte) => less.push(byte, place),
                Written::Character(character) => {
                    let mut text = [0; 4];
                    for byte in character.encode_utf8(&mut text).bytes() {
                        less.push(byte, place.clone());
                    }
                }
            }
            at += length;
        }
        less
    }

    /// Without quotes, backslashes and control characters, in lower case: what is written in
    /// different ways. `text`: the original.
    pub(super) fn canonical(&self, text: &str) -> Self {
        let mut canonical = Self::default();
        for (byte, place) in self.bytes.iter().zip(&self.places) {
            let place = place.clone();
            match *byte {
                b'\\' | b'\'' | b'"' | b'`' | 0..0x20 | 0x7f => {}
                // As forms write it.
                b' ' => canonical.push(b'+', place),
                byte => canonical.push(byte.to_ascii_lowercase(), place),
            }
        }
        // Never in the midst of a character of the original.
        for place in &mut canonical.places {
            let end = (place.end..=text.len()).find(|at| text.is_char_boundary(*at));
            *place = text.floor_char_boundary(place.start)..end.unwrap_or(text.len());
        }
        canonical
    }
}

/// What an escape stands for.
enum Written {
    Byte(u8),
    Character(char),
}

/// What an escape at the beginning stands for, and the escape's length.
fn escape(text: &[u8]) -> Option<(Written, usize)> {
    let number = |digits: &[u8], radix| {
        let digits = std::str::from_utf8(digits).ok()?;
        u32::from_str_radix(digits, radix).ok()
    };
    let character = |digits, radix| {
        let character = char::from_u32(number(digits, radix)?)?;
        Some(Written::Character(character))
    };
    match text {
        // As JavaScript's `escape` writes it.
        [b'%', b'u', digits @ ..] => Some((character(digits.get(..4)?, 16)?, 6)),
        [b'%', digits @ ..] => {
            let byte = u8::try_from(number(digits.get(..2)?, 16)?).ok()?;
            Some((Written::Byte(byte), 3))
        }
        [b'\\', b'U', digits @ ..] => Some((character(digits.get(..8)?, 16)?, 10)),
        [b'\\', b'u' | b'x', b'{', rest @ ..] => {
            let end = rest
                .iter()
                .take(CODE_POINT)
                .position(|byte| *byte == b'}')?;
            Some((character(rest.get(..end)?, 16)?, end + 4))
        }
        [b'\\', b'u', digits @ ..] => Some((character(digits.get(..4)?, 16)?, 6)),
        [b'\\', b'x', digits @ ..] => Some((character(digits.get(..2)?, 16)?, 4)),
        [b'\\', b'n' | b'r' | b't', ..] => Some((Written::Byte(b'\n'), 2)),
        [b'\\', digits @ ..] => {
            let byte = u8::try_from(number(digits.get(..3)?, 8)?).ok()?;
            Some((Written::Byte(byte), 4))
        }
        [b'&', b'#', rest @ ..] => {
            let (radix, mark, digits) = match rest {
                [b'x' | b'X', digits @ ..] => (16, 3, digits),
                digits => (10, 2, digits),
            };
            let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
            let end = digits.iter().take(CODE_POINT).take_while(is_digit).count();
            // Readers of HTML take one without its semicolon, too.
            let closed = usize::from(digits.get(end) == Some(&b';'));
            Some((character(&digits[..end], radix)?, mark + end + closed))
        }
        [b'&', rest @ ..] => {
            let is_name = |byte: &&u8| byte.is_ascii_alphabetic();
            let end = rest.iter().take(ENTITY).take_while(is_name).count();
            let closed = rest.get(end) == Some(&b';');
            if !closed {
                let open = |(name, _): &&(&[u8], u8)| rest.starts_with(name);
                let (name, byte) = OPEN_ENTITIES.iter().find(open)?;
                return Some((Written::Byte(*byte), name.len() + 1));
            }
            let named = |(name, _): &&(&[u8], u8)| *name == &rest[..end];
            let (_, byte) = OPEN_ENTITIES.iter().chain(ENTITIES).find(named)?;
            Some((Written::Byte(*byte), end + 2))
        }
        _ => None,
    }
}
