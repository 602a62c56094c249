import { once } from "node:events";
import { mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestCa } from "../support/mint.ts";
import { createWorkplace, ended, tell, type Workplace } from "../support/run-command.ts";

const ca = createTestCa();
const other = createTestCa({ cn: "other" });
const own = ca.gateway();
let place: Workplace;
beforeAll(async () => void (place = await createWorkplace(ca.certificate, { alice: ca.client("alice") })));
afterAll(() => place.remove());

interface Line {
  readonly event: string;
  readonly detail?: string;
  readonly changes?: readonly string[];
  readonly listen?: readonly string[];
}

interface Running {
  readonly folder: string;
  readonly address: string;
  /** Waits for the next line of this event that nobody has seen yet. */
  next(event: string): Promise<Line>;
  hangUp(): void;
  /** Opens `target` with alice's certificate. */
  reaches(target: string): Promise<boolean>;
  stop(): Promise<void>;
}

const configText = (targets: readonly string[], more = ""): string => `listeners: [{ listen: "127.0.0.1:0" }]
identity: { certificate: gateway.pem, key: gateway-key.pem }
trust: { ca: [ca.pem]${more} }
targets: { ${targets.map((name) => `${name}: { builtin: echo }`).join(", ")} }
rules: [{ clients: ["spiffe://dev/agent/*"], targets: ["*"] }]
selfTest: skip
`;

/** The files of a gateway in a folder of their own. */
async function files(name: string, targets: readonly string[]): Promise<string> {
  const folder = join(place.folder, name);
  await mkdir(folder);
  await writeFile(join(folder, "ca.pem"), ca.certificate);
  await writeFile(join(folder, "gateway.pem"), own.certificate);
  await writeFile(join(folder, "gateway-key.pem"), own.key, { mode: 0o600 });
  await writeFile(join(folder, "pipegate.yaml"), configText(targets));
  return folder;
}

async function start(folder: string, config = "pipegate.yaml"): Promise<Running> {
  const child = place.start(["gateway", "-c", join(folder, config)]);
  const end = ended(child);
  const lines: Line[] = [];
  const waiting: (() => void)[] = [];
  let rest = "";
  child.stderr.on("data", (chunk: Buffer) => {
    const parts = (rest + chunk.toString()).split("\n");
    rest = parts.pop()!;
    for (const part of parts) if (part.startsWith("{")) lines.push(JSON.parse(part) as Line);
    for (const wake of waiting.splice(0)) wake();
  });
  const next = async (event: string): Promise<Line> => {
    for (;;) {
      const at = lines.findIndex((line) => line.event === event);
      if (at >= 0) return lines.splice(at, 1)[0]!;
      const over = end.then(({ err }) => Promise.reject(new Error(`it ended: ${err}`)));
      over.catch(() => {});
      await Promise.race([new Promise<void>((resolve) => void waiting.push(resolve)), over]);
    }
  };
  const { listen } = await next("gateway ready");
  return {
    folder,
    address: listen![0]!,
    next,
    hangUp: () => tell(child, "SIGHUP"),
    reaches: async (target) => {
      const settings = {
        PIPEGATE_GATEWAY: listen![0]!,
        PIPEGATE_CERT: join(place.folder, "alice.pem"),
        PIPEGATE_CA: join(place.folder, "ca.pem"),
      };
      const { status } = await place.run(["pipe", target], "hi", settings);
      return status === 0;
    },
    stop: async () => {
      tell(child, "SIGTERM");
      expect((await end).status).toBe(0);
    },
  };
}

describe("a gateway that runs", () => {
  test("takes a config that is written in place or renamed over the old one, without being told", async () => {
    const running = await start(await files("watched", ["echo"]));
    const file = join(running.folder, "pipegate.yaml");
    expect(await running.reaches("two")).toBe(false);
    await writeFile(file, configText(["echo", "two"]));
    expect((await running.next("config reloaded")).changes).toEqual(["target two"]);
    expect(await running.reaches("two")).toBe(true);
    await writeFile(`${file}.new`, configText(["echo", "three"]));
    await rename(`${file}.new`, file);
    expect((await running.next("config reloaded")).changes).toEqual(["target two", "target three"]);
    const renewed = ca.gateway();
    await writeFile(join(running.folder, "gateway.pem"), renewed.certificate); // before its key
    await writeFile(join(running.folder, "gateway-key.pem"), renewed.key);
    expect((await running.next("config reloaded")).changes).toEqual(["certificate"]);
    expect(await running.reaches("three")).toBe(true);
    await running.stop();
  });

  test("takes what a swapped symlink leads to, as Kubernetes mounts its volumes", async () => {
    const folder = join(place.folder, "mounted");
    await mkdir(folder);
    await files("mounted/v1", ["echo"]);
    await files("mounted/v2", ["echo", "two"]);
    await symlink("v1", join(folder, "..data"));
    for (const name of ["pipegate.yaml", "ca.pem", "gateway.pem", "gateway-key.pem"]) await symlink(`..data/${name}`, join(folder, name));
    const running = await start(folder);
    await symlink("v2", join(folder, "..next"));
    await rename(join(folder, "..next"), join(folder, "..data"));
    expect((await running.next("config reloaded")).changes).toEqual(["target two"]);
    expect(await running.reaches("two")).toBe(true);
    await running.stop();
  });

  test("goes on with what it had when what it finds cannot be taken, says why, and takes it once it is mended", async () => {
    const running = await start(await files("mended", ["echo"]));
    const at = (name: string): string => join(running.folder, name);
    const list = { stale: ca.crl({ nextUpdate: Date.now() - 60_000, thisUpdate: Date.now() - 120_000 }).pem, foreign: other.crl({}).pem };
    const withList = configText(["echo"], ", crl: [crl.pem]");
    const hundred = Array.from({ length: 100 }, (_, n) => `{ clients: ["${n === 57 ? "spiffe:/dev" : "*"}"], targets: ["*"] }`).join(", ");
    const faults: readonly (readonly [string, () => Promise<void>, RegExp])[] = [
      ["no CA", () => rm(at("ca.pem")), /trust\.ca\[0\]: .*ca\.pem does not exist/u],
      ["junk", () => writeFile(at("ca.pem"), "junk"), /ca\.pem holds no certificate/u],
      ["another key", () => writeFile(at("gateway-key.pem"), ca.gateway().key), /is not the key of the certificate/u],
      ["half a config", () => writeFile(at("pipegate.yaml"), configText(["echo"]).slice(0, 90)), /pipegate\.yaml/u],
      ["an empty config", () => writeFile(at("pipegate.yaml"), ""), /pipegate\.yaml/u],
      ["no CAs", () => writeFile(at("pipegate.yaml"), configText(["echo"]).replace("ca: [ca.pem]", "ca: []")), /trust\.ca/u],
      [
        "a bad rule",
        () => writeFile(at("pipegate.yaml"), configText(["echo"]).replace(/rules: .*/u, `rules: [${hundred}]`)),
        /rules\[57\]/u,
      ],
      [
        "a list out of date",
        async () => {
          await writeFile(at("crl.pem"), list.stale);
          await writeFile(at("pipegate.yaml"), withList);
        },
        /crl\.pem.*out of date/u,
      ],
      ["a foreign list", () => writeFile(at("crl.pem"), list.foreign), /crl\.pem.*a CA that trust\.ca does not name/u],
      [
        "half a list",
        async () => {
          await writeFile(at("crl.pem"), ca.crl({}).pem.slice(0, 200));
          await writeFile(at("pipegate.yaml"), withList);
        },
        /crl\.pem holds what is no whole revocation list/u,
      ],
      [
        "no list",
        async () => {
          await rm(at("crl.pem"));
          await writeFile(at("pipegate.yaml"), withList);
        },
        /crl\.pem does not exist/u,
      ],
    ];
    for (const [name, break_, says] of faults) {
      await break_();
      running.hangUp();
      expect([name, (await running.next("config refused")).detail]).toEqual([name, expect.stringMatching(says)]);
      expect(await running.reaches("echo")).toBe(true);
      if (name === "a list out of date") continue; // the next one mends it into another fault
      await writeFile(at("ca.pem"), ca.certificate);
      await writeFile(at("gateway-key.pem"), own.key);
      await writeFile(at("pipegate.yaml"), configText(["echo"]));
      running.hangUp();
      await running.next("config reloaded");
    }
    await running.stop();
  });

  test("ends the pipe of a client that is revoked, within five seconds of the list being there; the client is told why", async () => {
    const folder = await files("revoked", ["echo"]);
    await writeFile(join(folder, "crl.pem"), ca.crl({}).pem);
    await writeFile(join(folder, "pipegate.yaml"), configText(["echo"], ", crl: [crl.pem]"));
    const running = await start(folder);
    const bob = ca.client("bob");
    await writeFile(join(place.folder, "bob.pem"), bob.certificate);
    await writeFile(join(place.folder, "bob-key.pem"), bob.key, { mode: 0o600 });
    const pipe = place.start(["pipe", "echo"], {
      PIPEGATE_GATEWAY: running.address,
      PIPEGATE_CERT: join(place.folder, "bob.pem"),
      PIPEGATE_CA: join(place.folder, "ca.pem"),
    });
    const end = ended(pipe);
    pipe.stdin.on("error", () => {});
    pipe.stdin.write("and on");
    await once(pipe.stdout, "data");
    const at = performance.now();
    await writeFile(join(folder, "crl.pem"), ca.crl({ revoked: [bob.serial] }).pem);
    expect(await end).toMatchObject({ status: 5, err: expect.stringMatching(/revoked/u) });
    expect(performance.now() - at).toBeLessThan(5_000);
    expect(await running.next("pipe close")).toMatchObject({ reason: "revoked", fingerprint: bob.fingerprint });
    expect(await running.reaches("echo")).toBe(true);
    await running.stop();
  });

  test("is not harmed by signals that come in a heap, or while it drains", async () => {
    const running = await start(await files("hung", ["echo"]));
    await writeFile(join(running.folder, "pipegate.yaml"), configText(["echo", "two"]));
    for (let n = 0; n < 20; n++) running.hangUp();
    await running.next("config reloaded");
    const pipe = place.start(["pipe", "two"], {
      PIPEGATE_GATEWAY: running.address,
      PIPEGATE_CERT: join(place.folder, "alice.pem"),
      PIPEGATE_CA: join(place.folder, "ca.pem"),
    });
    const end = ended(pipe);
    pipe.stdin.write("on");
    await once(pipe.stdout, "data");
    const stopped = running.stop(); // it waits for the pipe
    await expect.poll(() => running.reaches("two"), { timeout: 10_000 }).toBe(false);
    running.hangUp();
    await writeFile(join(running.folder, "pipegate.yaml"), configText(["echo"])); // a target less: nobody looks any more
    running.hangUp();
    pipe.stdin.end();
    expect((await end).status).toBe(0);
    await stopped;
  });
});
