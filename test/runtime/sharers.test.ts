import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { parseRows, sharedAddresses, sharedRows } from "../../src/runtime/sharers.ts";

const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const line = (local: string, state: string, inode: number): string =>
  `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000  1000        0 ${inode} 1 0000000079a7821e 100 0 0 10 0\n`;
const any6 = "0".repeat(32);
const mapped = "0000000000000000FFFF00000100007F";

test("the listening sockets of a table are read up to the first connection", () => {
  const text = head + line("0100007F:20FB", "0A", 7) + line(`${mapped}:20FB`, "0A", 8) + line("0100007F:20FB", "01", 9);
  expect(parseRows(text)).toEqual({
    rows: [
      { host: "0100007F", port: 8443, inode: "7" },
      { host: "0100007F", port: 8443, inode: "8" },
    ],
    isWhole: true,
  });
  expect(parseRows(head + line("0100007F:20FB", "0A", 7) + "   1: 0100")).toMatchObject({ rows: [{ inode: "7" }], isWhole: false });
});

test.each([
  ["0100007F", "0100007F", true],
  ["0100007F", "0200007F", false],
  ["00000000", "0100007F", true],
  ["0100007F", "00000000", false],
  [any6, "00000000", true],
  ["00000000", any6, false],
  [any6, "00000000000000000000000001000000", true],
])("of what comes to %s, one who listens on %s has a part: %s", (host, other, has) => {
  const own = { host, port: 8443, inode: "1" };
  const rows = [own, { host: other, port: 8443, inode: "2" }, { host, port: 8444, inode: "3" }];
  expect(sharedRows(rows, new Set(["1"]))).toEqual(has ? [own] : []);
  expect(sharedRows(rows, new Set(["1", "2"]))).toEqual([]);
});

test.runIf(process.platform === "linux")("whose a socket is, ours or another's, is asked once", async () => {
  const [server, second] = [createServer(), createServer()];
  let asked = 0;
  const own = (): ReadonlySet<string> => {
    asked++;
    return new Set(); // as if all were another's
  };
  try {
    await once(server.listen(0, "127.0.0.1"), "listening");
    const { port } = server.address() as AddressInfo;
    for (let look = 0; look < 3; look++) expect(sharedAddresses(new Set([port]), own)).toEqual([]);
    expect(asked).toBe(1);
    await once(second.listen(port, "127.0.0.2"), "listening");
    for (let look = 0; look < 3; look++) expect(sharedAddresses(new Set([port]), own)).toEqual([]);
    expect(asked).toBe(2);
  } finally {
    server.close();
    second.close();
  }
});
