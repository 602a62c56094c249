import { expect, test } from "vitest";
import { ExpectedProbes } from "../../src/tls/expected.ts";

const from = (address: string, port = 40_000) => ({ remotePort: port, remoteAddress: address, localAddress: address });

function expecting(host: string | undefined): ExpectedProbes {
  const probes = new ExpectedProbes();
  probes.expect({ port: 40_000, host, serverName: "secret", signal: new AbortController().signal, ended: () => {}, lost: () => {} });
  return probes;
}

test.each([
  ["127.0.0.1", "127.0.0.2"],
  ["::1", "127.0.0.1"],
])("a probe from %s is not taken for one who comes from its port on %s, and is still expected", (host, other) => {
  const probes = expecting(host);
  expect(probes.take(from(other))).toBeUndefined();
  expect(probes.take(from(host))).toMatchObject({ text: "self-test" });
  expect(probes.take(from(host))).toBeUndefined();
});

test("a probe is known by an IPv4 address that came as IPv6, and where there is one address by its port", () => {
  expect(expecting("127.0.0.1").take(from("::ffff:127.0.0.1"))).toMatchObject({ text: "self-test" });
  expect(expecting(undefined).take(from("10.0.0.1", 40_001))).toBeUndefined();
  expect(expecting(undefined).take(from("10.0.0.1"))).toMatchObject({ text: "self-test" });
});
