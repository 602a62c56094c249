/**
 * Which cipher of TLS 1.3 a server prefers. AES is the quickest where the processor has instructions for it; without them ChaCha20 takes a
 * third of its CPU (docs/performance.md), and OpenSSL does not see to that by itself. Leaves to others: Deno, which has an order of its own.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { facts } from "./facts.ts";

const CHACHA_FIRST = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256";
/** The features of the first processor stand within. */
const LOOK_AT_BYTES = 8 << 10;

/** For `ciphers` of a TLS server; undefined: OpenSSL's own order, AES first. `processor`: what Linux says in /proc/cpuinfo. */
export function cipherOrder(processor: string): string | undefined {
  const features = /^(?:flags|Features)\s*:(?<all>.*)$/mu.exec(processor)?.groups?.["all"];
  return features === undefined || /\baes\b/u.test(features) ? undefined : CHACHA_FIRST;
}

/** Of this machine. */
export function ownCipherOrder(): string | undefined {
  return facts.name === "node" ? (own ??= { order: cipherOrder(processor()) }).order : undefined;
}

let own: { readonly order: string | undefined } | undefined;

function processor(): string {
  try {
    const file = openSync("/proc/cpuinfo", "r");
    try {
      const bytes = new Uint8Array(LOOK_AT_BYTES);
      return new TextDecoder().decode(bytes.subarray(0, readSync(file, bytes)));
    } finally {
      closeSync(file);
    }
  } catch {
    return ""; // no Linux, or none that says
  }
}
