//! Takes the secrets that a request carried out of what is kept of its answer: some endpoints echo
//! what they got, as it was or encoded.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use posthaste_shared::domain::view::REDACTED;

/// The shortest secret that is redacted, in bytes: a shorter one could not be told from other text.
const SHORTEST: usize = 6;

/// The secrets of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Adds a secret; one of fewer than 6 bytes is left out, because it would match ordinary text.
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() >= SHORTEST {
            self.0.push(secret.to_owned());
        }
    }

    /// The value of a header: as a whole, without the scheme before it, and what Basic
    /// authentication has in it.
    pub(crate) fn add_header(&mut self, value: &str) {
        self.add(value);
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
        let patterns = self.patterns();
        let mut redacted = String::with_capacity(text.len().min(most));
        let mut at = 0;
        loop {
            let rest = &text[at..];
            let next = patterns
                .iter()
                .filter_map(|pattern| Some((rest.find(pattern.as_str())?, pattern.len())));
            // The first; of several at one place the longest.
            let found = next.min_by_key(|(start, length)| (*start, std::cmp::Reverse(*length)));
            match found.filter(|(start, _)| at + start < most) {
                Some((start, length)) => {
                    redacted.push_str(&rest[..start]);
                    redacted.push_str(REDACTED);
                    at += start + length;
                }
                None => {
                    redacted.push_str(&rest[..rest.floor_char_boundary(most.saturating_sub(at))]);
                    return redacted;
                }
            }
        }
    }

    /// Every way in which the secrets may stand in a text.
    fn patterns(&self) -> Vec<String> {
        let mut patterns: Vec<String> =
            self.0.iter().flat_map(|secret| encodings(secret)).collect();
        patterns.retain(|pattern| pattern.len() >= SHORTEST);
        patterns.sort_unstable();
        patterns.dedup();
        patterns
    }
}

/// A secret as it is, in JSON, in HTML, in a URL, in hex and in base64, there also in the midst of
/// a longer text.
fn encodings(secret: &str) -> Vec<String> {
    let json = serde_json::Value::from(secret).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let html = secret
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;");
    let query: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let path = query.replace('+', "%20");
    let lower_path = lower_escapes(&path);
    let hex = hex::encode(secret);
    let mut all = vec![
        secret.to_owned(),
        json,
        html,
        query,
        path,
        lower_path,
        hex.to_uppercase(),
        hex,
    ];
    for before in 0..3 {
        let shifted = [&vec![0; before], secret.as_bytes()].concat();
        for text in [
            STANDARD_NO_PAD.encode(&shifted),
            URL_SAFE_NO_PAD.encode(&shifted),
        ] {
            // Digits that have bits of what stands before or behind are not this secret's own.
            let first = (before * 8).div_ceil(6);
            let last = (shifted.len() * 8) / 6;
            all.extend(text.get(first..last).map(str::to_owned));
        }
    }
    all
}

/// The text with its percent escapes in lower case: `%2f` in place of `%2F`.
fn lower_escapes(text: &str) -> String {
    let mut left = 0;
    text.chars()
        .map(|character| {
            if character == '%' {
                left = 2;
                return character;
            }
            let escaped = left > 0;
            left = usize::saturating_sub(left, 1);
            if escaped {
                character.to_ascii_lowercase()
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
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
