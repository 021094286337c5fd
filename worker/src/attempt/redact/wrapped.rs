//! The parts of a text that may stand for other bytes as a whole: base64, hex, and lists of the
//! numbers of bytes.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::plain::Plain;

/// The fewest digits of base64 that are worth a look: those of 6 bytes, the shortest secret.
const FEWEST_DIGITS: usize = 8;
/// The fewest digits of hex, and the fewest numbers.
const FEWEST_HEX: usize = 12;
const FEWEST_NUMBERS: usize = 6;
/// Digits of base64 in a group; a part may begin anywhere in one.
const GROUP: usize = 4;
/// The most that stands between two numbers of a list.
const GAP: usize = 6;
/// What stands between parts that have nothing to do with each other. It is in no text.
const APART: u8 = 0xff;

/// Reads what encoders write, and what was cut: padding or none, and bits that are left over.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// All that such parts stand for, one behind the other; the place of each byte is that of its whole
/// part. `anywhere`: whether base64 may begin within a part, behind what does not belong to it.
pub(super) fn within(text: &Plain, anywhere: bool) -> Plain {
    let bytes = text.bytes();
    let mut inner = Plain::default();
    let mut add = |decoded: Vec<u8>, part: Range<usize>| {
        let place = text.place(part);
        for byte in decoded.into_iter().chain([APART]) {
            inner.push(byte, place.clone());
        }
    };
    for part in runs(bytes, is_digit) {
        let run = &bytes[part.clone()];
        let offsets = if anywhere { GROUP } else { 1 };
        for decoded in base64(run, offsets) {
            add(decoded, part.clone());
        }
        if let Some(decoded) = hex(run) {
            add(decoded, part.clone());
        }
    }
    for list in lists(bytes) {
        let part = list[0].1.start..list[list.len() - 1].1.end;
        let values = || list.iter().map(|(value, _)| *value);
        add(values().collect(), part.clone());
        // With the number of each before it, as in an object that was an array.
        if list.len() >= 2 * FEWEST_NUMBERS {
            add(values().step_by(2).collect(), part.clone());
            add(values().skip(1).step_by(2).collect(), part);
        }
    }
    inner
}

/// What stands for a digit of base64, or is in the midst of them.
const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_') || is_between(byte)
}

/// What stands in the midst of digits: the ends of lines, and the backslash of `\/`.
const fn is_between(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | b'\\')
}

fn runs(bytes: &[u8], of: fn(u8) -> bool) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + bytes[at..].iter().position(|byte| of(*byte))?;
        let length = bytes[start..].iter().take_while(|byte| of(**byte)).count();
        at = start + length;
        Some(start..at)
    })
}

/// As base64, with each of the first digits for the first one of a group.
fn base64(run: &[u8], offsets: usize) -> Vec<Vec<u8>> {
    let digits: Vec<u8> = run
        .iter()
        .filter(|byte| !is_between(**byte))
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => *byte,
        })
        .collect();
    // Words and numbers are no base64, which has capitals, digits and other letters in any order.
    let rest = digits.get(1..).unwrap_or_default();
    let is_mixed = rest
        .iter()
        .any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        && rest.iter().any(u8::is_ascii_alphabetic);
    if !is_mixed {
        return Vec::new();
    }
    let from = |first: usize| {
        let digits = digits
            .get(first..)
            .filter(|rest| rest.len() >= FEWEST_DIGITS)?;
        // One digit over is less than a byte.
        let whole = digits.len() - usize::from(digits.len() % GROUP == 1);
        BASE64.decode(&digits[..whole]).ok()
    };
    (0..offsets).filter_map(from).collect()
}

fn hex(run: &[u8]) -> Option<Vec<u8>> {
    let even = run.len() - run.len() % 2;
    (run.len() >= FEWEST_HEX).then(|| ::hex::decode(&run[..even]).ok())?
}

/// A number of a byte, and where it is.
type Number = (u8, Range<usize>);

/// Numbers of bytes, decimal or in hex with `0x`, with little between them.
fn lists(bytes: &[u8]) -> Vec<Vec<Number>> {
    let mut all: Vec<Vec<Number>> = Vec::new();
    let mut list: Vec<Number> = Vec::new();
    for part in runs(bytes, |byte| byte.is_ascii_alphanumeric()) {
        let follows = list
            .last()
            .is_some_and(|(_, last)| part.start - last.end <= GAP);
        let value = number(&bytes[part.clone()]);
        if (value.is_none() || !follows) && !list.is_empty() {
            all.push(std::mem::take(&mut list));
        }
        if let Some(value) = value {
            list.push((value, part));
        }
    }
    all.push(list);
    all.retain(|list| list.len() >= FEWEST_NUMBERS);
    all
}

fn number(word: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(word).ok()?;
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
