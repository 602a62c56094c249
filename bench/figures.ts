/** What the loads measure: each figure's load, its title in tables, its unit. Promises: the order here is the order of the tables. */

export interface Figure {
  readonly load: string;
  readonly title: string;
  readonly unit: string;
}

export const figures: Readonly<Record<string, Figure>> = {
  upCpu: { load: "up", title: "raw up", unit: "CPU s/GB" },
  upRate: { load: "up", title: "raw up", unit: "GB/s" },
  downCpu: { load: "down", title: "raw down", unit: "CPU s/GB" },
  downRate: { load: "down", title: "raw down", unit: "GB/s" },
  connectionCpu: { load: "connections", title: "new connection", unit: "CPU us" },
  connectionRate: { load: "connections", title: "new connections", unit: "1/s" },
  rawEchoP50: { load: "echo", title: "raw echo p50", unit: "us" },
  rawEchoP99: { load: "echo", title: "raw echo p99", unit: "us" },
  idleConnection: { load: "idle", title: "idle raw connection", unit: "KiB" },
  base: { load: "idle", title: "resident before that", unit: "MiB" },
  framedUpCpu: { load: "framed-bulk", title: "framed up, 16 KiB payloads", unit: "CPU s/GB" },
  framedUpRate: { load: "framed-bulk", title: "framed up, 16 KiB payloads", unit: "GB/s" },
  framedDownCpu: { load: "framed-bulk", title: "framed down, 16 KiB payloads", unit: "CPU s/GB" },
  framedDownRate: { load: "framed-bulk", title: "framed down, 16 KiB payloads", unit: "GB/s" },
  in256: { load: "messages", title: "256 B messages in, 1 stream", unit: "1,000 per CPU s" },
  in256Rate: { load: "messages", title: "256 B messages in, 1 stream", unit: "1,000/s" },
  in256x8: { load: "messages", title: "256 B messages in, 8 streams", unit: "1,000 per CPU s" },
  in256x64: { load: "messages", title: "256 B messages in, 64 streams", unit: "1,000 per CPU s" },
  out256: { load: "messages", title: "256 B messages out, 1 stream", unit: "1,000 per CPU s" },
  out256x8: { load: "messages", title: "256 B messages out, 8 streams", unit: "1,000 per CPU s" },
  out256x64: { load: "messages", title: "256 B messages out, 64 streams", unit: "1,000 per CPU s" },
  in16k: { load: "messages", title: "16 KiB messages in", unit: "CPU s/GB" },
  out16k: { load: "messages", title: "16 KiB messages out", unit: "CPU s/GB" },
  openCpu: { load: "opens", title: "pipe opened, 1 byte echoed, closed", unit: "CPU us" },
  openRate: { load: "opens", title: "pipes, 32 at once", unit: "1/s" },
  loopCpu: { load: "opens", title: "pipe to the target echo, the same", unit: "CPU us" },
  loopRate: { load: "opens", title: "pipes to the target echo, 32 at once", unit: "1/s" },
  pipeEchoP50: { load: "pipe-echo", title: "pipe echo alone p50", unit: "us" },
  pipeEchoP99: { load: "pipe-echo", title: "pipe echo alone p99", unit: "us" },
  besideP50: { load: "pipe-echo", title: "pipe echo beside a bulk pipe p50", unit: "us" },
  besideP99: { load: "pipe-echo", title: "pipe echo beside a bulk pipe p99", unit: "us" },
  idleSession: { load: "idle-pipes", title: "idle session", unit: "KiB" },
  idleLoopPipe: { load: "idle-pipes", title: "idle pipe without a back-end socket", unit: "KiB" },
  idlePipe: { load: "idle-pipes", title: "idle pipe", unit: "KiB" },
  busyOf10: { load: "crowd", title: "256 B message beside 10 idle pipes", unit: "CPU ns" },
  busyOf10k: { load: "crowd", title: "256 B message beside 10,000 idle pipes", unit: "CPU ns" },
  manyConnectionCpu: { load: "many", title: "new connection, 16 at once", unit: "CPU us" },
  manyConnectionTop: { load: "many", title: "of which the busiest thread", unit: "CPU us" },
  manyConnectionRate: { load: "many", title: "new connections, 16 at once", unit: "1/s" },
  busyCpu: { load: "many", title: "1 KiB echo, 64 connections at once", unit: "CPU us" },
  busyTop: { load: "many", title: "of which the busiest thread", unit: "CPU us" },
  busyRate: { load: "many", title: "1 KiB echoes, 64 connections at once", unit: "1/s" },
  startMs: { load: "start", title: "start to ready, without the self-test", unit: "ms" },
  startCpu: { load: "start", title: "start to ready, without the self-test", unit: "CPU ms" },
};
