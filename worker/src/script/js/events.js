// Events as far as aborting needs them: Event, EventTarget, AbortController, AbortSignal.

class Event {
  #type;
  #cancelable;
  #prevented = false;
  #target = null;
  stopped = false;

  constructor(type, options = {}) {
    this.#type = String(type);
    this.#cancelable = Boolean(options?.cancelable);
    this.timeStamp = host.now();
    Object.defineProperty(this, "stopped", { enumerable: false });
  }

  get type() {
    return this.#type;
  }

  get target() {
    return this.#target;
  }

  get currentTarget() {
    return this.#target;
  }

  get bubbles() {
    return false;
  }

  get cancelable() {
    return this.#cancelable;
  }

  get defaultPrevented() {
    return this.#prevented;
  }

  preventDefault() {
    if (this.#cancelable) this.#prevented = true;
  }

  stopPropagation() {}

  stopImmediatePropagation() {
    this.stopped = true;
  }

  static aim(event, target) {
    event.#target = target;
  }
}

const aim = Event.aim;
delete Event.aim;

class EventTarget {
  #listeners = [];

  addEventListener(type, callback, options) {
    if (callback === null || callback === undefined) return;
    const signal = options?.signal;
    if (signal?.aborted) return;
    const name = String(type);
    if (this.#listeners.some((known) => known.name === name && known.callback === callback)) return;
    this.#listeners.push({ name, callback, once: typeof options === "object" && Boolean(options?.once) });
    signal?.addEventListener("abort", () => this.removeEventListener(name, callback), { once: true });
  }

  removeEventListener(type, callback) {
    const name = String(type);
    this.#listeners = this.#listeners.filter((known) => known.name !== name || known.callback !== callback);
  }

  dispatchEvent(event) {
    aim(event, this);
    const handler = this[`on${event.type}`];
    const own = typeof handler === "function" ? [{ callback: handler }] : [];
    for (const listener of [...own, ...this.#listeners.filter((known) => known.name === event.type)]) {
      if (event.stopped) break;
      if (listener.once) this.removeEventListener(event.type, listener.callback);
      try {
        if (typeof listener.callback === "function") {
          listener.callback.call(this, event);
        } else {
          listener.callback.handleEvent(event);
        }
      } catch (error) {
        // One listener's failure is not the next one's.
        host.log(`Uncaught ${describe(error)}`);
      }
    }
    return !event.defaultPrevented;
  }
}

class AbortSignal extends EventTarget {
  #aborted = false;
  #reason;
  onabort = null;

  constructor(key) {
    if (key !== host) throw new TypeError("AbortSignal cannot be made by itself: use AbortController");
    super();
  }

  get aborted() {
    return this.#aborted;
  }

  get reason() {
    return this.#reason;
  }

  throwIfAborted() {
    if (this.#aborted) throw this.#reason;
  }

  static abort(reason) {
    const signal = new AbortSignal(host);
    trip(signal, reason);
    return signal;
  }

  static timeout(milliseconds) {
    const signal = new AbortSignal(host);
    const reason = () => new DOMException(`the signal timed out after ${Number(milliseconds)} ms`, "TimeoutError");
    startTimer(() => trip(signal, reason()), milliseconds, [], false);
    return signal;
  }

  static any(signals) {
    const all = [...signals];
    const signal = new AbortSignal(host);
    const first = all.find((known) => known.aborted);
    if (first !== undefined) {
      trip(signal, first.reason);
      return signal;
    }
    for (const known of all) known.addEventListener("abort", () => trip(signal, known.reason), { once: true });
    return signal;
  }

  static trip(signal, reason) {
    if (signal.#aborted) return;
    signal.#aborted = true;
    signal.#reason = reason === undefined ? new DOMException("the operation was aborted", "AbortError") : reason;
    signal.dispatchEvent(new Event("abort"));
  }
}

const trip = AbortSignal.trip;
delete AbortSignal.trip;

class AbortController {
  #signal = new AbortSignal(host);

  get signal() {
    return this.#signal;
  }

  abort(reason) {
    trip(this.#signal, reason);
  }
}

expose({ Event, EventTarget, AbortController, AbortSignal });
