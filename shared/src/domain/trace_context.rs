//! W3C Trace Context: which trace a piece of work belongs to and which span of it caused it. It
//! travels as one text, `traceparent`: in HTTP headers, in message headers, in the store.

use std::fmt;

/// The flag that says that the trace is recorded (Trace Context, section 3.2.2.5.1).
const SAMPLED: u8 = 0x01;
/// The flags that are passed on: sampled, and (level 2, section 3.2.2.5.2) that the trace id is
/// random.
const KNOWN_FLAGS: u8 = 0x03;

/// The id of a trace: 16 bytes, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// The id of a span: 8 bytes, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The id of the trace.
    pub trace: TraceId,
    /// The span that is the parent of what comes next.
    pub span: SpanId,
    flags: u8,
}

impl TraceId {
    /// `None` when all bytes are zero.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The id's 16 bytes, not all zero.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    /// `None` when all bytes are zero.
    #[must_use]
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// The id's 8 bytes, not all zero.
    #[must_use]
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl TraceContext {
    /// A place in a trace that is recorded, or is not.
    #[must_use]
    pub const fn new(trace: TraceId, span: SpanId, sampled: bool) -> Self {
        Self {
            trace,
            span,
            flags: if sampled { SAMPLED } else { 0 },
        }
    }

    /// Reads a `traceparent` (Trace Context, section 3.2.2). A version later than 00 may have more
    /// at its end, which is left out. `None` for anything else: such a header is to be ignored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        // A later version is read as well, as the standard asks: it may only add at the end. ff is
        // forbidden.
        let version: [u8; 1] = lower_hex(parts.next()?)?;
        let trace = TraceId::new(lower_hex(parts.next()?)?)?;
        let span = SpanId::new(lower_hex(parts.next()?)?)?;
        let [flags] = lower_hex(parts.next()?)?;
        let more = parts.next().is_some();
        let refused = version == [0xff] || (version == [0] && more);
        (!refused).then_some(Self {
            trace,
            span,
            // Bits of later standards are cleared, since what they promise is not kept here.
            flags: flags & KNOWN_FLAGS,
        })
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The flags as they are sent.
    #[must_use]
    pub const fn flags(self) -> u8 {
        self.flags
    }

    /// The same trace, a span further.
    #[must_use]
    pub const fn at(self, span: SpanId) -> Self {
        Self { span, ..self }
    }
}

/// Lower-case hexadecimal of exactly the given number of bytes.
fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    // The standard has lower case alone, so that two headers of one trace can be compared as texts;
    // `hex` takes both.
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for TraceContext {
    /// As a `traceparent` of version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REAL: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn reads_what_the_standard_shows() {
        let context = TraceContext::parse(REAL).unwrap();
        assert_eq!(context.to_string(), REAL);
        assert!(context.is_sampled());
        assert_eq!(
            context.trace.to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(context.span.to_string(), "00f067aa0ba902b7");
        let unsampled =
            TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap();
        assert!(!unsampled.is_sampled());
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        let later =
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-the-future-will-be-like";
        let context = TraceContext::parse(later).unwrap();
        assert_eq!(
            context.to_string(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"
        );
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "00",
            "00-ab",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47é6-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), sampled: bool,
        ) {
            if let (Some(trace), Some(span)) = (TraceId::new(trace), SpanId::new(span)) {
                let context = TraceContext::new(trace, span, sampled);
                prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = TraceContext::parse(&text);
        }
    }
}
