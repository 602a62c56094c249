import { beforeEach, describe, expect, test } from "vitest";
import { Seen } from "../../src/gateway/seen.ts";
import type { Identity } from "../../src/identity/identity.ts";
import { identityOf } from "../support/identity.ts";

const bound = 10_000;
const client = (n: number): Identity => identityOf({ uri: `spiffe://dev/c${n}` });

describe("the identities that a gateway has seen", () => {
  let seen: Seen;
  beforeEach(() => void (seen = new Seen()));
  const names = (): readonly string[] => seen.list().map(({ identity }) => identity);

  test("are shown with the certificate of last time, the last use, and how many connections are open", () => {
    seen.came({ ...client(1), serial: "0a", notAfter: 7 }, 1);
    seen.came({ ...client(1), serial: "0b", notAfter: 9 }, 2);
    seen.left(client(1), 3);
    seen.used(client(1), 4);
    expect(seen.list()).toMatchObject([{ identity: "spiffe://dev/c1", serial: "0b", notAfter: 9, lastUse: 4, connections: 1 }]);
  });

  test("are bounded: of those who are not here the one that left longest ago is forgotten first", () => {
    for (let n = 0; n < bound; n++) seen.came(client(n), n);
    for (const n of [5, 3]) seen.left(client(n), bound);
    seen.came(client(bound), bound);
    expect(names()).not.toContain("spiffe://dev/c5");
    expect(names()).toContain("spiffe://dev/c3");
    seen.came(client(bound + 1), bound);
    expect(names()).not.toContain("spiffe://dev/c3");
    expect(names().length).toBe(bound);
  });

  test("hold everybody who is here, with all of his connections, however many there are", () => {
    for (let n = 0; n <= bound; n++) seen.came(client(n), n);
    seen.came(client(0), bound);
    seen.left(client(0), bound);
    expect(seen.list().find(({ identity }) => identity === "spiffe://dev/c0")).toMatchObject({ connections: 1 });
    expect(names().length).toBe(bound + 1);
    seen.left(client(0), bound);
    expect(names()).not.toContain("spiffe://dev/c0"); // nobody is kept beyond that who is not here
    expect(names().length).toBe(bound);
  });

  test("are shown with the end of the chain that proves them now, of the certificate of last time", () => {
    const [old, young] = [
      { ...client(1), fingerprint: "old", notAfter: 5 },
      { ...client(1), fingerprint: "young", notAfter: 7 },
    ];
    seen.came(old, 1);
    seen.came(young, 2);
    seen.judged({ ...old, notAfter: 6 });
    expect(seen.list()).toMatchObject([{ fingerprint: "young", notAfter: 7 }]);
    seen.judged({ ...young, notAfter: 9 });
    expect(seen.list()).toMatchObject([{ fingerprint: "young", notAfter: 9 }]);
  });
});
