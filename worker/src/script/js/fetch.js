// Request, Response and fetch. The worker's own client makes the request: by its egress policy, without following
// redirects, within the time that the call has left, and reading so much of the answer and no more.

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const REDIRECTS = ["follow", "manual", "error"];
// What would be asked for in vain. The other options of browsers and Deno are about caches, cookies and pages, which
// are not there: leaving them out changes nothing.
const UNKEPT = {
  client: "requests are made by the worker's own client: certificates, proxies and pools are its settings",
  integrity: "the answer is not compared with a digest: compare it with crypto.subtle.digest",
  duplex: "a body is sent whole before the answer is read: leave out duplex, or set it to \"half\"",
};

class Request extends Body {
  constructor(input, init = {}) {
    super();
    const from = input instanceof Request ? input : null;
    const options = init ?? {};
    this.url = from === null ? requestUrl(input) : from.url;
    this.method = requestMethod(options.method ?? from?.method ?? "GET");
    this.redirect = options.redirect ?? from?.redirect ?? "follow";
    for (const [name, why] of Object.entries(UNKEPT)) {
      const asked = options[name] ?? "";
      if (asked !== "" && !(name === "duplex" && asked === "half")) throw new TypeError(`Request: ${name}: ${why}`);
    }
    if (!REDIRECTS.includes(this.redirect)) throw new TypeError(`Request: redirect is one of ${REDIRECTS.join(", ")}`);
    this.signal = requestSignal(options.signal === undefined ? from?.signal : options.signal);
    this.headers = new Headers(options.headers ?? from?.headers);
    this.#setBody(options, from);
    Object.freeze(this);
  }

  #setBody(options, from) {
    const own = options.body !== undefined && options.body !== null;
    const { bytes, type } = own || from === null ? readBody(options.body) : { bytes: peekBody(from).bytes, type: null };
    if (bytes !== null && (this.method === "GET" || this.method === "HEAD")) {
      throw new TypeError(`Request: ${this.method} has no body`);
    }
    if (type !== null && !this.headers.has("content-type")) this.headers.set("content-type", type);
    fillBody(this, bytes);
  }

  clone() {
    peekBody(this);
    return new Request(this);
  }

  get [Symbol.toStringTag]() {
    return "Request";
  }
}

function requestUrl(input) {
  const url = new URL(input);
  if (url.username !== "" || url.password !== "") {
    throw new TypeError("Request: the URL has a user or password in it; put them into an Authorization header");
  }
  return url.href;
}

function requestMethod(value) {
  const method = text(value);
  const upper = method.toUpperCase();
  if (!METHODS.includes(upper)) throw new TypeError(`Request: method ${shorten(inspect(method))}; there are ${METHODS.join(", ")}`);
  return upper;
}

function requestSignal(signal) {
  if (signal === undefined || signal === null) return new AbortController().signal;
  if (!(signal instanceof AbortSignal)) throw new TypeError("Request: signal must be an AbortSignal");
  return signal;
}

class Response extends Body {
  #status = 200;
  #statusText = "";
  #headers;
  #url = "";
  #type = "default";

  constructor(body = null, init = {}) {
    super();
    const { status = 200, statusText = "", headers } = init ?? {};
    if (!(Number(status) >= 200 && Number(status) <= 599)) throw new RangeError("Response: status must be 200 to 599");
    this.#status = Math.trunc(Number(status));
    this.#statusText = String(statusText);
    this.#headers = new Headers(headers);
    const { bytes, type } = readBody(body);
    if (bytes !== null && [204, 205, 304].includes(this.#status)) {
      throw new TypeError(`Response: status ${this.#status} has no body`);
    }
    if (type !== null && !this.#headers.has("content-type")) this.#headers.set("content-type", type);
    fillBody(this, bytes);
  }

  /** The answer to a request, or one that stands for a failure. */
  static answer(status, statusText, headers, url, type) {
    const response = new Response(null, { headers });
    response.#status = status;
    response.#statusText = statusText;
    response.#url = url;
    response.#type = type;
    return response;
  }

  static error() {
    return answer(0, "", [], "", "error");
  }

  static json(value, init = {}) {
    const json = toJson(value);
    if (json === undefined) throw new TypeError("Response.json: the value is none that JSON has");
    const response = new Response(json, init);
    if (!new Headers(init?.headers).has("content-type")) response.headers.set("content-type", "application/json");
    return response;
  }

  static redirect(url, status = 302) {
    if (![301, 302, 303, 307, 308].includes(status)) throw new RangeError("Response.redirect: no status of a redirect");
    return new Response(null, { status, headers: { location: new URL(url).href } });
  }

  get status() {
    return this.#status;
  }

  get statusText() {
    return this.#statusText;
  }

  get ok() {
    return this.#status >= 200 && this.#status <= 299;
  }

  get headers() {
    return this.#headers;
  }

  get url() {
    return this.#url;
  }

  get type() {
    return this.#type;
  }

  get redirected() {
    return false;
  }

  clone() {
    const { bytes, broken } = peekBody(this);
    const copy = answer(this.#status, this.#statusText, this.#headers, this.#url, this.#type);
    fillBody(copy, bytes?.slice() ?? null, broken);
    return copy;
  }

  get [Symbol.toStringTag]() {
    return "Response";
  }
}

const { answer } = Response;
delete Response.answer;

// ---- fetch

const waiting = new Map();
/** Which request an error came of, so that the worker knows it again. */
const failedFetches = new WeakMap();
let lastFetch = 0;

async function fetch(input, init) {
  // Made here and not when the answer comes, so that it names the place of the call.
  const failure = new TypeError("fetch failed");
  const request = new Request(input, init);
  request.signal.throwIfAborted();
  const body = (await takeBody(request)).slice();
  const headers = [...request.headers].filter(([name]) => !isConnectionHeader(name)).flat();
  const id = ++lastFetch;
  const problem = host.fetch(id, request.method, request.url, headers, toBase64(body));
  if (typeof problem === "string") throw fail(failure, "refused", problem);
  return new Promise((resolve, reject) => {
    const abort = () => {
      waiting.delete(id);
      host.abortFetch(id);
      reject(request.signal.reason);
    };
    waiting.set(id, { request, failure, resolve, reject, abort });
    request.signal.addEventListener("abort", abort, { once: true });
  });
}

function fail(error, code, reason) {
  error.message = `fetch failed: ${reason}`;
  error.cause = { code };
  return error;
}

function takeWaiting(id) {
  const fetched = waiting.get(id);
  waiting.delete(id);
  fetched?.request.signal.removeEventListener("abort", fetched.abort);
  return fetched;
}

/** An answer came. */
export function answered(id, status, statusText, headers, body, broken) {
  const fetched = takeWaiting(id);
  if (fetched === undefined) return;
  const { request, failure, resolve, reject } = fetched;
  if (request.redirect === "error" && status >= 300 && status <= 399 && status !== 304) {
    reject(fail(failure, "redirect", `the answer is a redirect (${status}), and the request's redirect is "error"`));
    return;
  }
  const response = answer(status, statusText, unflatten(headers), request.url.split("#")[0], "basic");
  fillBody(response, new Uint8Array(body), broken ?? null);
  resolve(response);
}

/** No answer came. */
export function unanswered(id, code, reason) {
  const fetched = takeWaiting(id);
  if (fetched === undefined) return;
  failedFetches.set(fetched.failure, id);
  fetched.reject(fail(fetched.failure, code, reason));
}

/** The request that an error came of, or undefined. */
export function fetchOf(thrown) {
  return typeof thrown === "object" && thrown !== null ? failedFetches.get(thrown) : undefined;
}

expose({ fetch, Request, Response });
