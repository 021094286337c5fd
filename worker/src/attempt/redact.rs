//! Takes the secrets that a request carried out of what is kept of its answer: some endpoints echo
//! what they got, as it was or encoded.
//!
//! 1. **Escaped.** The text is read as its reader would, however often it was escaped
//!    ([`Plain`]): JSON in JSON, HTML in JSON, any percent-encoding. Quotes, backslashes, control
//!    characters and upper case do not count, so neither do quoting by a shell, SQL or Python and
//!    UTF-16.
//! 2. **Encoded.** Letters and digits alone are looked through for the secret in hex, base32 and
//!    base64, also in the midst of a longer text.
//! 3. **Wrapped.** All that may be base64, hex or a list of the numbers of bytes is decoded into
//!    one text that is looked through in the same way ([`wrapped`]): base64 of escaped text, of
//!    hex, or three times over.
//! 4. **Cut.** A secret of 16 bytes or more is found by one half of it, and taken out as far as it
//!    goes.
//!
//! A tenant chooses the secrets and answers what it likes, so what this costs is bounded: each byte
//! that is kept is looked at some twenty times for each secret, whatever it is.

mod plain;
mod wrapped;

use std::ops::Range;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use plain::Plain;
use posthaste_shared::domain::view::REDACTED;

/// The shortest secret that is redacted, in bytes: a shorter one could not be told from other text.
const SHORTEST: usize = 6;
/// A secret of so many bytes is recognised by half of it.
const HALVED: usize = 16;
/// The most bytes that a byte of a secret takes where it is echoed: `\\\\u0026amp;`, or UTF-16 in
/// base64 of base64.
const WIDEST: usize = 16;

/// What stands between the parts of a header's value: of cookies, parameters and JSON.
const SEPARATORS: &[char] = &[' ', ',', ';', '=', '"', '{', '}', ':', '&'];
/// The shortest part of a header's value that is taken for a secret by itself, in bytes.
const SHORTEST_PART: usize = 10;
/// The most such parts of one request: each is looked for in every answer.
const MOST_PARTS: usize = 32;
/// How many wrappings are undone, one within another.
const WRAPPINGS: usize = 3;
/// A secret of more bytes is followed no further than one of so many, where it begins before the
/// cut and goes on behind it in an encoding.
const FOLLOWED: usize = 256;

/// Whether a part of a header's value looks like a secret and not like a word.
fn is_random(part: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| part.bytes().any(|byte| kind(&byte));
    part.len() >= SHORTEST_PART && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
}

/// The secrets of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets {
    all: Vec<String>,
    /// How many of them are parts of headers' values.
    parts: usize,
    /// What is looked for, made when the first text is looked through.
    patterns: OnceLock<Vec<Patterns>>,
}

/// What a secret looks like.
#[derive(Debug, Clone)]
struct Patterns {
    /// As it is, once it is canonical.
    plain: Vec<u8>,
    /// The letters and digits of its encodings.
    encoded: Vec<Vec<u8>>,
}

impl Secrets {
    /// Adds a secret; one of fewer than 6 bytes is left out, because it would match ordinary text.
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() >= SHORTEST && !self.all.iter().any(|known| known == secret) {
            self.all.push(secret.to_owned());
            self.patterns = OnceLock::new();
        }
    }

    /// A signing secret, with and without its prefix (`whsec_`).
    pub(crate) fn add_signing(&mut self, secret: &str) {
        self.add(secret);
        if let Some((_, key)) = secret.split_once('_') {
            self.add(key);
        }
    }

    /// The value of a header: as a whole, without the scheme before it, what Basic authentication
    /// has in it, and what stands between separators, as a session does in a cookie.
    pub(crate) fn add_header(&mut self, value: &str) {
        self.add(value);
        let room = MOST_PARTS - self.parts;
        let parts = value.split(SEPARATORS).filter(|part| is_random(part));
        for part in parts.take(room) {
            self.add(part);
            self.parts += 1;
        }
        let Some((scheme, rest)) = value.split_once(' ') else {
            return;
        };
        let credentials = rest.trim();
        self.add(credentials);
        if !scheme.eq_ignore_ascii_case("basic") {
            return;
        }
        let decoded = STANDARD
            .decode(credentials)
            .or_else(|_| STANDARD_NO_PAD.decode(credentials));
        if let Some(pair) = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
            self.add(&pair);
            if let Some((_, password)) = pair.split_once(':') {
                self.add(password);
            }
        }
    }

    /// The first `most` bytes of the text, without the secrets in them. One that goes on behind
    /// them is taken out as well: nothing of it is left.
    pub(crate) fn redact(&self, text: &str, most: usize) -> String {
        let longest = self.all.iter().map(String::len).max().unwrap_or(0);
        let behind = longest + longest.min(FOLLOWED) * WIDEST;
        let looked = most.saturating_add(behind);
        let mut redacted = String::with_capacity(text.len().min(most));
        let mut at = 0;
        for found in self.found(&text[..text.floor_char_boundary(looked)]) {
            if found.start >= most {
                break;
            }
            redacted.push_str(&text[at..found.start]);
            redacted.push_str(REDACTED);
            at = found.end;
        }
        redacted.push_str(&text[at..text.floor_char_boundary(most.max(at))]);
        redacted
    }

    /// Where secrets are, in order and apart from each other.
    fn found(&self, text: &str) -> Vec<Range<usize>> {
        if self.all.is_empty() || text.len() < SHORTEST {
            return Vec::new();
        }
        let mut all = Vec::new();
        let mut layer = Plain::of(text).read();
        self.search(&layer.canonical(text), &mut all);
        for depth in 0..WRAPPINGS {
            // Only the outermost can begin anywhere: what was wrapped as a whole begins with it.
            layer = wrapped::within(&layer, depth == 0).read();
            if layer.bytes().is_empty() {
                break;
            }
            self.search(&layer.canonical(text), &mut all);
        }
        all.sort_unstable_by_key(|range| (range.start, range.end));
        let mut apart: Vec<Range<usize>> = Vec::new();
        for range in all {
            match apart.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        apart
    }

    /// Adds where secrets are written.
    fn search(&self, text: &Plain, all: &mut Vec<Range<usize>>) {
        let letters = text.letters();
        let patterns = self
            .patterns
            .get_or_init(|| self.all.iter().map(|secret| Patterns::of(secret)).collect());
        for Patterns { plain, encoded } in patterns {
            if plain.len() >= HALVED {
                text.find_part(plain, plain.len() / 2, all);
            } else if plain.len() >= SHORTEST {
                text.find(plain, all);
            }
            for pattern in encoded {
                letters.find(pattern, all);
            }
        }
    }
}

impl Patterns {
    fn of(secret: &str) -> Self {
        let plain = Plain::of(secret).read().canonical(secret);
        Self {
            plain: plain.bytes().to_vec(),
            encoded: encodings(secret),
        }
    }
}

/// The letters and digits, in lower case, of a secret in hex, base32 and base64, in the latter two
/// also where it stands in the midst of a longer text.
fn encodings(secret: &str) -> Vec<Vec<u8>> {
    let mut all = vec![hex::encode(secret)];
    all.extend(shifted(secret.as_bytes(), BASE32));
    all.extend(shifted(secret.as_bytes(), BASE64));
    let letters = |text: String| {
        let letters = text.bytes().filter(u8::is_ascii_alphanumeric);
        letters.map(|it| it.to_ascii_lowercase()).collect()
    };
    let mut all: Vec<Vec<u8>> = all.into_iter().map(letters).collect();
    all.retain(|pattern| pattern.len() > SHORTEST);
    all
}

/// How bytes become digits: bytes in a group, bits in a digit, and the encoder.
type Base = (usize, usize, fn(&[u8]) -> String);
const BASE32: Base = (5, 5, |bytes| data_encoding::BASE32_NOPAD.encode(bytes));
const BASE64: Base = (3, 6, |bytes| STANDARD_NO_PAD.encode(bytes));

/// The digits that are the text's own, wherever in a group it begins.
fn shifted(text: &[u8], (group, bits, encode): Base) -> impl Iterator<Item = String> {
    (0..group).filter_map(move |before| {
        let digits = encode(&[&vec![0; before], text].concat());
        // Digits that have bits of what stands before or behind are not its own.
        let first = (before * 8).div_ceil(bits);
        let last = ((before + text.len()) * 8) / bits;
        digits.get(first..last).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const ALL: usize = 1 << 20;

    fn of_header(value: &str) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.add_header(value);
        secrets
    }

    #[test]
    fn a_token_is_taken_out_however_it_is_echoed() {
        let token = "s3cr3t/t\"ken+&<1>";
        let secrets = of_header(&format!("Bearer {token}"));
        let hex: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
        for echo in [
            token.to_owned(),
            format!("Bearer {token}"),
            serde_json::json!({ "you sent": token }).to_string(),
            "s3cr3t/t&quot;ken+&amp;&lt;1&gt;".to_owned(),
            "s3cr3t%2Ft%22ken%2B%26%3C1%3E".to_owned(),
            "s3cr3t%2ft%22ken%2b%26%3c1%3e".to_owned(),
            hex.clone(),
            hex.to_uppercase(),
            STANDARD.encode(token),
            URL_SAFE_NO_PAD.encode(token),
            STANDARD.encode(format!("Authorization: Bearer {token}\r\n")),
            STANDARD.encode(format!("uthorization: Bearer {token}\r\n")),
            STANDARD.encode(format!("thorization: Bearer {token}\r\n")),
        ] {
            let shown = secrets.redact(&format!("before {echo} after"), ALL);
            assert!(
                shown.starts_with("before ") && shown.contains(REDACTED),
                "{echo}: {shown}"
            );
            assert!(
                !shown.contains("s3cr3t") && !shown.contains(&STANDARD.encode(token)[1..20]),
                "{echo}: {shown}"
            );
        }
    }

    /// As MIME breaks it.
    fn in_lines(text: &str) -> String {
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(20)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        lines.join("\r\n")
    }

    /// As the languages and formats of receivers write it.
    #[test]
    fn a_token_is_taken_out_in_every_common_encoding() {
        let token = "kR7/2nT9x+Qw/e4Lm8Zp1'cVbA<5s\"&z==";
        let secrets = of_header(&format!("Bearer {token}"));
        let percent = |keep: &str| -> String {
            let byte = |byte: u8| match char::from(byte) {
                it if keep.contains(it) || it.is_ascii_alphanumeric() => it.to_string(),
                it => format!("%{:02X}", it as u32),
            };
            token.bytes().map(byte).collect()
        };
        let each = |write: fn(u8) -> String| token.bytes().map(write).collect::<String>();
        let json = serde_json::Value::from(token).to_string();
        let php = json.replace('/', "\\/");
        let go = json
            .replace('&', "\\u0026")
            .replace('<', "\\u003c")
            .replace('+', "\\u002B");
        let in_json = serde_json::Value::from(go.clone()).to_string();
        let html = token
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('"', "&#34;");
        let html = html.replace('\'', "&#x27;").replace('/', "&#47;");
        let html_in_json = serde_json::Value::from(html.clone())
            .to_string()
            .replace('&', "\\u0026");
        let base64 = STANDARD.encode(token);
        let number = |(at, byte): (usize, u8)| format!("\"{at}\":{byte},");
        let numbered: String = token.bytes().enumerate().map(number).collect();
        for echo in [
            STANDARD.encode(&php),
            php,
            go,
            serde_json::Value::from(in_json.clone()).to_string(),
            in_json,
            html.clone(),
            html_in_json,
            html.replace('&', "&amp;"),
            percent("/"),
            percent("-_.~!*'();/?:@&=+$,#"),
            percent("").replace('%', "%25"),
            each(|byte| format!("%{byte:02x}")),
            each(|byte| format!("\\x{byte:02x}")),
            each(|byte| format!("{byte:02x}:")),
            each(|byte| format!("0x{byte:02X}, ")).replace("0x", ""),
            each(|byte| format!("{}\0", char::from(byte))),
            token.replace('\'', "'\\''"),
            token.replace('\'', "''"),
            format!("'{}'", token.replace('\'', "\\'")),
            STANDARD.encode(&base64),
            STANDARD.encode(format!("x{base64}")),
            data_encoding::BASE32.encode(token.as_bytes()),
            data_encoding::BASE32.encode(format!("key={token}").as_bytes()),
            STANDARD.encode(STANDARD.encode(&base64)),
            STANDARD.encode(percent("")),
            STANDARD.encode(hex::encode(token)),
            format!("x{}", STANDARD.encode(hex::encode_upper(token))),
            URL_SAFE_NO_PAD.encode(format!("{{\"sent\":{json}}}")),
            hex::encode(&base64),
            each(|byte| format!("{byte},")),
            format!("[{}]", each(|byte| format!("{byte}, "))),
            each(|byte| format!("0x{byte:x}, ")),
            each(|byte| format!("{byte}\r\n")),
            each(|byte| format!("{byte};\t")),
            serde_json::Value::from(each(|byte| format!("{byte},\n  "))).to_string(),
            format!("{{{numbered}}}"),
            in_lines(&STANDARD.encode(percent(""))),
            in_lines(&STANDARD.encode(STANDARD.encode(&base64))),
            each(|byte| format!("\\U{byte:08x}")),
            each(|byte| format!("%u{byte:04x}")),
            each(|byte| format!("\\x{{{byte:x}}}")),
            each(|byte| format!("&#{byte:09};")),
            each(|byte| format!("\\{byte:03o}")),
            each(|byte| format!("\\u{{{byte:x}}}")),
            each(|byte| format!("&#{byte}")),
            each(|byte| format!("&#x{byte:x};")),
            html.replace("&amp;", "&amp").replace("&lt;", "&lt"),
            token.to_uppercase(),
            token.to_lowercase(),
            token[..token.len() - 2].to_owned(),
            token[3..].to_owned(),
        ] {
            let shown = secrets.redact(&format!("before {echo} after"), ALL);
            let left = shown.replace(REDACTED, "");
            assert!(
                shown.contains(REDACTED) && left.len() < "before  after".len() + echo.len() / 3,
                "{echo}: {shown}"
            );
        }
        let harmless = "{\"error\":\"no such order: kR7\",\"at\":\"2026-11-28T10:00:00Z\"}";
        assert_eq!(secrets.redact(harmless, ALL), harmless);
    }

    #[test]
    fn a_secret_within_a_header_is_taken_out_by_itself() {
        for header in [
            "theme=dark; lang=en-GB; consent=yes; sid=Q8sd7Fh2Kp5W",
            "Custom user=\"anna\", realm=\"example\", key=\"Q8sd7Fh2Kp5W\"",
            "client=shop-frontend;secret=Q8sd7Fh2Kp5W",
            "{\"client\":\"shop-frontend\",\"secret\":\"Q8sd7Fh2Kp5W\"}",
        ] {
            let secrets = of_header(header);
            let shown = secrets.redact("your session is Q8sd7Fh2Kp5W, anna of shop", ALL);
            assert_eq!(
                shown, "your session is [redacted], anna of shop",
                "{header}"
            );
        }
        let mut signing = Secrets::default();
        signing.add_signing("whsec_KCkqMfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let shown = signing.redact("key KCkqMfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw is wrong", ALL);
        assert_eq!(shown, "key [redacted] is wrong");
    }

    #[test]
    fn what_a_header_costs_is_bounded() {
        let many: String = (0..1_000).map(|at| format!("part{at:08};")).collect();
        let secrets = of_header(&many);
        assert!(secrets.all.len() <= MOST_PARTS + 2, "{}", secrets.all.len());
        // Each place of the text is looked at once, however often the secret's half is there.
        let secrets = of_header(&"a".repeat(8_000));
        let mut found = Vec::new();
        let text = Plain::of(&"a".repeat(100_000));
        text.find_part(&[b'a'; 8_000], 4_000, &mut found);
        assert!(found.len() <= 2 * 100_000 / 4_000, "{}", found.len());
        assert_eq!(secrets.redact(&"a".repeat(100_000), 4_096), REDACTED);
    }

    /// Whatever an answer is made of. Counted in bytes looked at and not in seconds, which a busy
    /// machine has many of.
    #[test]
    fn what_an_answer_costs_is_bounded() {
        for piece in [
            "abcdefghij ",
            "{\"id\":1234567890,\"status\":\"failed\"},",
            "aB3dEf9hIj ",
            "0123456789",
            "12, 255, ",
            "%25u0041&amp;",
            "deadbeef00",
        ] {
            let text = piece.repeat(65_536 / piece.len());
            let mut layer = Plain::of(&text).read();
            let mut looked = layer.bytes().len();
            for depth in 0..WRAPPINGS {
                layer = wrapped::within(&layer, depth == 0).read();
                looked += layer.bytes().len();
            }
            assert!(looked <= 20 * text.len(), "{piece}: {looked}");
        }
    }

    #[test]
    fn what_basic_authentication_says_is_taken_out_decoded() {
        let secrets = of_header(&format!("Basic {}", STANDARD.encode("anna:open sesame")));
        assert_eq!(
            secrets.redact("user anna:open sesame!", ALL),
            "user [redacted]!"
        );
        assert_eq!(
            secrets.redact("password=open+sesame", ALL),
            "password=[redacted]"
        );
    }

    #[test]
    fn a_secret_at_the_cut_leaves_no_part() {
        let secrets = of_header("Bearer 0123456789abcdef");
        for before in 80..120 {
            let shown = secrets.redact(&format!("{}0123456789abcdef", "x".repeat(before)), 100);
            assert!(!shown.contains("0123"), "{before}: {shown}");
            assert!(shown.len() <= 100 + REDACTED.len());
        }
        assert_eq!(secrets.redact(&"é".repeat(80), 101), "é".repeat(50));
    }

    #[test]
    fn short_values_are_left() {
        assert_eq!(
            of_header("Pin 1234").redact("1234 of 12345", ALL),
            "1234 of 12345"
        );
    }
}
