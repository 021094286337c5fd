//! New inputs out of known ones: bytes changed, parts cut out, doubled and swapped, and what has
//! broken readers before put in.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// The longest input.
const LONGEST: usize = 64 * 1024;
/// The most changes between an input and what it was made from.
const CHANGES: usize = 8;

/// What has broken readers of text, of numbers and of JSON before.
const TOKENS: [&[u8]; 54] = [
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"\"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"0",
    b"-0",
    b"-1",
    b"1e400",
    b"1e-400",
    b"1.0",
    b"9007199254740993",
    b"9223372036854775808",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"999999999999999999999999999999",
    b"0x10",
    b"+5",
    b"NaN",
    b"Infinity",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\r\n",
    b"\n",
    b"%00",
    b"%2e%2e/",
    b"%",
    b"::1",
    b"[::ffff:127.0.0.1]",
    b"127.0.0.1",
    b"0177.0.0.1",
    b"localhost",
    b"@",
    b"\xe2\x80\xae",
    b"\xef\xbf\xbd",
    b"__proto__",
    b"constructor",
    b"1970-01-01T00:00:00Z",
    b"9999-12-31T23:59:60Z",
];

/// Makes inputs; the same seed makes the same ones.
pub struct Mutator<'a> {
    random: SmallRng,
    known: &'a [Vec<u8>],
    /// What the target's own inputs are made of.
    tokens: &'a [&'a str],
}

impl<'a> Mutator<'a> {
    /// Makes inputs out of `known`, which is not empty.
    #[must_use]
    pub fn new(seed: u64, known: &'a [Vec<u8>], tokens: &'a [&'a str]) -> Self {
        Self {
            random: SmallRng::seed_from_u64(seed),
            known,
            tokens,
        }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.any_known().to_vec();
        for _ in 0..self.random.random_range(1..=CHANGES) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let from = self.random.random_range(0..=input.len());
        let to = (from + self.length()).min(input.len());
        match self.random.random_range(0..9) {
            0 => {
                let bit = 1 << self.random.random_range(0..8);
                if let Some(byte) = input.get_mut(from) {
                    *byte ^= bit;
                }
            }
            1 => {
                let new = self.random.random::<u8>();
                if let Some(byte) = input.get_mut(from) {
                    *byte = new;
                }
            }
            2 => drop(input.drain(from..to)),
            3 => {
                let again: Vec<u8> = input[from..to].to_vec();
                let times = self.random.random_range(1..40);
                input.splice(from..from, again.repeat(times));
            }
            4 => drop(input.splice(from..to, self.token())),
            5 => drop(input.splice(from..from, self.token())),
            6 => {
                // Where another input goes on at the same place.
                let other = self.any_known();
                let rest = other.get(from..).unwrap_or_default().to_vec();
                input.truncate(from);
                input.extend(rest);
            }
            7 => {
                let other = self.any_known();
                let start = self.random.random_range(0..=other.len());
                let end = (start + self.length()).min(other.len());
                input.splice(from..to, other[start..end].iter().copied());
            }
            _ => {
                // Deep: what opens, many times over.
                let opens: &[&[u8]] = &[b"[", b"{\"a\":", b"(", b"((", b"!", b"-"];
                let open = opens.choose(&mut self.random).copied().unwrap_or(b"[");
                let times = self.random.random_range(1..300);
                input.splice(from..from, open.repeat(times));
            }
        }
    }

    fn any_known(&mut self) -> &'a [u8] {
        let at = self.random.random_range(0..self.known.len());
        &self.known[at]
    }

    fn token(&mut self) -> Vec<u8> {
        let own = self
            .random
            .random_range(0..TOKENS.len() + 2 * self.tokens.len());
        match TOKENS.get(own) {
            Some(token) => token.to_vec(),
            None => {
                let token = self.tokens.choose(&mut self.random).copied();
                token.unwrap_or_default().as_bytes().to_vec()
            }
        }
    }

    /// Mostly short.
    fn length(&mut self) -> usize {
        1 << self.random.random_range(0..9)
    }
}
