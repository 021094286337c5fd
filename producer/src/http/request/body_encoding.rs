//! `Content-Encoding` of a request's body. gzip is read; anything else is answered 415. How much
//! comes out is bounded: some kilobytes of gzip can stand for gigabytes.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};

use crate::http::problem::{Code, Problem};

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum BodyEncoding {
    /// The body is sent as it is.
    Identity,
    /// The body is compressed with gzip (RFC 1952).
    Gzip,
}

/// How the body with these headers is encoded.
///
/// # Errors
/// `unsupported_media_type` for all but gzip, and for more than one encoding.
pub(in crate::http) fn of(headers: &HeaderMap) -> Result<BodyEncoding, Problem> {
    let mut named = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        named.extend(
            value
                .to_str()
                .unwrap_or("?")
                .split(',')
                .map(|name| name.trim().to_ascii_lowercase()),
        );
    }
    named.retain(|name| !name.is_empty() && name != "identity");
    match named.as_slice() {
        [] => Ok(BodyEncoding::Identity),
        [name] if name == "gzip" || name == "x-gzip" => Ok(BodyEncoding::Gzip),
        _ => Err(Problem::new(
            Code::UnsupportedMediaType,
            "the content encoding must be gzip, or not set",
        )),
    }
}

impl BodyEncoding {
    /// The body as it was before it was encoded, of up to `limit` bytes.
    ///
    /// # Errors
    /// `too_large`, or `invalid_encoding` when it is not gzip.
    pub(in crate::http) async fn decode(self, body: Bytes, limit: usize) -> Result<Bytes, Problem> {
        match self {
            Self::Identity => Ok(body),
            // Some megabytes take a while, in which other requests go on.
            Self::Gzip => match tokio::task::spawn_blocking(move || gunzip(&body, limit)).await {
                Ok(decoded) => decoded,
                Err(_) => Err(Problem::internal()),
            },
        }
    }
}

fn gunzip(body: &[u8], limit: usize) -> Result<Bytes, Problem> {
    let mut decoded = Vec::new();
    // One byte more than allowed is enough to see that it is too large; the rest stays packed.
    let mut reader = MultiGzDecoder::new(body).take(limit as u64 + 1);
    if let Err(error) = reader.read_to_end(&mut decoded) {
        return Err(Problem::new(
            Code::InvalidEncoding,
            format!("the body is not valid gzip, which Content-Encoding says it is: {error}"),
        ));
    }
    if decoded.len() > limit {
        let detail =
            format!("the body may have at most {limit} bytes, and has more when it is unpacked");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    Ok(decoded.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn unpacks_no_more_than_the_limit() {
        assert_eq!(gunzip(&gzip(b"abc"), 3).unwrap(), "abc");
        assert_eq!(gunzip(&gzip(b"abcd"), 3).unwrap_err().code, Code::TooLarge);
        assert_eq!(
            gunzip(&gzip(&vec![0; 100_000_000]), 1_000)
                .unwrap_err()
                .code,
            Code::TooLarge
        );
        assert_eq!(gunzip(b"{}", 100).unwrap_err().code, Code::InvalidEncoding);
        let whole = gzip(b"abc");
        assert_eq!(
            gunzip(&whole[..whole.len() - 3], 100).unwrap_err().code,
            Code::InvalidEncoding
        );
        let two_members = [gzip(b"a"), gzip(b"bc")].concat();
        assert_eq!(gunzip(&two_members, 3).unwrap(), "abc");
        assert_eq!(gunzip(&two_members, 2).unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn only_gzip_is_known() {
        let named = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append(
                header::CONTENT_ENCODING,
                http::HeaderValue::from_static(value),
            );
            of(&headers)
        };
        assert_eq!(of(&HeaderMap::new()).unwrap(), BodyEncoding::Identity);
        assert_eq!(named("identity").unwrap(), BodyEncoding::Identity);
        assert_eq!(named("GZip").unwrap(), BodyEncoding::Gzip);
        for other in ["br", "gzip, gzip", "deflate"] {
            assert_eq!(
                named(other).unwrap_err().code,
                Code::UnsupportedMediaType,
                "{other}"
            );
        }
    }
}
