import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createWorkplace, ended, type Workplace } from "../support/run-command.ts";
import { startProgram } from "../support/this-runtime.ts";

describe("pipegate ca", () => {
  let place: Workplace;
  beforeAll(async () => {
    place = await createWorkplace("");
  });
  afterAll(() => place.remove());

  test("makes, issues, lists and revokes, telling a person on stderr and a program on stdout", async () => {
    const made = await place.run(["ca", "init"]);
    expect(made).toMatchObject({
      status: 0,
      err: expect.stringMatching(/Made a CA[\s\S]*certs\/ca-key\.pem[\s\S]*Next: pipegate ca issue/u),
    });
    expect(made.out).toHaveLength(0);
    const issued = await place.run(["ca", "issue", "--p12", "--quiet", "spiffe://dev/agent/alice"]);
    expect(issued).toMatchObject({ status: 0, err: "" });
    expect(issued.out.toString()).toMatch(/^[\w-]{20}\n$/u);
    const listed = await place.run(["ca", "list", "--json"]);
    expect(JSON.parse(listed.out.toString())).toEqual([
      expect.objectContaining({ names: ["spiffe://dev/agent/alice"], state: "good", file: "alice.pem" }),
    ]);
    const revoked = await place.run(["ca", "revoke", "alice"]);
    expect(revoked).toMatchObject({
      status: 0,
      err: expect.stringMatching(
        /Revoked spiffe:\/\/dev\/agent\/alice[\s\S]*list 1 with 1 entry[\s\S]*certs\/crl\.pem[\s\S]*in force within seconds/u,
      ),
    });
    const table = await place.run(["ca", "list"]);
    expect(table.out.toString()).toMatch(/^NAMES +ROLE +STATE[^\n]*\nspiffe:\/\/dev\/agent\/alice +client +revoked [^\n]*alice\.pem\n$/u);
    expect(readFileSync(join(place.folder, "certs/crl.pem"), "utf8")).toMatch(/BEGIN X509 CRL/u);
  });

  test.each([
    ["gateway", ["gw.example"], 90],
    ["client", ["cn:a"], 1],
    ["agent", ["cn:b"], 1],
    ["gateway", ["--ttl", "2d", "short.example"], 2],
  ])("issues a %s %j a certificate for %i days", async (role, words, days) => {
    await place.run(["ca", "init"]);
    expect(await place.run(["ca", "issue", "--role", role, ...words])).toMatchObject({ status: 0 });
    const listed = await place.run(["ca", "list", "--json"]);
    const { notAfter } = (JSON.parse(listed.out.toString()) as { readonly notAfter: string }[]).at(-1)!;
    expect((Date.parse(notAfter) - Date.now()) / 86_400_000).toBeCloseTo(days, 2);
  });

  test.each([
    [["ca", "issue", "bob"], /the name "bob" .* Write spiffe:\/\/dev\/agent\/bob/u],
    [["ca", "issue", "--ttl", "30", "cn:a"], /no unit\. Write 30h or 30d/u],
    [["ca", "issue", "--dir", "nowhere", "cn:a"], /no CA in nowhere\. Make one with pipegate ca init/u],
    [["ca", "list", "--dir", "nowhere"], /no CA in nowhere/u],
    [["ca", "isue"], /unknown command 'isue'/u],
    [["ca", "issue", "--rol", "client", "cn:a"], /unknown option '--rol'/u],
  ])("%j ends with 2 and one line that has the mend", async (words, line) => {
    const { status, out, err } = await place.run(words);
    expect({ status, out: out.toString(), err }).toEqual({ status: 2, out: "", err: expect.stringMatching(line) });
  });
});

test("scripts/mint.ts makes what the demo needs, and then keeps it", async () => {
  const place = await createWorkplace("");
  try {
    const mint = () => ended(startProgram("scripts/mint.ts", [], { folder: place.folder }));
    expect(await mint()).toMatchObject({ status: 0, err: expect.stringMatching(/Made certs\/ca\.pem, certs\/gateway\.pem/u) });
    expect(await mint()).toMatchObject({ status: 0, err: expect.stringMatching(/already/u) });
  } finally {
    await place.remove();
  }
});
