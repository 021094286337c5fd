// crypto: random values, digests, and HMAC keys. What scripts sign requests with.

const DIGEST_BYTES = { "SHA-1": 20, "SHA-256": 32, "SHA-384": 48, "SHA-512": 64 };
const BLOCK_BYTES = { "SHA-1": 64, "SHA-256": 64, "SHA-384": 128, "SHA-512": 128 };
const MAX_RANDOM_BYTES = 65_536;

function unsupported(words) {
  return new DOMException(words, "NotSupportedError");
}

function nameOf(algorithm) {
  return text(typeof algorithm === "object" && algorithm !== null ? algorithm.name : algorithm).toUpperCase();
}

function hashOf(algorithm) {
  const name = nameOf(algorithm);
  if (!(name in DIGEST_BYTES)) throw unsupported(`hash ${inspect(name)}: there are ${Object.keys(DIGEST_BYTES).join(", ")}`);
  return name;
}

function wantHmac(algorithm) {
  const name = nameOf(algorithm);
  if (name !== "HMAC") throw unsupported(`algorithm ${inspect(name)}: scripts have HMAC only`);
}

const secrets = new WeakMap();

class CryptoKey {
  constructor(mark, secret, hash, extractable, usages) {
    if (mark !== host) throw new TypeError("CryptoKey cannot be made by itself: use crypto.subtle.importKey");
    secrets.set(this, secret);
    this.type = "secret";
    this.extractable = extractable;
    this.algorithm = { name: "HMAC", hash: { name: hash }, length: secret.length * 8 };
    this.usages = usages;
    Object.freeze(this.algorithm);
    Object.freeze(this);
  }
}

function secretOf(key, usage) {
  if (!secrets.has(key)) throw new TypeError("expected a CryptoKey");
  if (!key.usages.includes(usage)) throw new DOMException(`the key is not for ${inspect(usage)}`, "InvalidAccessError");
  return toBase64(secrets.get(key));
}

function keyBytes(format, data) {
  if (format === "raw") return bytesOf(data).slice();
  if (format !== "jwk") throw unsupported(`key format ${inspect(format)}: there are "raw" and "jwk"`);
  if (data?.kty !== "oct" || typeof data.k !== "string") {
    throw new DOMException('a JWK must have kty "oct", and k as base64url', "DataError");
  }
  return fromBase64.call(Uint8Array, data.k, { alphabet: "base64url" });
}

const subtle = {
  async digest(algorithm, data) {
    return host.digest(hashOf(algorithm), toBase64(bytesOf(data)));
  },

  async importKey(format, data, algorithm, extractable, usages) {
    wantHmac(algorithm);
    const hash = hashOf(algorithm.hash);
    const secret = keyBytes(format, data);
    if (secret.length === 0) throw new DOMException("an HMAC key must not be empty", "DataError");
    return hmacKey(secret, hash, extractable, usages);
  },

  async generateKey(algorithm, extractable, usages) {
    wantHmac(algorithm);
    const hash = hashOf(algorithm.hash);
    const length = algorithm.length === undefined ? BLOCK_BYTES[hash] : Math.ceil(Number(algorithm.length) / 8);
    return hmacKey(new Uint8Array(host.random(length)), hash, extractable, usages);
  },

  async exportKey(format, key) {
    if (format !== "raw") throw unsupported(`key format ${inspect(format)}: keys are exported as "raw"`);
    if (!secrets.has(key)) throw new TypeError("expected a CryptoKey");
    if (!key.extractable) throw new DOMException("the key is not extractable", "InvalidAccessError");
    return secrets.get(key).slice().buffer;
  },

  async sign(algorithm, key, data) {
    wantHmac(algorithm);
    const bytes = bytesOf(data);
    return host.sign(key.algorithm.hash.name, secretOf(key, "sign"), toBase64(bytes));
  },

  async verify(algorithm, key, signature, data) {
    wantHmac(algorithm);
    const [proof, bytes] = [bytesOf(signature), bytesOf(data)];
    return host.verify(key.algorithm.hash.name, secretOf(key, "verify"), toBase64(proof), toBase64(bytes));
  },
};

for (const name of ["encrypt", "decrypt", "deriveBits", "deriveKey", "wrapKey", "unwrapKey"]) {
  subtle[name] = async () => {
    throw unsupported(`crypto.subtle.${name}: scripts have digest, and HMAC with importKey, sign and verify`);
  };
}

function hmacKey(secret, hash, extractable, usages) {
  const list = [...usages];
  if (list.length === 0 || list.some((usage) => usage !== "sign" && usage !== "verify")) {
    throw new SyntaxError('an HMAC key is for "sign", "verify" or both');
  }
  return new CryptoKey(host, secret, hash, Boolean(extractable), Object.freeze(list));
}

const INTEGER_ARRAYS = [
  Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array,
  BigUint64Array,
];

function getRandomValues(array) {
  if (!INTEGER_ARRAYS.some((kind) => array instanceof kind)) {
    throw new DOMException("getRandomValues wants a typed array of integers", "TypeMismatchError");
  }
  if (array.byteLength > MAX_RANDOM_BYTES) {
    throw new DOMException(`getRandomValues gives at most ${MAX_RANDOM_BYTES} bytes`, "QuotaExceededError");
  }
  bytesOf(array).set(new Uint8Array(host.random(array.byteLength)));
  return array;
}

expose({ CryptoKey, crypto: { subtle, getRandomValues, randomUUID: () => host.uuid() } });
