/**
 * Proves, on this machine and this runtime, that the gateway's door refuses, before it says that it is ready. First trial doors: listeners
 * as the gateway's own, for a CA in memory, dialled with everything that must be refused and with what must be let in. Then the gateway's
 * own are opened, and dialled without a certificate and with that of a CA that poses as theirs.
 * Promises: whatever passes, cannot be told or takes too long rejects; nothing is left behind; a failed trial opens no listener at all.
 */
import type { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import type { Reason } from "../base/reason.ts";
import { createTrust, type Trust } from "../identity/judge.ts";
import { ALPN } from "../protocol/frame.ts";
import { nearEnd, somePort } from "../runtime/near-end.ts";
import { type Probe, probeTls } from "../runtime/tls-probe.ts";
import type { ProbeRefusal } from "./expected.ts";
import { type Listener, listen } from "./listener.ts";
import type { ListenerEvents } from "./listener-events.ts";
import { type Credentials, listenerDefaults, type ServedOptions } from "./listener-options.ts";
import { createTrialAuthority, type TrialAuthority, trialKey, type Validity } from "./trial-authority.ts";

/** A listener of the gateway, and what it serves. */
export interface TestedListener {
  readonly listener: Listener;
  readonly served: ServedOptions;
}

export interface SelfTestOptions {
  /** What the gateway's listeners will serve. */
  readonly served: readonly ServedOptions[];
  /** Opens them: called when the trial doors have refused what they must. They are the caller's to close, also when the test fails. */
  open(): Promise<readonly TestedListener[]>;
  readonly clock: Clock;
}

export interface SelfTestResult {
  /** Without the time that `open` took. */
  readonly ms: number;
  readonly probes: number;
}

/** For the trial doors, and again for the gateway's own. */
const PATIENCE_MS = 5_000;
const HOUR_MS = 3_600_000;
/** A port to come from may be taken: on a busy machine many are. */
const PORTS_TRIED = 32;

/** What is refused for its certificate. Refused otherwise (no place, too late), it proves nothing. */
const forItsCertificate: ReadonlySet<Reason> = new Set<Reason>([
  "no_certificate",
  "unknown_issuer",
  "cert_expired",
  "not_yet_valid",
  "revoked",
  "wrong_usage",
  "resumed_session",
]);

/** Rejects with a PipegateError (internal) when the door is not proven to refuse, and with whatever `open` rejects with. */
export async function selfTest({ served, open, clock }: SelfTestOptions): Promise<SelfTestResult> {
  const trial = await within(clock, (run) => tryDoors(run, served));
  const listeners = await open();
  const real = await within(clock, (run) => tryListeners(run, listeners));
  return { ms: trial.ms + real.ms, probes: trial.probes + real.probes };
}

/** A part of the test under way. */
interface Run {
  readonly clock: Clock;
  /** Fires when it is over, one way or another. */
  readonly signal: AbortSignal;
  probes: number;
}

async function within(clock: Clock, part: (run: Run) => Promise<void>): Promise<SelfTestResult> {
  const started = clock.now();
  const over = new AbortController();
  const run: Run = { clock, signal: over.signal, probes: 0 };
  let giveUp = (): void => {};
  const late = new Promise<never>((_, reject) => {
    giveUp = () => reject(failed(`it was not done after ${PATIENCE_MS} ms`));
  });
  const timer = clock.after(PATIENCE_MS, () => giveUp());
  try {
    await Promise.race([part(run), late]);
  } finally {
    timer.cancel();
    over.abort();
  }
  return { ms: clock.now() - started, probes: run.probes };
}

function failed(what: string): PipegateError {
  return new PipegateError("internal", `the self-test of the door failed: ${what}`, {
    next: "do not put this gateway into service; report it with the versions of pipegate and of the runtime",
  });
}

// ---- trial doors

/** What a probe shows. */
interface Shown {
  readonly what: string;
  readonly credentials?: Credentials;
  readonly session?: Buffer | undefined;
}

interface Trial {
  readonly good: Credentials;
  readonly refused: readonly Shown[];
  /** Of the CA that issued `good`, and of another one alone. */
  readonly trust: Trust;
  readonly without: Trust;
}

async function tryDoors(run: Run, served: readonly ServedOptions[]): Promise<void> {
  const trial = createTrial(run.clock);
  // Framed and raw listeners may stand on different parts of the runtime.
  for (const withoutAlpn of [false, true]) {
    const one = served.find((each) => each.withoutAlpn === withoutAlpn);
    if (one !== undefined) await tryDoor(run, { trial, served: one });
  }
}

function createTrial(clock: Clock): Trial {
  const now = aroundNow(clock);
  const before = { notBefore: now.notBefore - HOUR_MS, notAfter: now.notBefore };
  const after = { notBefore: now.notAfter, notAfter: now.notAfter + HOUR_MS };
  const leafKey = trialKey();
  const authority = createTrialAuthority({ ...now, leafKey });
  const impostor = createTrialAuthority({ ...now, leafKey });
  const revoked = authority.issue(now);
  const crl = authority.list(revoked.serial, now);
  const trustOf = (ca: TrialAuthority, lists: readonly Buffer[]): Trust =>
    createTrust({ ca: [ca.certificate], crl: lists, now: clock.wall() });
  return {
    good: authority.issue(now),
    refused: [
      { what: "no certificate" },
      { what: "a certificate of a foreign CA of the same name", credentials: impostor.issue(now) },
      { what: "an expired certificate", credentials: authority.issue(before) },
      { what: "a certificate that is not valid yet", credentials: authority.issue(after) },
      { what: "a revoked certificate", credentials: revoked },
      { what: "a server's certificate", credentials: authority.issue({ ...now, role: "gateway" }) },
    ],
    trust: trustOf(authority, [crl]),
    without: trustOf(impostor, []),
  };
}

/** The handshake goes by the system's clock, the judge by ours. */
function aroundNow(clock: Clock): Validity {
  const both = [clock.wall(), Date.now()];
  return { notBefore: Math.min(...both) - HOUR_MS, notAfter: Math.max(...both) + HOUR_MS };
}

async function tryDoor(run: Run, { trial, served }: { readonly trial: Trial; readonly served: ServedOptions }): Promise<void> {
  const { clock, signal } = run;
  const address = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
  const events: ListenerEvents = {
    connection: ({ socket }) => socket.destroy(),
    refused: ({ connection }) => void connection?.socket.destroy(),
    answer: ({ connection }) => connection.socket.destroy(),
  };
  const listener = await listen({ ...listenerDefaults, ...served, trust: trial.trust, address, clock }, events);
  try {
    signal.throwIfAborted(); // too late: it was bound for nothing
    const door: TestedListener = { listener, served };
    const { good } = trial;
    const session = await mustPass(run, { door, shown: { what: "a good certificate", credentials: good } });
    for (const shown of trial.refused) await mustFail(run, { door, shown });
    if (session !== undefined) await mustFail(run, { door, shown: { what: "a resumed session without a certificate", session } });
    listener.prepare({ ...served, trust: trial.without })();
    await mustFail(run, { door, shown: { what: "a certificate of a CA that was removed", credentials: good } });
    if (session !== undefined)
      await mustFail(run, { door, shown: { what: "a resumed session under a CA that was removed", credentials: good, session } });
  } finally {
    await listener.close();
  }
}

// ---- the gateway's own

async function tryListeners(run: Run, listeners: readonly TestedListener[]): Promise<void> {
  const { clock } = run;
  const leafKey = trialKey();
  const now = aroundNow(clock);
  for (const door of listeners) {
    const { anchors } = door.served.trust;
    const posed = (anchors.find(({ root }) => root) ?? anchors[0])?.certificate.subject;
    const impostor = createTrialAuthority({ ...now, leafKey, ...(posed === undefined ? {} : { name: posed }) });
    await mustFail(run, { door, shown: { what: "no certificate" } });
    await mustFail(run, { door, shown: { what: "a certificate of a foreign CA of the same name", credentials: impostor.issue(now) } });
  }
}

// ---- one probe

interface Attempt {
  readonly door: TestedListener;
  readonly shown: Shown;
}

/** How a door answered; `session`: what it handed out for resuming. */
interface Answer {
  /** Undefined: it let in. */
  readonly refusal: ProbeRefusal | undefined;
  readonly session: Buffer | undefined;
}

/** What it hands out for resuming, if anything. */
async function mustPass(run: Run, attempt: Attempt): Promise<Buffer | undefined> {
  const { refusal, session } = await knock(run, attempt);
  if (refusal !== undefined) throw failed(`${attempt.shown.what} was refused (${refusal.reason}: ${refusal.detail})`);
  return session;
}

async function mustFail(run: Run, attempt: Attempt): Promise<void> {
  const { refusal } = await knock(run, attempt);
  const { what } = attempt.shown;
  if (refusal === undefined) throw failed(`${what} was let in`);
  if (!forItsCertificate.has(refusal.reason)) throw failed(`${what} was refused for another reason (${refusal.reason}: ${refusal.detail})`);
}

async function knock(run: Run, attempt: Attempt): Promise<Answer> {
  for (let tries = 1; ; tries++) {
    run.signal.throwIfAborted();
    try {
      const answer = await knockOnce(run, attempt);
      run.probes++;
      return answer;
    } catch (error) {
      if (tries === PORTS_TRIED) throw failed(`the door could not be dialled (${(error as Error).message})`);
    }
  }
}

/** Rejects when the connection does not come about. */
function knockOnce(run: Run, { door: { listener, served }, shown }: Attempt): Promise<Answer> {
  const { address } = listener;
  const over = new AbortController();
  const port = address.kind === "unix" ? undefined : somePort();
  const near = address.kind === "unix" ? undefined : nearEnd(address.host);
  const host = address.kind === "tcp" && near !== address.host ? near : undefined;
  const serverName = `self-test-${randomBytes(16).toString("hex")}`;
  const alpn = served.withoutAlpn ? [] : [ALPN];
  let probe: Probe | undefined;
  let session: Buffer | undefined;
  const answer = new Promise<Answer>((resolve, reject) => {
    const signal = AbortSignal.any([over.signal, run.signal]);
    let [end, isClosed]: [{ readonly refusal: ProbeRefusal | undefined } | undefined, boolean] = [undefined, false];
    // On a unix socket another may have been taken for the probe: that shows at the latest when the probe itself has come and gone.
    const settle = (): void => void (end !== undefined && isClosed && resolve({ ...end, session }));
    const ended = (refusal?: ProbeRefusal): void => {
      end = { refusal };
      settle();
    };
    listener.expect({ port, host, serverName, signal, ended, lost: reject });
    run.signal.addEventListener("abort", () => reject(run.signal.reason as Error), { once: true, signal: over.signal });
    const { credentials, session: resumed } = shown;
    probe = probeTls(
      { address, port, serverName, alpn, credentials, session: resumed },
      { unreachable: reject, session: (ticket) => void (session = ticket), closed: () => ((isClosed = true), settle()) },
    );
  });
  return answer.finally(() => {
    over.abort();
    probe?.close();
  });
}
