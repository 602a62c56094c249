import { truncate, writeFile, appendFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { chain, GENESIS, lineBody } from "../../src/audit/line.ts";
import { createTestCa } from "../support/mint.ts";
import { createWorkplace, ended, says, tell } from "../support/run-command.ts";
import { runtimeWords, startProgram } from "../support/this-runtime.ts";

/** Far above what a runtime writes for itself; the shell counts blocks of 512 bytes. */
const limit = 1 << 30;

test("an audit log that reaches the file size limit of the process ends no gateway", async () => {
  const ca = createTestCa();
  const place = await createWorkplace(ca.certificate, { alice: ca.client("alice"), gateway: ca.gateway() });
  const file = join(place.folder, "audit.jsonl");
  const { line } = chain(lineBody({ event: "pipe open" }, Date.now()), GENESIS);
  const last = `\n${line}\n`;
  await writeFile(file, "", { mode: 0o600 });
  await truncate(file, limit - last.length); // a hole: it takes no room
  await appendFile(file, last);
  await writeFile(
    join(place.folder, "pipegate.yaml"),
    `listeners: [{ listen: "127.0.0.1:0" }]
identity: { certificate: gateway.pem, key: gateway-key.pem }
trust: { ca: [ca.pem] }
targets: { echo: { builtin: echo } }
rules: [{ clients: ["*"], targets: ["*"] }]
audit: { file: audit.jsonl, maxSize: 2GiB }
log: { format: json }
`,
  );
  const child = startProgram("src/cli/main.ts", ["gateway"], {
    words: ["/bin/sh", "-c", `ulimit -f ${limit / 512}; exec "$0" "$@"`, ...runtimeWords],
    folder: place.folder,
    timeoutMs: 60_000,
  });
  const end = ended(child);
  const failing = says(child, /audit log failing.*may not grow|audit log failing.*too large/u);
  const port = /"listen":\["127\.0\.0\.1:([0-9]+)"\]/u.exec(await says(child, /gateway ready.*\n/u))![1]!;
  const settings = { PIPEGATE_GATEWAY: `127.0.0.1:${port}`, PIPEGATE_CERT: "alice.pem", PIPEGATE_CA: "ca.pem" };
  const through = { status: 0, out: Buffer.from("hi"), err: "" };
  expect(await place.run(["pipe", "echo"], "hi", settings)).toEqual(through);
  await failing;
  expect(await place.run(["pipe", "echo"], "hi", settings)).toEqual(through);
  tell(child, "SIGTERM");
  expect((await end).status).toBe(0);
  await place.remove();
}, 60_000);
