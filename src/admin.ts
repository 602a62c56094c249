/**
 * The admin socket: what `pipegate status`, `reload` and `explain`, Prometheus and probes ask of a running gateway. Promises: for the owner
 * of the socket only; bounded questions; a question that is not understood changes nothing. Leaves to others: what a reload is (cli/serve.ts).
 */
import { PipegateError } from "./base/error.ts";
import { readExplainBody, type ExplainAnswer, type ExplainRequest } from "./explain.ts";
import type { Gateway, GatewayStatus } from "./gateway.ts";
import type { Outcome } from "./gateway/reloader.ts";
import { serveHttp, type Answer, type Question } from "./runtime/http.ts";

export interface AdminOptions {
  /** Loads the config anew and puts it in force; absent: this gateway has no config file. */
  readonly reload?: () => Promise<Outcome>;
}

/** The part of a gateway that the socket asks. */
export interface Administered extends Pick<Gateway, "metrics"> {
  status(): Asked<Pick<GatewayStatus, "state">>;
  explain(request: ExplainRequest): Asked<ExplainAnswer>;
}

type Asked<T> = T | Promise<T>;

/**
 * Serves `GET /status` (JSON), `GET /metrics` (Prometheus text), `GET /ready` (200 or 503), `POST /reload` and `POST /explain` (JSON) on
 * `unix:PATH`.
 */
export async function serveAdmin(gateway: Administered, listen: string, options: AdminOptions = {}): Promise<{ close(): void }> {
  if (!listen.startsWith("unix:")) {
    throw new PipegateError("config", `admin.listen: expected unix:PATH, got ${listen}`, {
      next: "the admin socket asks for no certificate, so it is a unix socket",
    });
  }
  const paths = pathsOf(gateway, options);
  return serveHttp({ kind: "unix", path: listen.slice("unix:".length) }, { answer: (question) => answer(question, paths) });
}

interface Served {
  readonly method: Question["method"];
  answer(body: string): Answer | Promise<Answer>;
}

function pathsOf(gateway: Administered, { reload }: AdminOptions): ReadonlyMap<string, Served> {
  return new Map<string, Served>([
    ["/status", { method: "GET", answer: async () => json(200, await gateway.status()) }],
    [
      "/metrics",
      { method: "GET", answer: async () => ({ status: 200, type: "text/plain; version=0.0.4", body: await gateway.metrics() }) },
    ],
    ["/ready", { method: "GET", answer: async () => ready((await gateway.status()).state) }],
    ["/reload", { method: "POST", answer: async () => (reload === undefined ? noReload : outcome(await reload())) }],
    ["/explain", { method: "POST", answer: (body) => explained(gateway, body) }],
  ]);
}

async function answer({ method, path, body }: Question, paths: ReadonlyMap<string, Served>): Promise<Answer> {
  const served = paths.get(path);
  if (served === undefined) return json(404, { error: `there are ${[...paths.keys()].join(", ")}` });
  if (served.method !== method) return { ...json(405, { error: `${path} takes ${served.method}` }), allow: served.method };
  return served.answer(body);
}

function json(status: number, value: unknown): Answer {
  return { status, type: "application/json", body: `${JSON.stringify(value)}\n` };
}

function ready(state: string): Answer {
  return json(state === "ready" ? 200 : 503, { state });
}

const noReload = json(501, { error: "this gateway was not started from a config file, so there is nothing to load anew" });

function outcome(came: Outcome): Answer {
  return json(came.ok ? 200 : 409, came);
}

async function explained(gateway: Administered, body: string): Promise<Answer> {
  try {
    return json(200, await gateway.explain(readExplainBody(body)));
  } catch (error) {
    if (!(error instanceof PipegateError)) throw error;
    return json(400, { error: error.next === undefined ? error.message : `${error.message}; ${error.next}` });
  }
}
