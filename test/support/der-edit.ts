/**
 * Changes one element deep inside of DER and writes the lengths around it anew: odd certificates and lists out of sound ones.
 * Reads DER by itself and uses nothing of src/, so that what is tested is never its own yardstick. Only for DER that is sound.
 */
import type { KeyObject } from "node:crypto";
import { element, type Bytes } from "./der.ts";
import { defaultHash, type Hash, signed } from "./mint-keys.ts";

/** The elements in the content of one. */
export function children(whole: Bytes): Bytes[] {
  const found: Bytes[] = [];
  for (let rest = content(whole); rest.length > 0; rest = rest.subarray(found.at(-1)!.length)) found.push(rest.subarray(0, size(rest)));
  return found;
}

/** What stands at `path`, a list of indexes of children. */
export function at(whole: Bytes, path: readonly number[]): Bytes {
  return path.reduce((element, index) => children(element)[index]!, whole);
}

/** `whole` with the element at `path` replaced by what `change` makes of it: another, several, none. */
export function edit(whole: Bytes, path: readonly number[], change: (element: Bytes) => Bytes | readonly Bytes[]): Bytes {
  const [index, ...deeper] = path;
  if (index === undefined) return Buffer.concat([change(whole)].flat());
  return element(whole[0]!, ...children(whole).map((child, n) => (n === index ? edit(child, deeper, change) : child)));
}

/** A certificate or list with its body edited (`path` begins in the body) and signed again. */
export function resign(whole: Bytes, key: KeyObject, change: (body: Bytes) => Bytes, hash: Hash = defaultHash(key)): Bytes {
  return signed(change(children(whole)[0]!), key, hash);
}

function content(whole: Bytes): Bytes {
  const long = whole[1]! >= 0x80 ? whole[1]! & 0x7f : 0;
  return whole.subarray(2 + long, size(whole));
}

/** The length of the first element, its head included. */
function size(bytes: Bytes): number {
  const long = bytes[1]! >= 0x80 ? bytes[1]! & 0x7f : 0;
  const length = long === 0 ? bytes[1]! : bytes.subarray(2, 2 + long).reduce((sum, byte) => 256 * sum + byte, 0);
  return 2 + long + length;
}
