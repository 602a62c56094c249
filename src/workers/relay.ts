/**
 * Where a worker's log and audit lines go: to the leader, those of a moment together; and what may be said only so often goes by itself, so
 * that the leader can see to it for all. Promises: in order; nothing is kept for longer than BATCH_MS; where the leader does not answer, its
 * audit log counts as one that cannot be written. Leaves to others: caps, files.
 */
import type { Audit } from "../audit/audit.ts";
import { GENESIS } from "../audit/line.ts";
import { systemClock, type Clock } from "../base/clock.ts";
import type { LogFields, Logger, LogLevel } from "../base/log.ts";
import { createLogWriter } from "../base/log-writer.ts";
import type { ToLeader, WorkerData } from "./messages.ts";

type Told = ToLeader & { readonly kind: "told" };

const BATCH_MS = 20;
const BATCH_CHARACTERS = 16 << 10;
/** The leader is heard once a second; one that is silent for longer hangs, as a disk that takes so long does. */
const SILENT_MS = 5_000;

/** The leader says these for all, or not at all. */
const leaders: ReadonlySet<string> = new Set(["config", "config reloaded", "config refused", "self-test skipped", "refused"]);
/** Each worker says these by itself; together they are said as often as one would. */
const repeated: ReadonlySet<string> = new Set(["shadow rule", "revocation list out of date", "CA expired", "accepting failed"]);

export class Relay {
  readonly logger: Logger;
  readonly #post: (message: ToLeader) => void;
  readonly #hasAudit: boolean;
  readonly #clock: Clock;
  #text = "";
  #audited: LogFields[] = [];
  #timer: NodeJS.Timeout | undefined;
  #failing: string | undefined;
  #heardAt: number;

  constructor(
    post: (message: ToLeader) => void,
    { log, config, clock = systemClock }: Pick<WorkerData, "log" | "config"> & { readonly clock?: Clock },
  ) {
    this.#post = post;
    this.#clock = clock;
    this.#heardAt = clock.now();
    this.#hasAudit = config.audit !== undefined;
    const writer = createLogWriter({ ...log, destination: { write: (line) => this.#add(line), flush: () => this.flush() } });
    const at =
      (level: LogLevel): Logger["info"] =>
      (event, fields = {}) => {
        if (repeated.has(event)) this.#tell({ level, event, fields });
        else if (!leaders.has(event)) writer[level](event, fields);
      };
    this.logger = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  }

  /** Takes refusals for the leader to log, also where there is no audit log. */
  readonly audit: Audit = ((relay: Relay): Audit => ({
    record: (fields) => relay.#record(fields),
    get failing() {
      return relay.#failing ?? relay.#silence();
    },
    head: { ...GENESIS, file: "" }, // the leader's to tell
    lost: 0,
    close: () => Promise.resolve(relay.flush()),
  }))(this);

  auditIs(failing: string | undefined): void {
    this.#failing = failing;
  }

  /** The leader goes on. */
  heard(): void {
    this.#heardAt = this.#clock.now();
  }

  #silence(): string | undefined {
    return this.#clock.now() - this.#heardAt > SILENT_MS ? "the thread that writes it does not answer" : undefined;
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#text === "" && this.#audited.length === 0) return;
    this.#post({ kind: "lines", text: this.#text, audited: this.#audited });
    this.#text = "";
    this.#audited = [];
  }

  #record(fields: LogFields): void {
    if (fields["event"] === "refused") return this.#tell({ level: "warn", event: "refused", fields });
    if (!this.#hasAudit) return;
    this.#audited.push({ ...fields });
    this.#soon();
  }

  /** After all that came before it. */
  #tell(told: Omit<Told, "kind">): void {
    this.flush();
    this.#post({ kind: "told", ...told });
  }

  #add(line: string): void {
    this.#text += line;
    this.#soon();
  }

  #soon(): void {
    if (this.#text.length >= BATCH_CHARACTERS) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), BATCH_MS);
  }
}
