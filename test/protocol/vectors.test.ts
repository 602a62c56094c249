import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { reasons } from "../../src/base/reason.ts";
import { codes, toCode, toReason } from "../../src/protocol/code.ts";
import { Decoder } from "../../src/protocol/decoder.ts";
import * as wire from "../../src/protocol/frame.ts";
import { Type } from "../../src/protocol/frame.ts";
import { encodeParameters, parameterDefaults, type Parameters } from "../../src/protocol/parameters.ts";
import { decodeTlvs, encodeTlvs } from "../../src/protocol/tlv.ts";
import { cutFrames, rawFrame, RawPeer, type SeenFrame } from "../support/raw-peer.ts";

const load = (name: string): unknown => JSON.parse(readFileSync(new URL(`../vectors/${name}`, import.meta.url), "utf8"));
const bytesOf = (hex: string): Buffer => Buffer.from(hex.replaceAll(" ", ""), "hex");

// oxlint-disable-next-line no-explicit-any -- fields differ by frame
type Fields = any;
interface Vector {
  readonly name: string;
  readonly hex: string;
  readonly encode?: string;
  readonly fields?: Fields;
  readonly type?: number;
  readonly flags?: number;
  readonly id?: number;
  readonly payload?: string;
}

const parameters = (given: Partial<Parameters>) => encodeParameters({ ...parameterDefaults, ...given });
const encoders: Record<string, (fields: Fields) => Buffer> = {
  open: ({ id, metadata, ...open }) =>
    wire.encodeOpen(id, {
      ...open,
      metadata: Object.entries(metadata ?? {}).map(([key, value]) => ({ key: Number(key), value: Buffer.from(value as string, "hex") })),
    }),
  accept: ({ id, window }) => wire.encodeAccept(id, window),
  reset: ({ id, ...fields }) => wire.encodeReset(id, fields),
  hello: ({ min, max, parameters: given }) => wire.encodeHello({ min, max }, parameters(given)),
  welcome: ({ resumed, refusal, parameters: given }) => wire.encodeWelcome({ resumed, refusal }, parameters(given)),
  streamCredit: ({ id, limit }) => wire.encodeStreamCredit(id, limit),
  sessionCredit: ({ limit, maxStreamId }) => wire.encodeSessionCredit(limit, maxStreamId),
  ping: ({ opaque }) => wire.encodePing(Type.PING, Buffer.from(opaque, "hex")),
  pong: ({ opaque }) => wire.encodePing(Type.PONG, Buffer.from(opaque, "hex")),
  goaway: (fields) => wire.encodeGoaway(fields),
  notice: (fields) => wire.encodeNotice(fields),
};

function decodeAll(chunks: readonly Buffer[]): SeenFrame[] {
  const frames: SeenFrame[] = [];
  const decoder = new Decoder({
    header: () => {},
    frame: (type, flags, id, buffer, start, end) => {
      frames.push({ type, flags, id, payload: Buffer.from(buffer.subarray(start, end)) });
      return true;
    },
  });
  for (const chunk of chunks) decoder.feed(chunk);
  return frames;
}

const frames = load("frames.json") as Vector[];

describe("golden bytes", () => {
  test.each(frames)("of $name are what we write or read", (vector) => {
    const bytes = bytesOf(vector.hex);
    if (vector.encode !== undefined) expect(encoders[vector.encode]!(vector.fields).toString("hex")).toBe(bytes.toString("hex"));
    else
      expect(decodeAll([bytes])).toEqual([
        { type: vector.type, flags: vector.flags, id: vector.id, payload: Buffer.from(vector.payload!) },
      ]);
  });

  test("are there for every type that version 1 uses", () => {
    const seen = new Set(frames.map((vector) => bytesOf(vector.hex)[2]));
    for (const type of [
      Type.DATA,
      Type.OPEN,
      Type.ACCEPT,
      Type.RESET,
      Type.HELLO,
      Type.WELCOME,
      Type.CREDIT,
      Type.PING,
      Type.PONG,
      Type.GOAWAY,
      Type.NOTICE,
    ])
      expect(seen).toContain(type);
  });
});

describe("the violations of the vectors", () => {
  const { hello, cases } = load("violations.json") as { hello: string; cases: { name: string; hex: string; code: number }[] };
  test.each(cases)("$name", ({ hex, code }) => {
    const peer = new RawPeer({ silent: true });
    peer.send(bytesOf(hello));
    peer.send(bytesOf(hex));
    expect(peer.finalCode()).toBe(code);
  });
});

test("the dialogue of the vectors is what an echoing gateway says, byte for byte", () => {
  const { steps } = load("dialogue.json") as { steps: { from: string; hex: string }[] };
  const peer = new RawPeer({
    silent: true,
    open: (stream) => {
      stream.attach({
        data: (chunk, last) => void stream.write(chunk, last),
        end: () => stream.closeWrite(),
        drained: () => {},
        closed: () => {},
      });
      stream.accept();
    },
  });
  const said: string[] = [];
  for (const step of steps) {
    if (step.from === "client") peer.send(bytesOf(step.hex));
    for (const frame of peer.fresh()) said.push(rawFrame(frame.type, frame.flags, frame.id, frame.payload).toString("hex"));
  }
  expect(said).toEqual(steps.filter((step) => step.from === "gateway").map((step) => bytesOf(step.hex).toString("hex")));
  peer.clock.advance(2_000);
  expect(peer.closed).toEqual({ broken: undefined });
});

describe("the decoder", () => {
  const all = Buffer.concat(frames.map((vector) => bytesOf(vector.hex)));
  const whole = decodeAll([all]);

  test("gives the same frames wherever the bytes are split, and byte by byte", () => {
    expect(whole.length).toBe(frames.length);
    for (let at = 0; at <= all.length; at++) expect(decodeAll([all.subarray(0, at), all.subarray(at)])).toEqual(whole);
    expect(decodeAll(Array.from(all, (_, at) => all.subarray(at, at + 1)))).toEqual(whole);
  });

  test("gives the same frames for any frames and any chunks", () => {
    const frame = fc.record({ type: fc.nat(255), flags: fc.nat(255), id: fc.nat(0x7fffffff), payload: fc.uint8Array({ maxLength: 300 }) });
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 20 }), fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }), (list, cuts) => {
        const bytes = Buffer.concat(list.map(({ type, flags, id, payload }) => rawFrame(type, flags, id, Buffer.from(payload))));
        const chunks: Buffer[] = [];
        for (let at = 0, n = 0; at < bytes.length; n++) {
          const size = cuts[n % cuts.length]!;
          chunks.push(bytes.subarray(at, at + size));
          at += size;
        }
        expect(decodeAll(chunks)).toEqual(cutFrames(bytes));
      }),
    );
  });

  test("stops for good when its sink says so", () => {
    let count = 0;
    const decoder = new Decoder({ header: () => {}, frame: () => ++count < 2 });
    decoder.feed(Buffer.concat([rawFrame(0, 0, 1, "a"), rawFrame(0, 0, 1, "b"), rawFrame(0, 0, 1, "c")]));
    expect(count).toBe(2);
  });
});

describe("TLVs", () => {
  test("come back as they were written, in ascending order", () => {
    const entry = fc.record({ key: fc.nat(0xffff), value: fc.uint8Array({ maxLength: 40 }) });
    fc.assert(
      fc.property(fc.uniqueArray(entry, { selector: (one) => one.key, maxLength: 32 }), (list) => {
        const bytes = encodeTlvs(list.map(({ key, value }) => ({ key, value: Buffer.from(value) })));
        const back = decodeTlvs(bytes, 0, bytes.length).map(({ key, value }) => ({ key, value: new Uint8Array(value) }));
        expect(back).toEqual([...list].sort((a, b) => a.key - b.key).map(({ key, value }) => ({ key, value: new Uint8Array(value) })));
      }),
    );
  });

  test("with more than 32 entries are refused", () => {
    const bytes = encodeTlvs(Array.from({ length: 33 }, (_, key) => ({ key, value: Buffer.alloc(0) })));
    expect(() => decodeTlvs(bytes, 0, bytes.length)).toThrow("too many");
  });
});

describe("the codes", () => {
  test("map every reason to one number and back", () => {
    expect(codes.map(([reason]) => reason).sort()).toEqual([...reasons].sort());
    expect(new Set(codes.map(([, code]) => code)).size).toBe(reasons.length);
    for (const reason of reasons) expect(toReason(toCode(reason))).toBe(reason === "unknown_target" ? "forbidden" : reason);
    expect(toReason(0x1234)).toBe("internal");
  });

  test("are the table of the specification", () => {
    const text = readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf8");
    const section = text.slice(text.indexOf("## Codes"));
    const table = [...section.matchAll(/^\| (\d+) \| [A-Z_]+\*? \| ([a-z_]+)\b/gm)].map((row) => [Number(row[1]), row[2]] as const);
    expect(table.length).toBeGreaterThan(reasons.length);
    for (const [code, reason] of table) expect([code, toReason(code)]).toEqual([code, reason]);
    for (const [reason, code] of codes) expect(table).toContainEqual([code, reason]);
  });
});
