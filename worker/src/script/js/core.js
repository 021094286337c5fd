// The beginning of the prelude: what its other parts use, and what the worker calls.
//
// All files of the prelude are one module, so that they see each other; nothing of it is visible to a script
// but what `expose` puts on globalThis. The worker's own functions come as one object, which is taken away
// before a script runs.

const host = globalThis.__host;
delete globalThis.__host;

// A script may change the built-ins for itself. What the prelude relies on is taken before.
const { parse: parseJson, stringify: toJson } = JSON;
const { isArray } = Array;
const promiseThen = Function.prototype.call.bind(Promise.prototype.then);

/** Puts classes and functions on globalThis as the standards have them: writable, not enumerable. */
function expose(members) {
  for (const [name, value] of Object.entries(members)) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  }
}

/** A string in which every character is whole: what can be written as UTF-8. */
function text(value) {
  return String(value).toWellFormed();
}

/** Calls the default export with the argument; what it returns, as JSON, or undefined. */
export function call(entry, argument) {
  const returned = (async () => toJson(await entry(parseJson(argument))))();
  // Its rejection is the call's result, so it is never an unhandled one.
  promiseThen(returned, undefined, () => {});
  return returned;
}

/** What was thrown, in words, where, and the request that failed if it is that. */
export function explain(thrown) {
  const told = { text: describe(thrown), stack: undefined, fetch: fetchOf(thrown) };
  if (thrown instanceof Error && typeof thrown.stack === "string") {
    told.stack = text(thrown.stack);
  }
  return told;
}

const MAX_DESCRIBED = 1_000;

/** What an author may look for and not find, with what there is in its place. */
const ABSENT = {
  __proto__: null,
  Deno: "write the values of environment variables into the script itself",
  process: "write the values of environment variables into the script itself",
  Buffer: "use Uint8Array, TextEncoder, TextDecoder, atob and btoa",
  require: "what a script needs must be in the script itself",
  Intl: "format by hand: getUTCHours and the like, padStart, toFixed",
  Temporal: "use Date",
  WebSocket: "use fetch",
  EventSource: "use fetch",
  XMLHttpRequest: "use fetch",
  ReadableStream: "read and send bodies whole",
  WritableStream: "read and send bodies whole",
  TransformStream: "read and send bodies whole",
  CompressionStream: "send bodies as they are",
  URLPattern: "use URL and a regular expression",
  setImmediate: "use queueMicrotask or setTimeout",
  localStorage: "nothing is kept from call to call",
  caches: "nothing is kept from call to call",
  Worker: "a script runs in one thread",
  navigator: "there is no browser",
  window: "use globalThis",
  self: "use globalThis",
  global: "use globalThis",
};

/** The name of something absent that the message is about, with what to do. */
function hint(thrown, message) {
  if (!(thrown instanceof ReferenceError)) return "";
  const name = message.replace(/^'?([A-Za-z]+)'? is not defined$/, "$1");
  return name in ABSENT ? `; scripts have no ${name}: ${ABSENT[name]}` : "";
}

function describe(thrown) {
  if (thrown instanceof Error || thrown instanceof DOMException) {
    const name = text(thrown.name);
    const own = text(thrown.message);
    const message = own + hint(thrown, own);
    return shorten(message === "" ? name : `${name}: ${message}`);
  }
  return `${shorten(inspect(thrown))} (not an Error)`;
}

function shorten(words) {
  return words.length > MAX_DESCRIBED ? `${text(words.slice(0, MAX_DESCRIBED))}…` : words;
}

// ---- console

const MAX_DEPTH = 4;
const MAX_ITEMS = 100;

/** A value as it is shown on the console: like JSON, but for what JSON does not have. */
function inspect(value, depth = 0, seen = []) {
  switch (typeof value) {
    case "string":
      return toJson(value);
    case "bigint":
      return `${value}n`;
    case "symbol":
      return String(value);
    case "function":
      return `[function ${value.name || "(anonymous)"}]`;
    case "object":
      return value === null ? "null" : inspectObject(value, depth, seen);
    default:
      return String(value);
  }
}

function inspectObject(value, depth, seen) {
  if (value instanceof Error || value instanceof DOMException) return `[${describe(value)}]`;
  if (value instanceof Date) return toJson(value) ?? "Invalid Date";
  if (value instanceof RegExp) return String(value);
  if (seen.includes(value)) return "[circular]";
  if (depth >= MAX_DEPTH) return isArray(value) ? "[…]" : "{…}";
  const inner = [...seen, value];
  const show = (item) => inspect(item, depth + 1, inner);
  const kind = value.constructor?.name ?? "";
  const prefix = kind === "" || kind === "Object" || kind === "Array" ? "" : `${kind} `;
  if (isArray(value) || ArrayBuffer.isView(value) || value instanceof Set) {
    return `${prefix}[${few(value instanceof DataView ? [] : value, show).join(",")}]`;
  }
  const entries = typeof value.entries === "function" && typeof value[Symbol.iterator] === "function"
    ? value
    : Object.entries(value);
  return `${prefix}{${few(entries, ([key, item]) => `${show(key)}:${show(item)}`).join(",")}}`;
}

function few(items, show) {
  const shown = [];
  for (const item of items) {
    if (shown.length === MAX_ITEMS) {
      shown.push("…");
      break;
    }
    shown.push(show(item));
  }
  return shown;
}

// ---- timers

const timers = new Map();
let lastTimer = 0;

function startTimer(callback, delay, values, repeats) {
  if (typeof callback !== "function") throw new TypeError("a timer's callback must be a function");
  const milliseconds = Math.max(Number(delay) || 0, repeats ? 1 : 0);
  const id = ++lastTimer;
  host.setTimer(id, milliseconds);
  timers.set(id, { callback, values, milliseconds, repeats });
  return id;
}

function stopTimer(id) {
  if (timers.delete(Number(id))) host.clearTimer(Number(id));
}

/** Runs a timer that is due. */
export function fire(id) {
  const timer = timers.get(id);
  if (timer === undefined) return;
  if (timer.repeats) {
    host.setTimer(id, timer.milliseconds);
  } else {
    timers.delete(id);
  }
  timer.callback(...timer.values);
}

expose({
  setTimeout: (callback, delay, ...values) => startTimer(callback, delay, values, false),
  setInterval: (callback, delay, ...values) => startTimer(callback, delay, values, true),
  clearTimeout: stopTimer,
  clearInterval: stopTimer,
  // Whole milliseconds: a finer clock tells a script more of the machine than is its business.
  performance: { now: () => host.now() },
});
