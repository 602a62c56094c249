/** Each fact of facts.ts against this very runtime: one that changed with a new version is noticed here. */
import { spawn } from "node:child_process";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { createServer as createNetServer, type AddressInfo, type Socket } from "node:net";
import { createServer, connect as connectTls, type TLSSocket } from "node:tls";
import { describe, expect, test } from "vitest";
import { facts } from "../../src/runtime/facts.ts";
import { closed, openDoor } from "../support/door.ts";
import { createTestCa } from "../support/mint.ts";

const ca = createTestCa();
const own = ca.gateway();
const alice = ca.client("alice");
const client = { host: "127.0.0.1", ca: ca.certificate, cert: alice.certificate, key: alice.key, servername: "localhost" } as const;
const server = { cert: own.certificate, key: own.key, ca: ca.certificate, requestCert: true, rejectUnauthorized: true } as const;

describe("of this runtime", () => {
  test("name and version are what it says", () => {
    expect(facts.name).toBe("Deno" in globalThis ? "deno" : "node");
    expect(facts.version).toMatch(/^\d+\.\d+\.\d+/);
  });

  test("holdsTlsReads: whether a paused TLS socket leaves the bytes with the sender", async () => {
    const listening = createServer(server).listen(0, "127.0.0.1");
    await once(listening, "listening");
    const socket = connectTls({ ...client, port: (listening.address() as AddressInfo).port });
    const [held] = (await once(listening, "secureConnection")) as [TLSSocket];
    held.on("error", () => {});
    socket.on("error", () => {});
    held.pause();
    const total = 64 << 20;
    socket.write(Buffer.alloc(total));
    let before = -1;
    for (let now = 0; now !== before; before = now, now = held.bytesRead) await new Promise((resolve) => setTimeout(resolve, 300));
    expect(before < total / 2).toBe(facts.holdsTlsReads);
    held.destroy();
    socket.destroy();
    listening.close();
  });

  test("endsTickets: whether sessions that the listener handed out can be resumed", async () => {
    const door = await openDoor({ ca });
    const options = { ...client, port: door.port, ALPNProtocols: ["pipegate/1"] };
    const first = connectTls(options);
    const session = new Promise<Buffer>((resolve) => first.once("session", resolve));
    await once(first, "data");
    const saved = await Promise.race([session, new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 300))]);
    await door.connection();
    const second = connectTls({ ...options, ...(saved === undefined ? {} : { session: saved }) });
    await once(second, "data");
    const { resumed } = await door.connection();
    if (facts.endsTickets) expect(resumed).toBe(false); // Deno is asked by openssl, in test/tls: its own client does not resume
    expect(door.refusals).toEqual([]);
    first.destroy();
    second.destroy();
    await door.close();
  });

  test("tellsCertificateFaults: whether an expired certificate is called that", async () => {
    const expired = ca.issue({ uri: "spiffe://dev/a", notBefore: Date.now() - 7_200_000, notAfter: Date.now() - 3_600_000 });
    const door = await openDoor({ ca });
    await closed(connectTls({ ...client, port: door.port, cert: expired.certificate, key: expired.key, ALPNProtocols: ["pipegate/1"] }));
    expect((await door.refusal()).reason === "cert_expired").toBe(facts.tellsCertificateFaults);
    await door.close();
  });

  test("keepsAccepting: whether a server that ran out of descriptors accepts when there are some again", async () => {
    const program = `
      process.on("SIGTERM", () => process.exit(1));
      const { createServer, connect } = require("node:net");
      let accepted = 0;
      const server = createServer((socket) => { accepted++; socket.on("error", () => {}); }).on("error", () => {});
      server.listen(0, "127.0.0.1", () => {
        const to = { host: "127.0.0.1", port: server.address().port };
        const hogs = Array.from({ length: 200 }, () => connect(to).on("error", () => {}));
        setTimeout(() => hogs.forEach((hog) => hog.destroy()), 500);
        setTimeout(() => { accepted = 0; connect(to).on("error", () => {}); }, 1000);
        setTimeout(() => { process.stdout.write(String(accepted), () => process.exit(0)); }, 1500);
      });`;
    const words = "Deno" in globalThis ? ["run", "-A", "--quiet", "--ext=cjs", "-"] : ["-"];
    const child = spawn("/bin/sh", ["-c", 'ulimit -n 80; exec "$0" "$@"', process.execPath, ...words], {
      timeout: 20_000,
      killSignal: "SIGKILL",
    });
    child.stdin.end(program);
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => void (out += chunk.toString()));
    await once(child, "close");
    expect(out !== "0" && out !== "").toBe(facts.keepsAccepting);
    expect(out).toMatch(/^\d+$/);
  });

  test("a TLS socket knows the socket below it, and may stay half open from its handshake on", async () => {
    const tls = createServer({ ...server, secureContext: undefined } as object);
    const below = createNetServer({ allowHalfOpen: true }, (socket) => {
      socket.allowHalfOpen = false;
      tls.emit("connection", socket);
    }).listen(0, "127.0.0.1");
    await once(below, "listening");
    const accepted = once(below, "connection");
    const socket = connectTls({ ...client, port: (below.address() as AddressInfo).port, allowHalfOpen: true } as object);
    const [top] = (await once(tls, "secureConnection")) as [TLSSocket & { readonly _parent?: Socket }];
    const [under] = (await accepted) as [Socket];
    expect(top._parent).toBe(under);
    top.allowHalfOpen = true;
    top.resume();
    socket.end("question");
    await once(top, "end");
    top.end("answer");
    expect(String((await once(socket, "data"))[0])).toBe("answer");
    await closed(socket);
    below.close();
  });
});
