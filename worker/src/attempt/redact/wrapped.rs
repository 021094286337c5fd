//! The parts of a text that may stand for other bytes as a whole: base64, hex, and lists of the
//! numbers of bytes.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The fewest characters or numbers that are worth a look: 6 bytes, the shortest secret, are 8
/// digits of base64.
const FEWEST: usize = 6;
/// Digits of base64 in a group; a part may begin anywhere in one.
const GROUP: usize = 4;

/// Reads what encoders write, and what was cut: padding or none, and bits that are left over.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A part of a text, and what it may stand for: the likeliest first.
pub(super) struct Wrapped {
    pub(super) place: Range<usize>,
    pub(super) readings: Vec<String>,
}

/// Every such part.
pub(super) fn all(text: &str) -> Vec<Wrapped> {
    let mut all = runs(text, is_digit, base64);
    all.extend(runs(text, is_digit, hex));
    all.extend(runs(text, is_of_list, numbers));
    all
}

/// What stands for a digit of base64, or is in the midst of them: the backslash of `\\/`.
const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'\\')
}

const fn is_of_list(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b',' | b' ' | b'\n')
}

fn runs(text: &str, of: fn(u8) -> bool, read: fn(&str) -> Vec<String>) -> Vec<Wrapped> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(first) = text.bytes().skip(at).position(of) {
        let start = at + first;
        let length = text
            .bytes()
            .skip(start)
            .take_while(|byte| of(*byte))
            .count();
        at = start + length;
        let place = start..at;
        let readings = read(&text[place.clone()]);
        if !readings.is_empty() {
            all.push(Wrapped { place, readings });
        }
    }
    all
}

/// As base64, with each digit of a group for the first one.
fn base64(run: &str) -> Vec<String> {
    let digits = run.bytes().filter(|byte| *byte != b'\\');
    let digits: Vec<u8> = digits
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => byte,
        })
        .collect();
    let from = |first: usize| {
        let digits = digits.get(first..).filter(|rest| rest.len() > FEWEST)?;
        // One digit over is less than a byte.
        let whole = digits.len() - usize::from(digits.len() % GROUP == 1);
        let bytes = BASE64.decode(&digits[..whole]).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    (0..GROUP).filter_map(from).collect()
}

fn hex(run: &str) -> Vec<String> {
    let even = run.len() - run.len() % 2;
    let bytes = (run.len() > FEWEST).then(|| hex::decode(&run[..even]).ok());
    let text = bytes
        .flatten()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    text.into_iter().collect()
}

fn numbers(run: &str) -> Vec<String> {
    let numbers = run
        .split([',', ' ', '\n'])
        .filter(|number| !number.is_empty());
    // Any other number ends nothing: it stands for a byte that is in no text.
    let bytes: Vec<u8> = numbers
        .map(|number| number.parse().unwrap_or(u8::MAX))
        .collect();
    let text = (bytes.len() >= FEWEST).then(|| String::from_utf8_lossy(&bytes).into_owned());
    text.into_iter().collect()
}
