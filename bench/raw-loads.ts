/** The loads of raw pipes: what any TLS proxy does, so that the peers stand beside us. */
import { Child } from "./children.ts";
import { costing, type Found, raw, settled, type Using } from "./driving.ts";
import type { Running } from "./subjects.ts";

export async function bulk(on: Running, using: Using, way: "up" | "down"): Promise<Found> {
  const bytes = 1e9 / using.divide;
  await raw(using, way, on.bulk, 3e8 / Math.min(4, using.divide)); // warm: compilers and windows settle in a gateway that runs for a while
  const { cpu, seconds } = await costing(() => raw(using, way, on.bulk, bytes), { on, using });
  return { [`${way}Cpu`]: (cpu / bytes) * 1e9, [`${way}Rate`]: bytes / seconds / 1e9 };
}

export async function connections(on: Running, using: Using): Promise<Found> {
  await raw(using, "connections", on.echo, 1200 / Math.min(4, using.divide), 1); // until its compilers have settled
  const count = 1500 / using.divide;
  const { cpu, seconds } = await costing(() => raw(using, "connections", on.echo, count, 1), { on, using });
  return { connectionCpu: (cpu / count) * 1e6, connectionRate: count / seconds };
}

export async function rawEcho(on: Running, using: Using): Promise<Found> {
  const { p50us, p99us } = await raw(using, "echo", on.echo, 64, 1500, 8000 / using.divide);
  return { rawEchoP50: p50us!, rawEchoP99: p99us! };
}

export async function idle(on: Running, using: Using): Promise<Found> {
  await raw(using, "connections", on.echo, 50, 1);
  const count = 2000 / Math.min(4, using.divide);
  const before = await settled(on);
  const child = new Child([using.load, "tls", "hold", String(on.echo), String(count)], { environment: { CERTS: using.folder } });
  try {
    await child.answer();
    return { idleConnection: ((await settled(on)) - before) / count, base: before / 1024 };
  } finally {
    await child.finish();
  }
}
