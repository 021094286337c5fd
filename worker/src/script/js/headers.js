// Headers: names without case, values that a header can have.

const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
/** What belongs to the connection, or to the worker's client, is left out of a request, as browsers do. */
const CONNECTION_HEADERS = [
  "accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "te", "trailer",
  "transfer-encoding", "upgrade", "via",
];

function isConnectionHeader(name) {
  return CONNECTION_HEADERS.includes(name) || name.startsWith("proxy-");
}

function headerName(value) {
  const name = text(value);
  if (!HEADER_NAME.test(name)) throw new TypeError(`Headers: ${shorten(inspect(name))} is no header name`);
  return name.toLowerCase();
}

function headerValue(name, value) {
  const trimmed = String(value).replace(/^[\t\r\n ]+|[\t\r\n ]+$/g, "");
  // Values may be secret: not in the message.
  if (!HEADER_VALUE.test(trimmed)) throw new TypeError(`Headers: the value of ${inspect(name)} is none that a header can have`);
  return trimmed;
}

class Headers {
  #list = [];

  constructor(init) {
    if (init === undefined || init === null) return;
    if (typeof init !== "object") throw new TypeError("Headers: expected an object, Headers, or an iterable of pairs");
    for (const [name, value] of pairsOf(init, "Headers")) this.append(name, value);
  }

  append(name, value) {
    const key = headerName(name);
    this.#list.push([key, headerValue(key, value)]);
  }

  set(name, value) {
    const key = headerName(name);
    this.#list = withOne(this.#list, key, headerValue(key, value));
  }

  get(name) {
    const key = headerName(name);
    const values = this.#list.filter(([known]) => known === key).map(([, value]) => value);
    return values.length === 0 ? null : values.join(", ");
  }

  getSetCookie() {
    return this.#list.filter(([name]) => name === "set-cookie").map(([, value]) => value);
  }

  has(name) {
    const key = headerName(name);
    return this.#list.some(([known]) => known === key);
  }

  delete(name) {
    const key = headerName(name);
    this.#list = this.#list.filter(([known]) => known !== key);
  }

  forEach(callback, self) {
    for (const [name, value] of this.entries()) callback.call(self, value, name, this);
  }

  /** Sorted by name, values of one name joined; but each cookie on its own. */
  *entries() {
    const names = [...new Set(this.#list.map(([name]) => name))].sort();
    for (const name of names) {
      if (name === "set-cookie") {
        for (const value of this.getSetCookie()) yield [name, value];
      } else {
        yield [name, this.get(name)];
      }
    }
  }

  *keys() {
    for (const [name] of this.entries()) yield name;
  }

  *values() {
    for (const [, value] of this.entries()) yield value;
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  get [Symbol.toStringTag]() {
    return "Headers";
  }
}

expose({ Headers });
