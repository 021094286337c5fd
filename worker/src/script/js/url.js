// URL and URLSearchParams. Parsing is the worker's own (the url crate), so that a script and the worker's egress
// policy read an address alike.

const PARTS = [
  "href", "origin", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash",
];

/** A list of names and values, with the methods that URLSearchParams and FormData share. */
class Pairs {
  #list = [];

  /** For the classes built on it: called after each change. */
  static #changed = new WeakMap();

  static onChange(pairs, act) {
    Pairs.#changed.set(pairs, act);
  }

  static replace(pairs, list) {
    pairs.#list = list;
  }

  static list(pairs) {
    return pairs.#list;
  }

  static update(pairs, list) {
    pairs.#list = list;
    Pairs.#changed.get(pairs)?.();
  }

  get(name) {
    const found = this.#list.find(([known]) => known === text(name));
    return found === undefined ? null : found[1];
  }

  getAll(name) {
    return this.#list.filter(([known]) => known === text(name)).map(([, value]) => value);
  }

  forEach(callback, self) {
    for (const [name, value] of this.#list) callback.call(self, value, name, this);
  }

  *entries() {
    for (const [name, value] of this.#list) yield [name, value];
  }

  *keys() {
    for (const [name] of this.#list) yield name;
  }

  *values() {
    for (const [, value] of this.#list) yield value;
  }

  [Symbol.iterator]() {
    return this.entries();
  }
}

const { onChange, replace: replacePairs, list: listPairs, update: updatePairs } = Pairs;
for (const name of ["onChange", "replace", "list", "update"]) delete Pairs[name];

/** Names and values from what a constructor takes: an iterable of pairs, or an object. */
function pairsOf(init, kind) {
  if (typeof init[Symbol.iterator] !== "function") return Object.entries(init);
  return [...init].map((pair) => {
    const items = [...pair];
    if (items.length !== 2) throw new TypeError(`${kind}: each entry must be a name and a value`);
    return items;
  });
}

/** [name, value, name, value, …] as pairs. */
function unflatten(flat) {
  const pairs = [];
  for (let at = 0; at < flat.length; at += 2) pairs.push([flat[at], flat[at + 1]]);
  return pairs;
}

/** The list with the first of a name changed and the others of it gone, or with a new one at the end. */
function withOne(list, name, value) {
  const at = list.findIndex(([known]) => known === name);
  if (at < 0) return [...list, [name, value]];
  return list.filter(([known], index) => index <= at || known !== name).map((pair, index) => (index === at ? [name, value] : pair));
}

class URLSearchParams extends Pairs {
  constructor(init = "") {
    super();
    if (typeof init === "object" && init !== null) {
      replacePairs(this, pairsOf(init, "URLSearchParams").map(([name, value]) => [text(name), text(value)]));
    } else {
      const query = text(init);
      replacePairs(this, unflatten(host.parseForm(query.startsWith("?") ? query.slice(1) : query)));
    }
  }

  get size() {
    return listPairs(this).length;
  }

  append(name, value) {
    updatePairs(this, [...listPairs(this), [text(name), text(value)]]);
  }

  set(name, value) {
    updatePairs(this, withOne(listPairs(this), text(name), text(value)));
  }

  has(name, value) {
    return listPairs(this).some(([known, held]) => known === text(name) && (value === undefined || held === text(value)));
  }

  delete(name, value) {
    const goes = ([known, held]) => known === text(name) && (value === undefined || held === text(value));
    updatePairs(this, listPairs(this).filter((pair) => !goes(pair)));
  }

  sort() {
    // By UTF-16 code units, as the standard wants; the order of equal names stays.
    updatePairs(this, [...listPairs(this)].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
  }

  toString() {
    return host.writeForm(listPairs(this).flat());
  }

  get [Symbol.toStringTag]() {
    return "URLSearchParams";
  }
}

class URL {
  #parts;
  #params = new URLSearchParams();

  constructor(input, base) {
    const parts = URL.#read(input, base);
    if (parts === undefined) throw new TypeError(`Invalid URL: ${shorten(inspect(text(input)))}`);
    this.#parts = parts;
    this.#readParams();
    onChange(this.#params, () => {
      this.#write("search", this.#params.toString());
    });
  }

  static #read(input, base) {
    return host.parseUrl(text(input), base === undefined ? undefined : text(base)) ?? undefined;
  }

  static canParse(input, base) {
    return URL.#read(input, base) !== undefined;
  }

  static parse(input, base) {
    return URL.canParse(input, base) ? new URL(input, base) : null;
  }

  static part(url, name) {
    return url.#parts[PARTS.indexOf(name)];
  }

  static change(url, name, value) {
    const changed = url.#write(name, text(value));
    if (!changed && name === "href") throw new TypeError(`Invalid URL: ${shorten(inspect(text(value)))}`);
    if (name === "href" || name === "search") url.#readParams();
  }

  #write(name, value) {
    const parts = host.changeUrl(this.#parts[0], name, value) ?? undefined;
    if (parts !== undefined) this.#parts = parts;
    return parts !== undefined;
  }

  #readParams() {
    replacePairs(this.#params, unflatten(host.parseForm(this.#parts[PARTS.indexOf("search")].slice(1))));
  }

  get searchParams() {
    return this.#params;
  }

  toString() {
    return this.href;
  }

  toJSON() {
    return this.href;
  }

  get [Symbol.toStringTag]() {
    return "URL";
  }
}

const { part: partOfUrl, change: changeUrl } = URL;
delete URL.part;
delete URL.change;
for (const name of PARTS) {
  Object.defineProperty(URL.prototype, name, {
    get() {
      return partOfUrl(this, name);
    },
    // The origin follows from the rest.
    set: name === "origin" ? undefined : function set(value) {
      changeUrl(this, name, value);
    },
    configurable: true,
    enumerable: true,
  });
}

expose({ URL, URLSearchParams });
