/** One request over a unix socket. Promises: a bounded answer within a bounded time, or a PipegateError that says what is wrong. */
import { PipegateError } from "../base/error.ts";
import { request } from "./node-http.ts";

export interface UnixAskOptions {
  /** The socket's file. */
  readonly socket: string;
  readonly path: string;
  /** JSON, for a POST; without it: GET. */
  readonly post?: string;
  readonly timeoutMs: number;
  /** Largest body of an answer that is taken. */
  readonly maxBytes: number;
}

export interface UnixAnswer {
  readonly status: number;
  readonly body: string;
}

/** The body of a 200 answer. Rejects with `unreachable`, `timed_out` or `protocol_error`. */
export async function getOverUnix(options: Omit<UnixAskOptions, "post">): Promise<string> {
  const { status, body } = await askOverUnix(options);
  if (status === 200) return body;
  throw new PipegateError("protocol_error", `${options.socket} answered ${options.path} with status ${status}`);
}

/** Whatever the answer's status. Rejects with `unreachable`, `timed_out` or `protocol_error`. */
export function askOverUnix({ socket, path, post, timeoutMs, maxBytes }: UnixAskOptions): Promise<UnixAnswer> {
  return new Promise((resolve, reject) => {
    const ofBody = post === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(post) };
    const headers = { host: "localhost", connection: "close", ...ofBody };
    const call = request({ socketPath: socket, path, method: post === undefined ? "GET" : "POST", headers });
    const timer = setTimeout(
      () => fail(new PipegateError("timed_out", `the gateway behind ${socket} did not answer within ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
    const fail = (error: PipegateError): void => {
      clearTimeout(timer);
      call.destroy();
      reject(error);
    };
    call.on("error", (error: NodeJS.ErrnoException) => fail(callError(socket, error)));
    call.on("response", (answer) => {
      const parts: Buffer[] = [];
      let length = 0;
      answer.on("error", (error: NodeJS.ErrnoException) => fail(callError(socket, error)));
      answer.on("data", (part: Buffer) => {
        length += part.length;
        if (length > maxBytes) fail(new PipegateError("protocol_error", `the answer from ${socket} is larger than ${maxBytes} bytes`));
        else parts.push(part);
      });
      answer.on("end", () => {
        if (!answer.complete) return fail(new PipegateError("protocol_error", `the answer from ${socket} was cut off`));
        clearTimeout(timer);
        resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(parts).toString("utf8") });
      });
    });
    call.end(post);
  });
}

function callError(socket: string, error: NodeJS.ErrnoException): PipegateError {
  switch (error.code) {
    case "ENOENT":
    case "ECONNREFUSED":
      return new PipegateError("unreachable", `no gateway listens on ${socket}`, {
        next: "start the gateway, or name its admin.listen with --admin",
        cause: error,
      });
    case "EACCES":
    case "EPERM":
      return new PipegateError("unreachable", `${socket} may not be used by this user`, {
        next: "run it as the gateway's user",
        cause: error,
      });
    default:
      return new PipegateError("unreachable", `${socket} cannot be asked (${error.code ?? error.message})`, {
        next: "check that it is a gateway's admin socket",
        cause: error,
      });
  }
}
