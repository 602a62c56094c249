import { connect, createServer } from "node:tls";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { cipherOrder } from "../../src/runtime/ciphers.ts";
import { facts } from "../../src/runtime/facts.ts";
import { createTestCa } from "../support/mint.ts";

const withAes = "processor\t: 0\nmodel name\t: some\nflags\t\t: fpu sse4_2 aes xsave avx\nbugs\t\t:\n";
const without = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n";

test("AES comes first but on a processor that says it has no instructions for it", () => {
  for (const text of [withAes, without.replace("crc32", "aes pmull"), "", "processor : 0\n", "flags"])
    expect(cipherOrder(text)).toBeUndefined();
  expect(cipherOrder(without)).toMatch(/^TLS_CHACHA20/u);
  expect(cipherOrder(withAes.replace(" aes ", " vaes_not "))).toMatch(/^TLS_CHACHA20/u);
});

test.skipIf(facts.name !== "node")(
  "a server has its own way, whatever a client prefers, and takes who knows one cipher alone",
  async () => {
    const ca = createTestCa();
    const gateway = ca.gateway();
    const own = { cert: gateway.certificate, key: gateway.key, minVersion: "TLSv1.3" } as const;
    const agreed = async (processor: string, offered?: string): Promise<string> => {
      const ciphers = cipherOrder(processor);
      const server = createServer({ ...own, ...(ciphers === undefined ? {} : { ciphers }) }).listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      const offer = offered === undefined ? {} : { ciphers: offered };
      const socket = connect({ host: "127.0.0.1", port, ca: [ca.certificate], servername: "localhost", ...offer });
      await once(socket, "secureConnect");
      const { name } = socket.getCipher();
      socket.destroy();
      server.close();
      return name;
    };
    const [aes256, aes128, chacha] = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"];
    expect(await agreed(withAes, `${chacha}:${aes256}`)).toBe(aes256);
    expect(await agreed(without)).toBe(chacha);
    for (const one of [aes256, aes128, chacha]) expect([await agreed(without, one), await agreed(withAes, one)]).toEqual([one, one]);
  },
);
