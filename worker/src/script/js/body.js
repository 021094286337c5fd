// Bodies: Blob, File, FormData, and what Request and Response share.

const blobBytes = new WeakMap();

class Blob {
  constructor(parts = [], options = {}) {
    if (typeof parts !== "object" || typeof parts?.[Symbol.iterator] !== "function") {
      throw new TypeError("Blob: expected an array of parts");
    }
    blobBytes.set(this, joinBytes([...parts].map(partBytes)));
    const type = options?.type === undefined ? "" : String(options.type);
    Object.defineProperty(this, "type", { value: /^[\x20-\x7e]*$/.test(type) ? type.toLowerCase() : "", enumerable: true });
  }

  get size() {
    return blobBytes.get(this).length;
  }

  async text() {
    return decodeUtf8(blobBytes.get(this));
  }

  async bytes() {
    return blobBytes.get(this).slice();
  }

  async arrayBuffer() {
    return (await this.bytes()).buffer;
  }

  slice(start, end, type = "") {
    return new Blob([blobBytes.get(this).slice(start, end)], { type });
  }

  get [Symbol.toStringTag]() {
    return "Blob";
  }
}

function partBytes(part) {
  if (part instanceof Blob) return blobBytes.get(part);
  return isBufferSource(part) ? bytesOf(part) : encodeUtf8(part);
}

class File extends Blob {
  constructor(parts, name, options = {}) {
    super(parts, options);
    this.name = text(name);
    this.lastModified = Number(options?.lastModified ?? Date.now());
  }

  get [Symbol.toStringTag]() {
    return "File";
  }
}

class FormData extends Pairs {
  append(name, value, filename) {
    updatePairs(this, [...listPairs(this), [text(name), entryOf(value, filename)]]);
  }

  set(name, value, filename) {
    updatePairs(this, withOne(listPairs(this), text(name), entryOf(value, filename)));
  }

  has(name) {
    return listPairs(this).some(([known]) => known === text(name));
  }

  delete(name) {
    updatePairs(this, listPairs(this).filter(([known]) => known !== text(name)));
  }

  get [Symbol.toStringTag]() {
    return "FormData";
  }
}

function entryOf(value, filename) {
  if (!(value instanceof Blob)) return text(value);
  if (value instanceof File && filename === undefined) return value;
  return new File([value], filename ?? "blob", { type: value.type });
}

/** A form as multipart/form-data: bytes and content type. */
function multipart(form) {
  const boundary = `----posthaste${host.uuid().replaceAll("-", "")}`;
  const escape = (name) => name.replace(/\r?\n|\r/g, "%0D%0A").replaceAll('"', "%22");
  const parts = [];
  for (const [name, value] of form) {
    let head = `--${boundary}\r\nContent-Disposition: form-data; name="${escape(name)}"`;
    if (value instanceof Blob) {
      head += `; filename="${escape(value.name)}"\r\nContent-Type: ${value.type || "application/octet-stream"}`;
      parts.push(encodeUtf8(`${head}\r\n\r\n`), blobBytes.get(value), encodeUtf8("\r\n"));
    } else {
      parts.push(encodeUtf8(`${head}\r\n\r\n${value.replace(/\r?\n|\r/g, "\r\n")}\r\n`));
    }
  }
  parts.push(encodeUtf8(`--${boundary}--\r\n`));
  return { bytes: joinBytes(parts), type: `multipart/form-data; boundary=${boundary}` };
}

/** What may be a body, as bytes and the content type that it has by itself. */
function readBody(body) {
  if (body === undefined || body === null) return { bytes: null, type: null };
  if (body instanceof Blob) return { bytes: blobBytes.get(body), type: body.type || null };
  if (body instanceof FormData) return multipart(body);
  if (body instanceof URLSearchParams) {
    return { bytes: encodeUtf8(body.toString()), type: "application/x-www-form-urlencoded;charset=UTF-8" };
  }
  if (isBufferSource(body)) return { bytes: bytesOf(body).slice(), type: null };
  return { bytes: encodeUtf8(body), type: "text/plain;charset=UTF-8" };
}

/** What Request and Response share: a body that can be read once. */
class Body {
  #bytes = null;
  #used = false;
  #broken = null;

  static fill(body, bytes, broken = null) {
    body.#bytes = bytes;
    body.#broken = broken;
  }

  /** The bytes, without using them up. */
  static peek(body) {
    if (body.#used) throw new TypeError("the body was read before");
    return { bytes: body.#bytes, broken: body.#broken };
  }

  static async take(body) {
    const { bytes, broken } = peekBody(body);
    body.#used = bytes !== null;
    if (broken !== null) throw new TypeError(broken);
    return bytes ?? new Uint8Array(0);
  }

  get body() {
    if (this.#bytes === null) return null;
    throw new TypeError("body: scripts have no streams; read it whole, with text(), json(), bytes() or blob()");
  }

  get bodyUsed() {
    return this.#used;
  }

  async bytes() {
    return takeBody(this);
  }

  async arrayBuffer() {
    const bytes = await takeBody(this);
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  }

  async text() {
    return decodeUtf8(await takeBody(this));
  }

  async json() {
    return parseJson(decodeUtf8(await takeBody(this)));
  }

  async blob() {
    return new Blob([await takeBody(this)], { type: this.headers.get("content-type") ?? "" });
  }

  async formData() {
    const type = this.headers.get("content-type") ?? "";
    if (!type.toLowerCase().startsWith("application/x-www-form-urlencoded")) {
      throw new TypeError(`formData() reads application/x-www-form-urlencoded only, not ${inspect(type)}`);
    }
    const form = new FormData();
    for (const [name, value] of new URLSearchParams(await this.text())) form.append(name, value);
    return form;
  }
}

const { fill: fillBody, peek: peekBody, take: takeBody } = Body;
for (const name of ["fill", "peek", "take"]) delete Body[name];

expose({ Blob, File, FormData });
