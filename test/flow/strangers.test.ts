import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { echo, startBackEnd, targetOf, type BackEnd } from "../support/back-ends.ts";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { freePort } from "../support/listeners.ts";
import { createTestCa } from "../support/mint.ts";
import { opensslClient } from "../support/openssl-client.ts";
import { createWorkplace, ended, says, tell, type Ended, type Workplace } from "../support/run-command.ts";

/** Programs that users have: what is not installed is not tested here, but .ci/run installs all of them. */
const folders = [
  "/usr/sbin",
  "/usr/bin",
  ...(existsSync("/usr/lib/postgresql") ? readdirSync("/usr/lib/postgresql").map((version) => `/usr/lib/postgresql/${version}/bin`) : []),
];
const program = (name: string): string | undefined => folders.map((folder) => join(folder, name)).find(existsSync);
const whole = process.env["CI"] !== undefined;
const has = (...names: string[]): boolean => whole || names.every((name) => program(name) !== undefined);

const ca = createTestCa();
const alice = ca.client("alice");
const folder = mkdtempSync(join(tmpdir(), "pipegate-strangers-"));
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text, { mode: 0o600 });
  return join(folder, name);
};
const files = { ca: file("ca.pem", ca.certificate), cert: file("alice.pem", alice.certificate), key: file("alice-key.pem", alice.key) };
const children: ReturnType<typeof spawn>[] = [];
let back: BackEnd;
let setup: TestGateway;
let workplace: Workplace;
const ports = { nginx: 0, redis: 0, postgres: 0 };

function run(name: string, words: readonly string[], input: string | Buffer = ""): Promise<Ended> {
  const child = spawn(program(name) ?? name, words, {
    timeout: 30_000,
    killSignal: "SIGKILL",
    env: { ...process.env, PGPASSWORD: "", PGCONNECT_TIMEOUT: "10" },
  });
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  return ended(child);
}

function serve(name: string, words: readonly string[], options: { readonly uid?: number; readonly gid?: number } = {}): void {
  const child = spawn(program(name) ?? name, words, { stdio: "ignore", timeout: 120_000, killSignal: "SIGKILL", ...options });
  child.on("error", () => {});
  children.push(child);
}

async function listening(port: number): Promise<void> {
  await expect
    .poll(
      () =>
        new Promise((resolve) => {
          const socket = createConnection({ host: "127.0.0.1", port });
          socket.on("connect", () => (socket.destroy(), resolve(true)));
          socket.on("error", () => resolve(false));
        }),
      { timeout: 20_000, interval: 100 },
    )
    .toBe(true);
}

const page = randomBytes(3 << 20);

beforeAll(async () => {
  for (const name of ["nginx", "redis", "postgres"] as const) ports[name] = await freePort();
  back = await startBackEnd(echo);
  const tcp = (port: number) => targetOf({ host: "127.0.0.1", port });
  setup = await startGateway({
    ca,
    raw: ["echo", "web"],
    targets: { echo: tcp(back.port), web: tcp(ports.nginx), cache: tcp(ports.redis), db: tcp(ports.postgres) },
  });
  workplace = await createWorkplace(ca.certificate, { client: alice });
}, 60_000);

afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await setup.close();
  await back.close();
  await workplace.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** Starts `pipegate forward` to a target and gives the local port. */
async function forward(target: string): Promise<{ port: number; stop(): Promise<Ended> }> {
  const port = await freePort();
  const child = workplace.start(["forward", `127.0.0.1:${port}`, target], {
    PIPEGATE_GATEWAY: `127.0.0.1:${setup.port}`,
    PIPEGATE_CERT: "client.pem",
    PIPEGATE_KEY: "client-key.pem",
    PIPEGATE_CA: "ca.pem",
  });
  const end = ended(child);
  await says(child, /127\.0\.0\.1/);
  await listening(port);
  return { port, stop: () => (tell(child, "SIGTERM"), end) };
}

describe("a stranger's client", () => {
  test("openssl s_client pipes through a raw listener", async () => {
    const client = opensslClient(ca.certificate, alice);
    const child = client.start(setup.rawPorts[0] as number);
    child.stdin.write("hello from openssl\n");
    const [said] = (await once(child.stdout, "data")) as [Buffer];
    expect(said.toString()).toBe("hello from openssl\n");
    child.stdin.end();
    await ended(child);
    client.remove();
  });

  test.runIf(has("socat"))("socat pipes through a raw listener", async () => {
    const address = `OPENSSL:127.0.0.1:${setup.rawPorts[0]},cert=${files.cert},key=${files.key},cafile=${files.ca},commonname=localhost`;
    const result = await run("socat", ["-t5", "-", address], "hello from socat\n");
    expect([result.out.toString(), result.err, result.status]).toEqual(["hello from socat\n", "", 0]);
  });

  test.runIf(has("curl", "nginx"))("curl with a client certificate fetches from nginx behind a raw listener, with keep-alive", async () => {
    mkdirSync(join(folder, "www"));
    writeFileSync(join(folder, "www/page"), page);
    chmodSync(folder, 0o755);
    const config = `daemon off; master_process off; pid ${folder}/nginx.pid; error_log ${folder}/error.log; events {}
      http { access_log off; client_body_temp_path ${folder}/b; proxy_temp_path ${folder}/p; fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
      server { listen 127.0.0.1:${ports.nginx}; root ${folder}/www; } }`;
    serve("nginx", ["-c", file("nginx.conf", config), "-e", join(folder, "error.log")]);
    await listening(ports.nginx);
    const url = `https://localhost:${setup.rawPorts[1]}/page`;
    const result = await run("curl", [
      "-sS",
      "--http1.1",
      "--no-alpn",
      "--cacert",
      files.ca,
      "--cert",
      files.cert,
      "--key",
      files.key,
      "--resolve",
      `localhost:${setup.rawPorts[1]}:127.0.0.1`,
      url,
      url,
    ]);
    expect(result.err).toBe("");
    const hash = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
    expect(hash(result.out)).toBe(hash(Buffer.concat([page, page])));
    expect(setup.lines("pipe close").filter(({ target }) => target === "web").length).toBeLessThanOrEqual(1);
  });

  test.runIf(has("redis-server", "redis-cli"))("redis-cli works through pipegate forward", async () => {
    serve("redis-server", ["--port", String(ports.redis), "--bind", "127.0.0.1", "--save", "", "--dir", folder]);
    await listening(ports.redis);
    const local = await forward("cache");
    const cli = ["-h", "127.0.0.1", "-p", String(local.port)];
    expect((await run("redis-cli", [...cli, "SET", "greeting", "hi"])).out.toString()).toBe("OK\n");
    const script = Array.from({ length: 2000 }, (_, n) => `SET key${n} ${"v".repeat(n + 1)}`).join("\n");
    expect((await run("redis-cli", [...cli, "--pipe"], `${script}\n`)).out.toString()).toContain("errors: 0, replies: 2000");
    expect((await run("redis-cli", [...cli, "STRLEN", "key1999"])).out.toString()).toBe("2000\n");
    await local.stop();
  });

  test.runIf(has("psql", "initdb", "postgres"))(
    "psql works through pipegate forward",
    async () => {
      const data = mkdtempSync(join(tmpdir(), "pipegate-postgres-"));
      const nobody = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}; // postgres refuses root
      if (nobody.uid !== undefined) chownSync(data, nobody.uid, nobody.gid);
      const init = spawn(program("initdb")!, ["-D", `${data}/db`, "-U", "alice", "--auth=trust", "--no-sync"], {
        stdio: "ignore",
        timeout: 60_000,
        killSignal: "SIGKILL",
        ...nobody,
      });
      await new Promise((resolve) => init.on("close", resolve));
      serve(
        "postgres",
        ["-D", `${data}/db`, "-c", "listen_addresses=127.0.0.1", "-p", String(ports.postgres), "-k", data, "-c", "fsync=off"],
        nobody,
      );
      await listening(ports.postgres);
      const local = await forward("db");
      const psql = (sql: string): Promise<Ended> =>
        run("psql", ["-h", "127.0.0.1", "-p", String(local.port), "-U", "alice", "-d", "postgres", "-Atc", sql]);
      await expect.poll(async () => (await psql("select 6*7")).out.toString(), { timeout: 20_000 }).toBe("42\n");
      const rows = await psql("select n, repeat('x', 100) from generate_series(1, 20000) n");
      expect(rows.out.toString().split("\n").length).toBe(20_001);
      expect((await psql("select 1/0")).err).toContain("division by zero");
      await local.stop();
      rmSync(data, { recursive: true, force: true });
    },
    90_000,
  );
});
