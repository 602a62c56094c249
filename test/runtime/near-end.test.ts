import { expect, test } from "vitest";
import { nearEnd } from "../../src/runtime/near-end.ts";

const of =
  (...addresses: string[]) =>
  () => ({ lo: addresses.map((address) => ({ address })) });

test("what listens on all addresses is reached on one of the loopback that there is", () => {
  expect(nearEnd("0.0.0.0")).toBe("127.0.0.1");
  expect(nearEnd("::", of("127.0.0.1", "::1"))).toBe("::1");
  expect(nearEnd("::", of("::1"))).toBe("::1");
  expect(nearEnd("::", of("127.0.0.1"))).toBe("127.0.0.1");
  expect(nearEnd("::", of())).toBe("::1");
});

test("what listens on one address is reached there", () => {
  expect([nearEnd("10.0.0.1"), nearEnd("::1"), nearEnd("fd00::1")]).toEqual(["10.0.0.1", "::1", "fd00::1"]);
});
