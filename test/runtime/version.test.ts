import { describe, expect, test } from "vitest";
import { facts } from "../../src/runtime/facts.ts";
import { requireSupportedRuntime, versionFault } from "../../src/runtime/version.ts";

describe("the oldest runtimes", () => {
  test.each(["24.17.0", "24.21.0", "26.3.1", "26.10.0", "27.0.0", "28.1.0", "26.3.1-nightly2026"])("Node %s will do", (version) => {
    expect(versionFault({ name: "node", version })).toBeUndefined();
  });

  test.each(["16.20.0", "20.20.2", "21.7.3", "22.22.9", "22.23.3", "23.11.0", "24.0.0", "24.16.9", "25.9.0", "26.3.0", "26.0.0", "", "x"])(
    "Node %s will not, with a sentence",
    (version) => {
      expect(versionFault({ name: "node", version })).toMatch(/^Node .*\d+\.\d+\.\d+/);
    },
  );

  test.each([
    ["2.9.0", undefined],
    ["2.9.6", undefined],
    ["2.10.1", undefined],
    ["3.0.0", undefined],
    ["2.8.9", /^Deno 2\.8\.9 is too old/],
    ["1.46.3", /^Deno 1\.46\.3 is too old/],
    ["x", /^Deno x is too old/],
  ])("Deno %s", (version, fault) => {
    const said = versionFault({ name: "deno", version });
    if (fault === undefined) expect(said).toBeUndefined();
    else expect(said).toMatch(fault);
  });

  test("are met by the runtime of these tests", () => {
    expect(versionFault(facts)).toBeUndefined();
    expect(() => requireSupportedRuntime()).not.toThrow();
  });
});
