// console: all methods that Deno and Node have, so that a script that logs never fails for it. What cannot be shown is
// said to be so.

let indent = "";
const counts = new Map();
const clocks = new Map();

/** A value in a line of the console; never throws, whatever the value does. */
function shown(value) {
  try {
    return typeof value === "string" ? value : inspect(value);
  } catch {
    return "[cannot be shown]";
  }
}

/** The values with the directives of the first one filled in: %s %d %i %f %j %o %O %c %%. */
function format(values) {
  if (typeof values[0] !== "string" || values.length < 2) return values.map(shown).join(" ");
  let next = 1;
  const first = values[0].replace(/%[sdifjoOc%]/g, (directive) => {
    if (directive === "%%") return "%";
    if (next >= values.length) return directive;
    const value = values[next++];
    switch (directive) {
      case "%c":
        return "";
      case "%d":
      case "%f":
        return typeof value === "symbol" ? "NaN" : shown(typeof value === "bigint" ? value : Number.parseFloat(shown(value)));
      case "%i":
        return typeof value === "symbol" ? "NaN" : shown(typeof value === "bigint" ? value : Number.parseInt(shown(value), 10));
      default:
        return shown(value);
    }
  });
  return [first, ...values.slice(next).map(shown)].join(" ");
}

function write(line) {
  host.log(text(indent + line));
}

function label(name) {
  return name === undefined ? "default" : shown(name);
}

/** How long a clock has run; undefined where there is none. */
function elapsed(name) {
  const begun = clocks.get(name);
  if (begun === undefined) write(`Timer '${name}' does not exist`);
  return begun === undefined ? undefined : `${name}: ${host.now() - begun}ms`;
}

const log = (...values) => write(format(values));
const group = (...values) => {
  if (values.length > 0) log(...values);
  // So deep and no deeper: the line is what is read.
  if (indent.length < 20) indent += "  ";
};

const console = {
  log,
  info: log,
  warn: log,
  error: log,
  debug: log,
  trace: (...values) => write(`Trace: ${format(values)}`),
  dir: (value) => write(shown(value)),
  dirxml: log,
  table(rows) {
    if (typeof rows !== "object" || rows === null) return log(rows);
    let entries = [];
    try {
      entries = rows instanceof Map ? [...rows] : isArray(rows) ? [...rows.entries()] : Object.entries(rows);
    } catch {
      return write("[cannot be shown]");
    }
    for (const [key, row] of entries.slice(0, MAX_ITEMS)) write(`${shown(key)}: ${shown(row)}`);
    if (entries.length > MAX_ITEMS) write("…");
  },
  group,
  groupCollapsed: group,
  groupEnd() {
    indent = indent.slice(2);
  },
  count(name) {
    const key = label(name);
    const count = (counts.get(key) ?? 0) + 1;
    if (counts.size < MAX_ITEMS || counts.has(key)) counts.set(key, count);
    write(`${key}: ${count}`);
  },
  countReset(name) {
    counts.delete(label(name));
  },
  time(name) {
    if (clocks.size < MAX_ITEMS) clocks.set(label(name), host.now());
  },
  timeLog(name, ...values) {
    const so = elapsed(label(name));
    if (so !== undefined) log(so, ...values);
  },
  timeEnd(name) {
    const so = elapsed(label(name));
    clocks.delete(label(name));
    if (so !== undefined) write(so);
  },
  timeStamp() {},
  assert(condition, ...values) {
    if (!condition) write(values.length === 0 ? "Assertion failed" : `Assertion failed: ${format(values)}`);
  },
  clear() {},
  profile() {},
  profileEnd() {},
};

expose({ console });

// ---- locales

// There is no Intl. The engine would ignore a locale and options in silence, and a text would have a wrong time of day.

function refuseLocales(prototype, name, first = 0, allows = () => false) {
  const own = prototype[name];
  if (typeof own !== "function") return;
  const method = {
    [name](...values) {
      const given = values.slice(first).filter((value) => value !== undefined);
      if (given.some((value) => !allows(value))) {
        throw new TypeError(
          `${name}: scripts have no Intl, so a locale, a time zone and a format cannot be chosen; format by hand ` +
            "(getUTCHours, padStart, toFixed …)",
        );
      }
      return Reflect.apply(own, this, values.slice(0, first));
    },
  }[name];
  Object.defineProperty(prototype, name, { value: method, writable: true, configurable: true, enumerable: false });
}

for (const name of ["toLocaleString", "toLocaleDateString", "toLocaleTimeString"]) refuseLocales(Date.prototype, name);
for (const kind of [Number, BigInt, Array, Object.getPrototypeOf(Uint8Array)]) refuseLocales(kind.prototype, "toLocaleString");
refuseLocales(String.prototype, "localeCompare", 1);
// These differ for three languages only.
const plain = (locale) => typeof locale === "string" && !/^(tr|az|lt)\b/i.test(locale);
refuseLocales(String.prototype, "toLocaleUpperCase", 0, plain);
refuseLocales(String.prototype, "toLocaleLowerCase", 0, plain);
