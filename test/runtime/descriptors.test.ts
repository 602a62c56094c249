import { once } from "node:events";
import fc from "fast-check";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { createDescriptors, parseLimit } from "../../src/runtime/descriptors.ts";
import { dial } from "../support/dialled.ts";

describe("the descriptors of a process", () => {
  test("are for clients up to a half, for back ends what clients leave, and for both again what is given back", () => {
    const descriptors = createDescriptors({ limit: 128, used: 26 }); // 70 are left beside the reserve
    const clients = Array.from({ length: 35 }, () => descriptors.forClient()!);
    expect(descriptors.forClient()).toBeUndefined();
    const backEnds = Array.from({ length: 35 }, () => descriptors.forBackEnd()!);
    expect(descriptors.forBackEnd()).toBeUndefined();
    clients[0]!();
    clients[0]!(); // once
    const last = descriptors.forBackEnd();
    expect(last).toBeTypeOf("function");
    expect([descriptors.forClient(), descriptors.forBackEnd()]).toEqual([undefined, undefined]); // no room for both
    for (const giveBack of [...clients, ...backEnds, last!]) giveBack();
    expect(Array.from({ length: 100 }, () => descriptors.forClient()).filter((taken) => taken !== undefined).length).toBe(35);
  });

  test("leave a sixteenth where there are many, and let somebody in where there are none", () => {
    const clientsOf = (limit: number): number => {
      const descriptors = createDescriptors({ limit, used: 30 });
      let clients = 0;
      while (descriptors.forClient() !== undefined) clients++;
      return clients;
    };
    expect([1, 64, 1_024, 65_536].map(clientsOf)).toEqual([1, 1, 465, 30_705]);
    expect([64, 1_024, 65_536].map((limit) => createDescriptors({ limit, used: 30 }).burst)).toEqual([24, 48, 511]);
  });

  test("are shared out once where threads share the count", () => {
    const taken = new Int32Array(new SharedArrayBuffer(8));
    const threads = [0, 1].map(() => createDescriptors({ limit: 128, used: 26, taken })); // 35 for clients
    const clients = Array.from({ length: 36 }, (_, n) => threads[n % 2]!.forClient());
    expect(clients.map((giveBack) => giveBack !== undefined)).toEqual([...Array<boolean>(35).fill(true), false]);
    clients[0]!();
    expect(threads[1]!.forClient()).toBeTypeOf("function");
    expect(threads[0]!.forClient()).toBeUndefined();
  });

  test("are never more than there are, whoever comes and goes", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.boolean(), fc.nat(200)), { maxLength: 400 }), (steps) => {
        const descriptors = createDescriptors({ limit: 100, used: 20 });
        const taken: (() => void)[] = [];
        for (const [takes, isClient, which] of steps) {
          const one = takes ? (isClient ? descriptors.forClient() : descriptors.forBackEnd()) : undefined;
          if (one !== undefined) taken.push(one);
          else if (!takes && taken.length > 0) taken.splice(which % taken.length, 1)[0]!();
          expect(taken.length).toBeLessThanOrEqual(48);
        }
      }),
      { numRuns: 100 },
    );
  });

  test("are read from what Linux says of a process", () => {
    const line = (soft: string): string =>
      `Max processes             31203                31203                processes \nMax open files            ${soft} 524288               files     \n`;
    expect([parseLimit(line("1024                ")), parseLimit(line("unlimited           ")), parseLimit("")]).toEqual([
      1_024,
      undefined,
      undefined,
    ]);
    fc.assert(fc.property(fc.string(), (text) => void parseLimit(text)));
  });

  test("are asked for before a back end is dialled, and come back when its connection closes", async () => {
    const server = createServer((socket) => void socket.on("error", () => {}).resume());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = { kind: "tcp", host: "127.0.0.1", port: (server.address() as AddressInfo).port } as const;
    let left = 1;
    const descriptors = { burst: 1, forClient: () => undefined, forBackEnd: () => (left === 0 ? undefined : (left--, () => void left++)) };
    const options = { timeoutMs: 5_000, descriptors };
    const accepted = once(server, "connection") as Promise<[Socket]>;
    const { channel } = await dial([address], options);
    await accepted;
    await expect(dial([address], options)).rejects.toMatchObject({
      code: "target_unavailable",
      message: expect.stringContaining("no descriptors left"),
    });
    channel.reset({ reason: "cancelled" });
    await expect.poll(() => left).toBe(1);
    await expect(dial([{ ...address, port: 1 }], options)).rejects.toMatchObject({ code: "target_unavailable" });
    await expect.poll(() => left).toBe(1);
    server.close();
  });
});
