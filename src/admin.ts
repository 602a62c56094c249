/** The admin socket: what `pipegate status` and Prometheus read from a running gateway. Answers only; it changes nothing. */
import { PipegateError } from "./base/error.ts";
import type { Gateway } from "./gateway.ts";
import { serveHttp, type Answer } from "./runtime/http.ts";

/** Serves `GET /status` (JSON) and `GET /metrics` (Prometheus text) on `unix:PATH`, for the owner of the socket only. */
export async function serveAdmin(gateway: Gateway, listen: string): Promise<{ close(): void }> {
  if (!listen.startsWith("unix:")) {
    throw new PipegateError("config", `admin.listen: expected unix:PATH, got ${listen}`, {
      next: "the admin socket asks for no certificate, so it is a unix socket",
    });
  }
  return serveHttp({ kind: "unix", path: listen.slice("unix:".length) }, (path) => answer(gateway, path));
}

async function answer(gateway: Gateway, path: string): Promise<Answer> {
  switch (path) {
    case "/status":
      return { status: 200, type: "application/json", body: `${JSON.stringify(gateway.status())}\n` };
    case "/metrics":
      return { status: 200, type: "text/plain; version=0.0.4", body: await gateway.metrics() };
    default:
      return { status: 404, type: "application/json", body: `{"error":"there are /status and /metrics"}\n` };
  }
}
