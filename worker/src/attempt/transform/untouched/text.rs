//! JSON text as a tree that knows where each value stands in it, and what JavaScript's engine sees
//! of it.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Deeper values are not read: the engine writes none.
const MAX_DEPTH: usize = 250;
/// The first integer that is a name like any other; smaller ones order the members of an object
/// (ECMA-262, `OrdinaryOwnPropertyKeys`).
const INDEX_END: u64 = u32::MAX as u64;

/// A JSON value with the text that it was read from.
#[derive(Debug)]
pub(super) struct Node<'t> {
    /// As it is written.
    pub(super) text: &'t str,
    pub(super) kind: Kind<'t>,
    /// A hash of what the engine sees.
    pub(super) seen: u64,
    /// Whether the engine sees all of it: no object in it has a name twice.
    whole: bool,
}

#[derive(Debug)]
pub(super) enum Kind<'t> {
    /// One of the words `true`, `false` and `null`.
    Word,
    Number(f64),
    /// UTF-16, as the engine has it: half a pair is a character, too.
    Text(Vec<u16>),
    Array(Vec<Node<'t>>),
    /// In the order in which the engine has them, each name once.
    Object(Vec<Member<'t>>),
}

#[derive(Debug)]
pub(super) struct Member<'t> {
    pub(super) name: Vec<u16>,
    /// The name as it is written, with its quotes.
    pub(super) name_text: &'t str,
    pub(super) value: Node<'t>,
}

impl<'t> Node<'t> {
    /// Whether the engine sees all of this, and the same of the other.
    pub(super) fn is_seen_as(&self, other: &Node<'_>) -> bool {
        self.whole && self.seen == other.seen && self.equals(other)
    }

    fn equals(&self, other: &Node<'_>) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Word, Kind::Word) => self.text == other.text,
            // Minus zero is printed as zero.
            #[expect(clippy::float_cmp, reason = "the very same number")]
            (Kind::Number(a), Kind::Number(b)) => a == b,
            (Kind::Text(a), Kind::Text(b)) => a == b,
            (Kind::Array(a), Kind::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b))
            }
            (Kind::Object(a), Kind::Object(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(b)
                        .all(|(a, b)| a.name == b.name && a.value.equals(&b.value))
            }
            _ => false,
        }
    }

    /// The member of that name, where this is an object.
    pub(super) fn member(&self, name: &[u16]) -> Option<&Self> {
        let Kind::Object(members) = &self.kind else {
            return None;
        };
        members
            .iter()
            .find(|member| member.name == name)
            .map(|member| &member.value)
    }

    fn new(text: &'t str, kind: Kind<'t>, whole: bool) -> Self {
        let mut hasher = DefaultHasher::new();
        std::mem::discriminant(&kind).hash(&mut hasher);
        match &kind {
            Kind::Word => text.hash(&mut hasher),
            Kind::Number(number) => (number + 0.0).to_bits().hash(&mut hasher),
            Kind::Text(units) => units.hash(&mut hasher),
            Kind::Array(items) => items.iter().for_each(|item| item.seen.hash(&mut hasher)),
            Kind::Object(members) => {
                for member in members {
                    member.name.hash(&mut hasher);
                    member.value.seen.hash(&mut hasher);
                }
            }
        }
        Self {
            text,
            kind,
            seen: hasher.finish(),
            whole,
        }
    }
}

/// Reads well-formed JSON; `None` where it is nested too deep (or not well-formed).
pub(super) fn read(text: &str) -> Option<Node<'_>> {
    Reader { text, at: 0 }.value(0)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn value(&mut self, depth: usize) -> Option<Node<'t>> {
        if depth > MAX_DEPTH {
            return None;
        }
        let begin = self.skip_space();
        let (kind, whole) = match self.peek()? {
            b'{' => self.object(depth)?,
            b'[' => {
                let items = self.array(depth)?;
                let whole = items.iter().all(|item| item.whole);
                (Kind::Array(items), whole)
            }
            b'"' => (Kind::Text(units(self.string()?)?), true),
            b'-' | b'0'..=b'9' => {
                let end = self
                    .rest()
                    .find(|c: char| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9'));
                self.at += end.unwrap_or(self.rest().len());
                (Kind::Number(self.text[begin..self.at].parse().ok()?), true)
            }
            _ => {
                let end = self.rest().find(|c: char| !c.is_ascii_lowercase());
                self.at += end.unwrap_or(self.rest().len());
                (Kind::Word, true)
            }
        };
        Some(Node::new(&self.text[begin..self.at], kind, whole))
    }

    fn array(&mut self, depth: usize) -> Option<Vec<Node<'t>>> {
        let mut items = Vec::new();
        while self.goes_on(b'[', b']', items.is_empty())? {
            items.push(self.value(depth + 1)?);
        }
        Some(items)
    }

    fn object(&mut self, depth: usize) -> Option<(Kind<'t>, bool)> {
        let mut members: Vec<Member<'t>> = Vec::new();
        let mut places: std::collections::HashMap<Vec<u16>, usize> =
            std::collections::HashMap::new();
        let mut count = 0_usize;
        let mut whole = true;
        while self.goes_on(b'{', b'}', count == 0)? {
            count += 1;
            self.skip_space();
            let name_text = self.string()?;
            let name = units(name_text)?;
            self.skip_space();
            self.take(b':')?;
            let value = self.value(depth + 1)?;
            whole &= value.whole;
            match places.get(&name) {
                // It stays where it was first, with its last value.
                Some(place) => {
                    whole = false;
                    members[*place].value = value;
                }
                None => {
                    places.insert(name.clone(), members.len());
                    members.push(Member {
                        name,
                        name_text,
                        value,
                    });
                }
            }
        }
        // A stable sort: the others stay in their order, behind the indexes.
        members.sort_by_key(|member| index(&member.name).unwrap_or(INDEX_END));
        Some((Kind::Object(members), whole))
    }

    /// Takes what opens, separates or ends a list; whether an item follows.
    fn goes_on(&mut self, open: u8, close: u8, first: bool) -> Option<bool> {
        self.skip_space();
        if first && self.peek()? == open {
            self.at += 1;
            self.skip_space();
            if self.peek()? != close {
                return Some(true);
            }
        } else if self.peek()? == b',' {
            self.at += 1;
            return Some(true);
        }
        self.take(close)?;
        Some(false)
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'t str> {
        let begin = self.at;
        self.take(b'"')?;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return self.text.get(begin..self.at);
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    fn skip_space(&mut self) -> usize {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.at
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }
}

/// What a string with its quotes stands for.
fn units(quoted: &str) -> Option<Vec<u16>> {
    let inner = quoted.get(1..quoted.len().checked_sub(1)?)?;
    let mut units = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let c = if c == '\\' {
            chars.next()?
        } else {
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            continue;
        };
        units.push(match c {
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'u' => {
                let digits = chars.as_str().get(..4)?;
                chars = chars.as_str()[4..].chars();
                u16::from_str_radix(digits, 16).ok()?
            }
            other => u16::try_from(u32::from(other)).ok()?,
        });
    }
    Some(units)
}

/// The name as the index of an array, if it is written as one.
fn index(name: &[u16]) -> Option<u64> {
    let digits =
        !name.is_empty() && name.len() <= 10 && name.iter().all(|unit| (48..=57).contains(unit));
    if !digits || (name.len() > 1 && name[0] == 48) {
        return None;
    }
    let number = name
        .iter()
        .fold(0, |number, unit| number * 10 + u64::from(unit - 48));
    (number < INDEX_END).then_some(number)
}
