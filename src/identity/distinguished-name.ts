/**
 * Names of X.501 (subject and issuer): their common name and their text for people. Names are compared elsewhere, by their bytes.
 * Promises: throws only DerFault; bounded; a text is what its bytes say, or undefined where they do not say it.
 */
import type { Buffer } from "node:buffer";
import { DerFault, DerReader, oidText, Tag, type Element } from "./der.ts";

const MAX_ATTRIBUTES = 100;
const COMMON_NAME = "2.5.4.3";
const short: Readonly<Record<string, string>> = {
  [COMMON_NAME]: "CN",
  "2.5.4.6": "C",
  "2.5.4.7": "L",
  "2.5.4.8": "ST",
  "2.5.4.10": "O",
  "2.5.4.11": "OU",
};

interface Attribute {
  readonly type: string;
  readonly value: Element;
  /** Its RDN has no other. */
  readonly alone: boolean;
}

/** Attributes of a Name, flat. */
function attributes(name: Buffer): Attribute[] {
  const found: Attribute[] = [];
  const rdns = new DerReader(name).into(Tag.SEQUENCE);
  while (!rdns.done) {
    const set = rdns.into(Tag.SET);
    if (set.done) throw new DerFault("an empty part of a distinguished name");
    for (let alone = true; !set.done; alone = false) {
      const pair = set.into(Tag.SEQUENCE);
      const type = oidText(pair.next(Tag.OID).content);
      const value = pair.next();
      pair.end();
      if (found.length === MAX_ATTRIBUTES) throw new DerFault("too many parts of a distinguished name");
      found.push({ type, value, alone: alone && set.done });
    }
  }
  return found;
}

/** The common name's string, when there is exactly one and it stands alone in its RDN: otherwise the name says nothing for sure. */
export function soleCommonName(name: Buffer): Element | undefined {
  const [only, ...more] = attributes(name).filter(({ type }) => type === COMMON_NAME);
  return only?.alone && more.length === 0 ? only.value : undefined;
}

/** A Name for people, not for comparing; not yet printable. */
export function nameText(name: Buffer): string {
  return attributes(name)
    .map(({ type, value }) => `${short[type] ?? type}=${stringText(value) ?? value.content.toString("hex")}`)
    .join(", ");
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const utf16 = new TextDecoder("utf-16be", { fatal: true, ignoreBOM: true });

/** A directory string as text; undefined when its bytes are not what its type says, or could be read in two ways. */
export function stringText({ tag, content }: Element): string | undefined {
  switch (tag) {
    case Tag.UTF8:
      return decoded(utf8, content);
    case Tag.BMP:
      return decoded(utf16, content);
    case Tag.PRINTABLE:
    case Tag.IA5:
    case Tag.T61: // beyond ASCII some read T.61 there and some Latin-1
      return content.every((byte) => byte < 0x80) ? content.toString("latin1") : undefined;
    default:
      return undefined;
  }
}

function decoded(decoder: TextDecoder, content: Buffer): string | undefined {
  try {
    return decoder.decode(content);
  } catch {
    return undefined;
  }
}
