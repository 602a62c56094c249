import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { pemBlocks } from "../../src/identity/pem.ts";

const block = (body: string, label = "X509 CRL"): string => `-----BEGIN ${label}-----${body}-----END ${label}-----\n`;
const read = (text: string) => pemBlocks(text, "X509 CRL")?.map((bytes) => bytes.toString("hex"));

describe("PEM", () => {
  test("gives back any bytes, however their lines are broken", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.array(fc.nat(400), { maxLength: 20 }), (bytes, breaks) => {
        let body = Buffer.from(bytes).toString("base64");
        for (const at of breaks) body = `${body.slice(0, at)}${[" ", "\n", "\r\n", "\t"][at % 4]}${body.slice(at)}`;
        expect(read(`text before\n${block(body)}between${block("AAAA", "CERTIFICATE")}${block(body)}`)).toEqual([
          Buffer.from(bytes).toString("hex"),
          Buffer.from(bytes).toString("hex"),
        ]);
      }),
    );
  });

  test("gives back what is larger than a piece of the work", () => {
    const bytes = Buffer.from(Array.from({ length: 200_001 }, (_, at) => (at * 31) % 251));
    expect(pemBlocks(block(`\n${bytes.toString("base64").replace(/.{64}/g, "$&\n")}\n`), "X509 CRL")![0]!.equals(bytes)).toBe(true);
  });

  test("decodes whatever it takes as Buffer does, and refuses any sign that is not base64's", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 40, unit: fc.constantFrom(...Array.from("AZaz09+/= \n-_.\u0141\u00e9")) }), (body) => {
        const found = read(block(body));
        const bare = body.replace(/\s/g, "");
        if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/.test(bare) || bare === "")
          expect(found).toBeUndefined();
        else expect(found).toEqual([Buffer.from(bare, "base64").toString("hex")]);
      }),
      { numRuns: 2_000 },
    );
  });

  test.each([
    ["no end", "-----BEGIN X509 CRL-----\nAAAA\n"],
    ["the end of another label", "-----BEGIN X509 CRL-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ["nothing inside", block("\n")],
    ["headers inside", block("\nProc-Type: 4,ENCRYPTED\n\nAAAA\n")],
    ["a block in a block", block(`AAAA${block("AAAA")}`)],
    ["a good block before a bad one", block("AAAA") + block("A")],
  ])("is malformed with %s", (_name, text) => {
    expect(read(text)).toBeUndefined();
  });
});
