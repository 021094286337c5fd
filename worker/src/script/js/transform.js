
// ---- transforms
//
// What a transform returns takes the place of what would have been sent, so nothing of it may get lost in
// silence, as it does with JSON.stringify: a payload that became `undefined` by mistake must not turn into one
// that is missing, nor a Map into `{}`. Here such values are refused by their place.

const objectKeys = Object.keys;
const hasOwn = Function.prototype.call.bind(Object.prototype.hasOwnProperty);
const tagOf = Function.prototype.call.bind(Object.prototype.toString);

/** Deeper values are refused: those that contain themselves, and those that would use up the stack. */
const MAX_WRITTEN_DEPTH = 200;

/** Why a value cannot be written: not an error of the script's, so it has no place in the source. */
class Unwritable {
  constructor(message) {
    this.message = message;
  }
}

/** Calls a transform with the argument; `{"returned": …}` as JSON, or `{"problem": "why it cannot be used"}`. */
export function callTransform(entry, argument) {
  const returned = (async () => strictly(await entry(parseJson(argument))))();
  promiseThen(returned, undefined, () => {});
  return returned;
}

function strictly(returned) {
  try {
    return `{"returned":${writeReturned(returned)}}`;
  } catch (thrown) {
    if (!(thrown instanceof Unwritable)) throw thrown;
    return `{"problem":${toJson(text(thrown.message))}}`;
  }
}

function writeReturned(value) {
  const returned = jsonForm(value, "");
  if (returned === undefined) throw new Unwritable("it returned nothing");
  if (isArray(returned) || !isObject(returned)) throw new Unwritable(`what it returned is ${describeKind(returned)}`);
  // Nothing else of it has an effect.
  if (returned.skip === true) return '{"skip":true}';
  let out = "";
  for (const name of objectKeys(returned)) {
    const member = returned[name];
    if (member === undefined) throw new Unwritable(`${text(name)} is undefined: give it a value, or leave it out`);
    const written = writeJson(member, name, name === "headers" ? "refused" : "left out", 1);
    out += `${out === "" ? "" : ","}${toJson(name)}:${written}`;
  }
  return `{${out}}`;
}

/** A value as JSON; `at` is its place, and `missing` what becomes of members that are undefined. */
function writeJson(value, at, missing, depth) {
  const form = jsonForm(value, at);
  switch (typeof form) {
    case "string":
      return toJson(form);
    case "boolean":
      return form ? "true" : "false";
    case "number":
      return writeNumber(form, at);
    case "object":
      break;
    default:
      throw new Unwritable(`${text(at)} is ${describeKind(form)}, which JSON does not have`);
  }
  if (form === null) return "null";
  if (depth > MAX_WRITTEN_DEPTH) {
    throw new Unwritable(`${text(at).slice(0, 100)}… contains itself, or is nested more than ${MAX_WRITTEN_DEPTH} deep`);
  }
  if (isArray(form)) return writeArray(form, at, missing, depth);
  if (!isObject(form)) {
    throw new Unwritable(`${text(at)} is ${describeKind(form)}, which JSON does not have: make a plain object or an array of it`);
  }
  return writeObject(form, at, missing, depth);
}

function writeNumber(number, at) {
  // The worker knows whether it was given such a number (`1e400`), which is then sent as it came.
  if (number === Infinity) return "1e999";
  if (number === -Infinity) return "-1e999";
  if (number - number !== 0) throw new Unwritable(`${text(at)} is ${number}, which JSON does not have`);
  return `${number}`;
}

function writeArray(array, at, missing, depth) {
  let out = "";
  const { length } = array;
  for (let index = 0; index < length; index++) {
    const place = `${at}[${index}]`;
    if (!hasOwn(array, index)) throw new Unwritable(`${text(place)} is a hole in the array: give it a value, such as null`);
    out += (index === 0 ? "" : ",") + writeJson(array[index], place, missing, depth + 1);
  }
  return `[${out}]`;
}

function writeObject(object, at, missing, depth) {
  let out = "";
  for (const name of objectKeys(object)) {
    const member = object[name];
    // How JavaScript's authors take a member out: `{ ...payload, secret: undefined }`.
    if (member === undefined && missing === "left out") continue;
    const written = writeJson(member, `${at}.${name}`, missing, depth + 1);
    out += `${out === "" ? "" : ","}${toJson(name)}:${written}`;
  }
  return `{${out}}`;
}

/** What stands for the value in JSON: what its own `toJSON` says, where it has one. */
function jsonForm(value, at) {
  if ((typeof value !== "object" && typeof value !== "bigint") || value === null) return value;
  if (typeof value.toJSON !== "function") return value;
  const form = value.toJSON(at);
  if (form === null && tagOf(value) === "[object Date]") throw new Unwritable(`${text(at)} is an invalid Date`);
  return form;
}

/** Whether it is a plain object, or one of the script's own classes. */
function isObject(value) {
  return typeof value === "object" && value !== null && tagOf(value) === "[object Object]";
}

/** Such as `of type Map`. */
function describeKind(value) {
  if (value === null || value === undefined) return String(value);
  return `of type ${typeof value === "object" ? text(tagOf(value).slice(8, -1)) : typeof value}`;
}
