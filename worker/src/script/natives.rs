//! What the prelude has Rust do: bytes and text, URLs, digests. Bytes come as base64 and go as an
//! `ArrayBuffer`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::Rng as _;
use rquickjs::function::IntoJsFunc;
use rquickjs::{ArrayBuffer, Ctx, Exception, Function, Object, Result};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use url::{Url, form_urlencoded, quirks};

/// The most random bytes that are given at once; the web's limit.
const MAX_RANDOM_BYTES: u32 = 65_536;

pub(super) fn install(object: &Object<'_>) -> Result<()> {
    add(object, "encode", encode)?;
    add(object, "decode", decode)?;
    add(object, "parseForm", |text: String| {
        flat(form_urlencoded::parse(text.as_bytes()))
    })?;
    add(object, "writeForm", write_form)?;
    add(object, "parseUrl", parse_url)?;
    add(object, "changeUrl", change_url)?;
    add(object, "digest", digest)?;
    add(object, "sign", sign)?;
    add(object, "verify", verify)?;
    add(object, "random", random)?;
    add(object, "uuid", || uuid::Uuid::new_v4().to_string())
}

/// The bytes that the prelude wrote as base64.
pub(super) fn bytes(ctx: &Ctx<'_>, base64: &str) -> Result<Vec<u8>> {
    STANDARD
        .decode(base64)
        .map_err(|_| Exception::throw_internal(ctx, "bytes that are not base64"))
}

fn encode<'js>(ctx: Ctx<'js>, text: String) -> Result<ArrayBuffer<'js>> {
    ArrayBuffer::new_copy(ctx, text.as_bytes())
}

fn decode(ctx: Ctx<'_>, base64: String, fatal: bool) -> Result<String> {
    match String::from_utf8(bytes(&ctx, &base64)?) {
        Ok(text) => Ok(text),
        Err(_) if fatal => Err(Exception::throw_type(&ctx, "the bytes are not UTF-8")),
        Err(error) => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

fn flat(pairs: form_urlencoded::Parse<'_>) -> Vec<String> {
    pairs
        .flat_map(|(name, value)| [name.into_owned(), value.into_owned()])
        .collect()
}

fn write_form(pairs: Vec<String>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for pair in pairs.chunks_exact(2) {
        form.append_pair(&pair[0], &pair[1]);
    }
    form.finish()
}

fn parse_url(input: String, base: Option<String>) -> Option<Vec<String>> {
    let url = match base {
        None => Url::parse(&input),
        Some(base) => Url::parse(&base).and_then(|base| base.join(&input)),
    };
    url.ok().map(|url| parts(&url))
}

/// In the order of the prelude's `PARTS`.
fn parts(url: &Url) -> Vec<String> {
    let origin = quirks::origin(url);
    let parts = [
        quirks::href(url),
        &origin,
        quirks::protocol(url),
        quirks::username(url),
        quirks::password(url),
        quirks::host(url),
        quirks::hostname(url),
        quirks::port(url),
        quirks::pathname(url),
        quirks::search(url),
        quirks::hash(url),
    ];
    parts.map(str::to_owned).to_vec()
}

/// A value that does not fit is ignored, as the standard wants, except for the whole address.
fn change_url(href: String, part: String, value: String) -> Option<Vec<String>> {
    let mut url = Url::parse(&href).ok()?;
    let ignored = match part.as_str() {
        "href" => return Url::parse(&value).ok().map(|url| parts(&url)),
        "protocol" => quirks::set_protocol(&mut url, &value),
        "username" => quirks::set_username(&mut url, &value),
        "password" => quirks::set_password(&mut url, &value),
        "host" => quirks::set_host(&mut url, &value),
        "hostname" => quirks::set_hostname(&mut url, &value),
        "port" => quirks::set_port(&mut url, &value),
        "pathname" => {
            quirks::set_pathname(&mut url, &value);
            Ok(())
        }
        "search" => {
            quirks::set_search(&mut url, &value);
            Ok(())
        }
        "hash" => {
            quirks::set_hash(&mut url, &value);
            Ok(())
        }
        _ => Err(()),
    };
    ignored.ok().map(|()| parts(&url))
}

fn digest<'js>(ctx: Ctx<'js>, hash: String, data: String) -> Result<ArrayBuffer<'js>> {
    let data = bytes(&ctx, &data)?;
    match hash.as_str() {
        "SHA-1" => ArrayBuffer::new_copy(ctx, Sha1::digest(data)),
        "SHA-256" => ArrayBuffer::new_copy(ctx, Sha256::digest(data)),
        "SHA-384" => ArrayBuffer::new_copy(ctx, Sha384::digest(data)),
        "SHA-512" => ArrayBuffer::new_copy(ctx, Sha512::digest(data)),
        _ => Err(Exception::throw_type(&ctx, "no such hash")),
    }
}

fn sign<'js>(ctx: Ctx<'js>, hash: String, key: String, data: String) -> Result<ArrayBuffer<'js>> {
    let key = bytes(&ctx, &key)?;
    let data = bytes(&ctx, &data)?;
    match hmac(&hash, &key, &data) {
        Some(proof) => ArrayBuffer::new_copy(ctx, proof),
        None => Err(Exception::throw_type(&ctx, "no such hash")),
    }
}

fn verify(ctx: Ctx<'_>, hash: String, key: String, proof: String, data: String) -> Result<bool> {
    let key = bytes(&ctx, &key)?;
    let proof = bytes(&ctx, &proof)?;
    let data = bytes(&ctx, &data)?;
    let right = hmac(&hash, &key, &data);
    Ok(right.is_some_and(|right| {
        subtle::ConstantTimeEq::ct_eq(right.as_slice(), proof.as_slice()).into()
    }))
}

fn hmac(hash: &str, key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    macro_rules! with {
        ($hash:ty) => {
            // A key may be of any length.
            Hmac::<$hash>::new_from_slice(key)
                .ok()
                .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec())
        };
    }
    match hash {
        "SHA-1" => with!(Sha1),
        "SHA-256" => with!(Sha256),
        "SHA-384" => with!(Sha384),
        "SHA-512" => with!(Sha512),
        _ => None,
    }
}

fn random<'js>(ctx: Ctx<'js>, length: u32) -> Result<ArrayBuffer<'js>> {
    if length > MAX_RANDOM_BYTES {
        return Err(Exception::throw_range(&ctx, "too many random bytes"));
    }
    let mut bytes = vec![0_u8; length as usize];
    rand::rng().fill_bytes(&mut bytes);
    ArrayBuffer::new_copy(ctx, bytes)
}

/// Adds a function to an object.
pub(super) fn add<'js, P, F>(object: &Object<'js>, name: &str, function: F) -> Result<()>
where
    F: IntoJsFunc<'js, P> + 'js,
{
    object.set(name, Function::new(object.ctx().clone(), function)?)
}
