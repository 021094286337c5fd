// Bytes and text: TextEncoder, TextDecoder, and what the other parts need of both.

// Bytes go to the worker as base64: the one way that is fast and needs no unsafe code there.
const toBase64 = Function.prototype.call.bind(Uint8Array.prototype.toBase64);
const { fromBase64 } = Uint8Array;

/** The bytes that a BufferSource shows, not copied. */
function bytesOf(source) {
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  throw new TypeError("expected an ArrayBuffer, a typed array or a DataView");
}

function isBufferSource(value) {
  return ArrayBuffer.isView(value) || value instanceof ArrayBuffer;
}

function encodeUtf8(string) {
  return new Uint8Array(host.encode(text(string)));
}

/** Bytes as text; a byte order mark at the beginning is left out. */
function decodeUtf8(bytes) {
  return withoutMark(host.decode(toBase64(bytes), false));
}

function withoutMark(string) {
  return string.startsWith("\ufeff") ? string.slice(1) : string;
}

function joinBytes(parts) {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

class TextEncoder {
  get encoding() {
    return "utf-8";
  }

  encode(string = "") {
    return encodeUtf8(string);
  }

  encodeInto(string, target) {
    let read = 0;
    let written = 0;
    for (const character of text(string)) {
      const bytes = encodeUtf8(character);
      if (written + bytes.length > target.length) break;
      target.set(bytes, written);
      written += bytes.length;
      read += character.length;
    }
    return { read, written };
  }
}

const UTF8_LABELS = ["utf-8", "utf8", "unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "x-unicode20utf8"];

class TextDecoder {
  #fatal;
  #ignoreBOM;
  #tail = new Uint8Array(0);
  #begun = false;

  constructor(label = "utf-8", options = {}) {
    if (!UTF8_LABELS.includes(String(label).trim().toLowerCase())) {
      throw new RangeError(`TextDecoder: only utf-8 is there for scripts, not ${inspect(label)}`);
    }
    this.#fatal = Boolean(options?.fatal);
    this.#ignoreBOM = Boolean(options?.ignoreBOM);
  }

  get encoding() {
    return "utf-8";
  }

  get fatal() {
    return this.#fatal;
  }

  get ignoreBOM() {
    return this.#ignoreBOM;
  }

  decode(input = new Uint8Array(0), options = {}) {
    const stream = Boolean(options?.stream);
    let bytes = joinBytes([this.#tail, bytesOf(input)]);
    const kept = stream ? unfinished(bytes) : 0;
    this.#tail = bytes.slice(bytes.length - kept);
    bytes = bytes.subarray(0, bytes.length - kept);
    const decoded = host.decode(toBase64(bytes), this.#fatal);
    const first = !this.#begun;
    this.#begun = stream && (this.#begun || bytes.length > 0);
    return first && !this.#ignoreBOM ? withoutMark(decoded) : decoded;
  }
}

/** How many bytes at the end begin a character that they do not finish. */
function unfinished(bytes) {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

expose({ TextEncoder, TextDecoder });

// ---- structuredClone

function dataCloneError(value) {
  const words = typeof value === "object" ? `an object of class ${value.constructor?.name}` : inspect(value);
  return new DOMException(`${words} cannot be cloned`, "DataCloneError");
}

/** Clones plain data. Nothing can be transferred. */
function structuredClone(value) {
  return clone(value, new Map());
}

function clone(value, seen) {
  if (typeof value === "function" || typeof value === "symbol") throw dataCloneError(value);
  if (typeof value !== "object" || value === null) return value;
  if (seen.has(value)) return seen.get(value);
  const copy = emptyClone(value);
  seen.set(value, copy);
  if (value instanceof Map) {
    for (const [key, item] of [...value]) copy.set(clone(key, seen), clone(item, seen));
  } else if (value instanceof Set) {
    for (const item of [...value]) copy.add(clone(item, seen));
  } else if (value instanceof Error) {
    copy.stack = value.stack;
    if ("cause" in value) copy.cause = clone(value.cause, seen);
  } else if (isArray(value) || isPlain(value)) {
    for (const key of Object.keys(value)) copy[key] = clone(value[key], seen);
  }
  return copy;
}

function isPlain(value) {
  return Object.prototype.toString.call(value) === "[object Object]" && typeof value.then !== "function";
}

function emptyClone(value) {
  if (isArray(value)) return new Array(value.length);
  if (value instanceof Date) return new Date(value.getTime());
  if (value instanceof RegExp) return new RegExp(value.source, value.flags);
  if (value instanceof Map) return new Map();
  if (value instanceof Set) return new Set();
  if (value instanceof ArrayBuffer) return value.slice(0);
  if (value instanceof DataView) return new DataView(value.buffer.slice(0), value.byteOffset, value.byteLength);
  if (ArrayBuffer.isView(value)) return value.slice();
  if (value instanceof Error) {
    const kinds = { EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };
    return new (kinds[value.name] ?? Error)(value.message);
  }
  if ([Boolean, Number, String].some((kind) => value instanceof kind)) return Object(value.valueOf());
  if (isPlain(value)) return {};
  throw dataCloneError(value);
}

expose({ structuredClone });
