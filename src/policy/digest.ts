/**
 * Names as 128 bits under a secret key: what the table of accounts holds in their place. Chaskey (Mouha et al., 2014), a MAC made for
 * processors of 32 bits, which is how JavaScript computes fast. Each rule has a key of its own, the digest of what it says.
 * Promises: who does not know the key cannot choose names that collide, and two names have one digest with odds of 2^-128.
 * Leaves to others: where the key comes from. A digest never leaves the process: it is no signature.
 */
/** Four words. */
export type Digest = readonly number[];

/** Stands before all texts of one kind: a key of their own, made by `seed`. */
export type Seed = Int32Array;

const BLOCK = 16;
const ROUNDS = 8;

export class Digester {
  readonly #key: Int32Array;
  /** What goes into the last block, which is whole or padded; under each key of a rule the same. */
  readonly #forWhole: Int32Array;
  readonly #forPart: Int32Array;
  readonly #out = new Int32Array(4);
  /** Whether a character of the text did not fit into a byte. */
  #isWide = false;

  /** Four random words. */
  constructor(key: Int32Array) {
    this.#key = key.slice();
    this.#forWhole = doubled(this.#key);
    this.#forPart = doubled(this.#forWhole);
  }

  /** Another one for each text. */
  seed(text: string): Seed {
    return this.of(this.#key, text).slice();
  }

  /** Good until the next call. */
  of(seed: Seed, text: string): Int32Array {
    let a = seed[0]!;
    let b = seed[1]!;
    let c = seed[2]!;
    let d = seed[3]!;
    let last: Int32Array | undefined;
    for (let at = 0; last === undefined; at += BLOCK) {
      a ^= this.#word(text, at);
      b ^= this.#word(text, at + 4);
      c ^= this.#word(text, at + 8);
      d ^= this.#word(text, at + 12);
      if (at + BLOCK >= text.length) {
        last = at + BLOCK === text.length ? this.#forWhole : this.#forPart;
        a ^= last[0]!;
        b ^= last[1]!;
        c ^= last[2]!;
        d ^= last[3]!;
      }
      for (let round = 0; round < ROUNDS; round++) {
        a = (a + b) | 0;
        b = ((b << 5) | (b >>> 27)) ^ a;
        a = (a << 16) | (a >>> 16);
        c = (c + d) | 0;
        d = ((d << 8) | (d >>> 24)) ^ c;
        a = (a + d) | 0;
        d = ((d << 13) | (d >>> 19)) ^ a;
        c = (c + b) | 0;
        b = ((b << 7) | (b >>> 25)) ^ c;
        c = (c << 16) | (c >>> 16);
      }
    }
    if (this.#isWide) return this.#ofWide(seed, text);
    const out = this.#out;
    out[0] = a ^ last[0]!;
    out[1] = b ^ last[1]!;
    out[2] = c ^ last[2]!;
    out[3] = d ^ last[3]!;
    return out;
  }

  /** The four characters at `at`, one a byte; behind the text a 1 and zeros. */
  #word(text: string, at: number): number {
    if (at + 4 > text.length) return this.#lastWord(text, at);
    const e = text.charCodeAt(at);
    const f = text.charCodeAt(at + 1);
    const g = text.charCodeAt(at + 2);
    const h = text.charCodeAt(at + 3);
    if ((e | f | g | h) > 0xff) this.#isWide = true;
    return e | (f << 8) | (g << 16) | (h << 24);
  }

  #lastWord(text: string, at: number): number {
    let word = at <= text.length ? 1 << ((text.length - at) << 3) : 0;
    for (let index = at; index < text.length; index++) {
      const code = text.charCodeAt(index);
      if (code > 0xff) this.#isWide = true;
      word |= code << ((index - at) << 3);
    }
    return word;
  }

  /** Identities have none such; a pattern of a rule may. */
  #ofWide(seed: Seed, text: string): Int32Array {
    this.#isWide = false;
    const apart = seed.map((word) => ~word); // what was escaped is not what looks the same
    return this.of(
      apart,
      JSON.stringify(text).replace(/[^ -~]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`),
    );
  }
}

/** Times x in the field of 2^128 elements. */
function doubled([a, b, c, d]: Int32Array): Int32Array {
  const carry = d! >> 31;
  return Int32Array.of((a! << 1) ^ (carry & 0x87), (b! << 1) | (a! >>> 31), (c! << 1) | (b! >>> 31), (d! << 1) | (c! >>> 31));
}
