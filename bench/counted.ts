/**
 * The inner loops that bench/counts.ts counts: decoder, writer and limiter, each run in batches with a mark between them. A mark is a
 * call of getpriority(2), which nothing else here calls and where callgrind writes what it has counted so far.
 * Its word is the number of batches that count. On stdout for each loop a line of JSON: its name, the operations of a batch, and the
 * bytes of heap that an operation took; V8 counts what it lends in pieces of up to 256 KiB, so bytes want many batches.
 * Promises: the same work in each batch and each run: no clock, no chance, no file.
 */
import { Buffer } from "node:buffer";
import { getPriority } from "node:os";
import process from "node:process";
import { getHeapStatistics } from "node:v8";
import { type Clock, systemClock } from "../src/base/clock.ts";
import { Decoder, type FrameSink } from "../src/protocol/decoder.ts";
import { encodeStreamCredit, HEADER, putHeader, Type } from "../src/protocol/frame.ts";
import { Writer } from "../src/protocol/writer.ts";
import { Holder } from "../src/policy/holder.ts";
import { Limiter } from "../src/policy/limiter.ts";
import type { Rule } from "../src/policy/rule.ts";
import { tuneMemory } from "../src/runtime/memory.ts";

const counted = Number(process.argv[2]);
/** For the compilers: what is counted is what a gateway runs that has been up for a while. */
const WARM = 26;
const PAYLOAD = 256;
const FRAMES = 64;
const LOOPS = 8_192;

interface Loop {
  readonly operations: number;
  run(): void;
}

function frames(): Buffer {
  const buffer = Buffer.alloc(FRAMES * (HEADER + PAYLOAD));
  for (let index = 0; index < FRAMES; index++) putHeader(buffer, index * (HEADER + PAYLOAD), PAYLOAD, Type.DATA, 0, 1);
  return buffer;
}

/** Frames in chunks: whole ones, or of a size that cuts most of them. */
function decoder(chunkBytes: number): Loop {
  const all = frames();
  const chunks: Buffer[] = [];
  for (let at = 0; at < all.length; at += chunkBytes) chunks.push(all.subarray(at, at + chunkBytes));
  const sink: FrameSink = { header: () => {}, frame: () => true };
  const subject = new Decoder(sink);
  const run = (): void => {
    for (let index = 0; index < LOOPS / FRAMES; index++) for (const chunk of chunks) subject.feed(chunk);
  };
  return { operations: LOOPS, run };
}

/** The transport takes each write at once. */
function writer(put: (subject: Writer) => void): Loop {
  const subject = new Writer({ write: (_, written) => written(), end: () => {}, destroy: () => {} }, () => {});
  const run = (): void => {
    for (let index = 0; index < LOOPS; index++) {
      put(subject);
      if (index % FRAMES === FRAMES - 1) subject.flush();
    }
  };
  return { operations: LOOPS, run };
}

interface Asked {
  readonly holder: Holder;
  readonly rule: Rule;
}

/** Identities in turn, a millisecond apart. A known one has a pipe open; the others are forgotten by the time they come again. */
function limiter(limits: Rule["limits"], how: { readonly known: boolean; readonly decide: (subject: Limiter, by: Asked) => void }): Loop {
  let now = 0;
  const clock: Clock = { ...systemClock, now: () => now };
  const subject = new Limiter({ clock });
  const rule: Rule = { clients: ["*"], targets: ["*"], limits, line: 1 };
  const all = Array.from({ length: 1_024 }, (_, index) => new Holder(`spiffe://dev/agent/${index}`));
  if (how.known) for (const holder of all) subject.openPipe(holder, rule);
  const run = (): void => {
    for (let index = 0; index < LOOPS; index++) {
      now++;
      const holder = all[index % all.length]!;
      how.decide(subject, { holder: how.known ? holder : new Holder(holder.principal), rule });
    }
  };
  return { operations: LOOPS, run };
}

const payload = Buffer.alloc(PAYLOAD);
const credit = encodeStreamCredit(1, 65_536);
const opened = (subject: Limiter, { holder, rule }: Asked): void => {
  const answer = subject.openPipe(holder, rule);
  if (!answer.ok) throw new Error(answer.reason);
  answer.lease.release();
};
const connected = (subject: Limiter, { holder, rule }: Asked): void => {
  const answer = subject.connect(holder, rule);
  if (!answer.ok) throw new Error(answer.reason);
  answer.release();
};
const rate = { perSecond: 1_000, burst: 1_000 };

const loops: Readonly<Record<string, Loop>> = {
  "decoder, whole 256 B frame": decoder(FRAMES * (HEADER + PAYLOAD)),
  "decoder, 256 B frames in chunks of 300 B": decoder(300),
  "writer, DATA of 256 B": writer((subject) => subject.data(1, 0, payload, 0, PAYLOAD)),
  "writer, control frame": writer((subject) => subject.control(credit)),
  "limiter, pipe without limits": limiter({}, { known: true, decide: opened }),
  "limiter, pipe under opens and pipes": limiter({ opens: rate, pipes: 100 }, { known: true, decide: opened }),
  "limiter, pipe under all limits": limiter({ opens: rate, pipes: 100, bytes: rate, messages: rate }, { known: true, decide: opened }),
  "limiter, pipe of a new identity": limiter({ opens: rate, pipes: 100 }, { known: false, decide: opened }),
  "limiter, connection under its limits": limiter({ connects: rate, connections: 8, pipes: 100 }, { known: true, decide: connected }),
};

tuneMemory();
for (const [name, { operations, run }] of Object.entries(loops)) {
  for (let batch = 0; batch < WARM; batch++) run();
  const before = getHeapStatistics().total_allocated_bytes;
  getPriority();
  for (let batch = 0; batch < counted; batch++) {
    run();
    getPriority();
  }
  const bytes = getHeapStatistics().total_allocated_bytes - before;
  process.stdout.write(`${JSON.stringify({ name, operations, bytes: bytes / counted / operations })}\n`);
}
