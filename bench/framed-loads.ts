/** The loads of framed pipes, and of sshd's channels where they are the yardstick; and how long a start takes. */
import { Child } from "./children.ts";
import { costing, type Found, framed, framedWords, raw, settled, type Using } from "./driving.ts";
import { median } from "./median.ts";
import type { Running } from "./subjects.ts";

const payload = 16_384;

export async function framedBulk(on: Running, using: Using): Promise<Found> {
  const found: Found = {};
  const count = Math.round(1e9 / payload / using.divide);
  const bytes = count * payload;
  for (const [way, name] of [
    ["bulk-up", "framedUp"],
    ["bulk-down", "framedDown"],
  ] as const) {
    await framed(on, using, way, payload, Math.round(count / 5));
    const { cpu, seconds } = await costing(() => framed(on, using, way, payload, count), { on, using });
    found[`${name}Cpu`] = (cpu / bytes) * 1e9;
    found[`${name}Rate`] = bytes / seconds / 1e9;
  }
  return found;
}

interface Way {
  readonly on: Running;
  readonly using: Using;
  readonly way: "in" | "out";
}

async function smallMessages(streams: number, { on, using, way }: Way): Promise<Found> {
  const count = 1_536_000 / using.divide; // the same share for each stream
  await framed(on, using, `messages-${way}`, 256, count / 4, streams);
  const { cpu, seconds } = await costing(() => framed(on, using, `messages-${way}`, 256, count, streams), { on, using });
  const rate: Found = way === "in" && streams === 1 ? { in256Rate: count / seconds / 1000 } : {};
  return { [`${way}256${streams === 1 ? "" : `x${streams}`}`]: count / cpu / 1000, ...rate };
}

async function largeMessages({ on, using, way }: Way): Promise<Found> {
  const large = 60_000 / using.divide;
  await framed(on, using, `messages-${way}`, payload, large / 5, 1);
  const { cpu } = await costing(() => framed(on, using, `messages-${way}`, payload, large, 1), { on, using });
  return { [`${way}16k`]: cpu / ((large * payload) / 1e9) };
}

export async function messages(on: Running, using: Using): Promise<Found> {
  let found: Found = {};
  for (const way of ["in", "out"] as const) {
    for (const streams of [1, 8, 64]) found = { ...found, ...(await smallMessages(streams, { on, using, way })) };
    found = { ...found, ...(await largeMessages({ on, using, way })) };
  }
  return found;
}

/** What of `messages` the smoke run looks at. */
export async function fewMessages(on: Running, using: Using): Promise<Found> {
  const [inwards, outwards] = [await smallMessages(1, { on, using, way: "in" }), await smallMessages(1, { on, using, way: "out" })];
  return { ...inwards, ...outwards };
}

const atOnce = 32;

async function opensOf(count: number, how: { readonly on: Running; readonly using: Using; readonly target: string }): Promise<Found> {
  const { on, using, target } = how;
  const act = (some: number): Promise<Found> =>
    using.kind === "ssh" ? raw(using, "connections", on.echo, some, atOnce) : framed(on, using, "opens", some, atOnce, target);
  await act(count / 2); // until its compilers have settled
  const { cpu, seconds } = await costing(() => act(count), { on, using });
  return { cpu: (cpu / count) * 1e6, rate: count / seconds };
}

export async function opens(on: Running, using: Using): Promise<Found> {
  const tcp = await opensOf(12_800 / Math.min(5, using.divide), { on, using, target: "echo" });
  const found: Found = { openCpu: tcp["cpu"]!, openRate: tcp["rate"]! };
  if (using.kind === "ssh") return found;
  const loop = await opensOf(25_600 / Math.min(5, using.divide), { on, using, target: "loop" });
  return { ...found, loopCpu: loop["cpu"]!, loopRate: loop["rate"]! };
}

export async function pipeEcho(on: Running, using: Using): Promise<Found> {
  const [warm, count] = [1000, 8000 / using.divide];
  const beside = [200, 2000 / Math.min(4, using.divide)] as const;
  const found: Found = {};
  const note = (name: string, { p50us, p99us }: Found): void => {
    found[`${name}P50`] = p50us!;
    found[`${name}P99`] = p99us!;
  };
  if (using.kind !== "ssh") {
    note("pipeEcho", await framed(on, using, "echo", 64, warm, count));
    const both = await framed(on, using, "echo-beside", 64, ...beside);
    note("beside", both);
    return { ...found, besideRate: both["bulkRate"]! };
  }
  note("pipeEcho", await raw(using, "echo", on.echo, 64, warm, count));
  const flood = new Child([using.load, "tcp", "up", String(on.bulk), String(Number.MAX_SAFE_INTEGER)]);
  try {
    await raw(using, "echo", on.echo, 64, 0, 20); // the flood has begun
    note("beside", await raw(using, "echo", on.echo, 64, ...beside));
  } finally {
    await flood.stop();
  }
  return found;
}

/** A client that holds sessions and does what its lines say, until `act` is done. */
async function holding<T>(
  act: (line: (words: string) => Promise<Found>) => Promise<T>,
  how: { readonly on: Running; readonly using: Using; readonly sessions: number },
): Promise<T> {
  const child = new Child(framedWords(how.on, ["hold", how.sessions]), { environment: { CERTS: how.using.folder } });
  try {
    await child.answer();
    return await act((words) => {
      child.say(words);
      return child.answer();
    });
  } finally {
    await child.finish();
  }
}

export async function idlePipes(on: Running, using: Using): Promise<Found> {
  await framed(on, using, "opens", 100, 4, "echo");
  const less = Math.min(4, using.divide);
  const [sessions, loops, pipes] = [2000, 10_000 / less, 4000 / less]; // few would show the heap's steps, not their size
  const before = await settled(on);
  const hold = async (line: (words: string) => Promise<Found>): Promise<Found> => {
    const held = await settled(on);
    await line(`pipes loop ${loops}`);
    const looped = await settled(on);
    await line(`pipes echo ${pipes}`);
    const whole = await settled(on);
    return { idleSession: (held - before) / sessions, idleLoopPipe: (looped - held) / loops, idlePipe: (whole - looped) / pipes };
  };
  return holding(hold, { on, using, sessions });
}

export async function crowd(on: Running, using: Using): Promise<Found> {
  const count = 1_500_000 / using.divide;
  const busy = (others: number): Promise<number> =>
    holding(
      async (line) => {
        await line(`pipes loop ${others}`);
        await line(`messages 256 ${count / 4}`);
        const { cpu } = await costing(() => line(`messages 256 ${count}`), { on, using });
        return (cpu / count) * 1e9;
      },
      { on, using, sessions: Math.ceil(others / 200) }, // a session takes 256
    );
  return { busyOf10: await busy(10), busyOf10k: await busy(10_000) };
}

const starts = 3;

export async function start(on: Running, using: Using): Promise<Found> {
  const all: { readonly ms: number; readonly cpuMs: number }[] = [];
  for (let index = 0; index < starts; index++) all.push(await on.boot!(using.load));
  return { startMs: median(all.map(({ ms }) => ms)), startCpu: median(all.map(({ cpuMs }) => cpuMs)) };
}
