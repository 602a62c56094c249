/** The example torn, doubled and bent: a config is taken, or refused with a ConfigError of printable lines, in bounded time. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { root } from "../../scripts/tree.ts";
import { configFrom } from "../../src/config/load.ts";
import { linesOf, problemsOf } from "./problems.ts";

const example = readFileSync(join(root, "docs/pipegate.example.yaml"), "utf8");
const words = example.match(/[\w./*-]+|[^\w\s]|\s+/g)!;
const spice = [
  "&a ",
  "*a",
  "<<: *a",
  "? ",
  "- ",
  ": ",
  "[",
  "]",
  "{",
  "}",
  "|\n",
  ">-\n",
  "!!str ",
  "'",
  '"',
  "#",
  "\t",
  "\0",
  "\u202e",
  "\ufeff",
  "---\n",
  "...\n",
  "%YAML 1.1\n",
  "__proto__",
  "null",
  "~",
  ".inf",
  "0x1f",
  "1e99",
  "💥",
  "\ud800",
];
const piece = fc.oneof(fc.constantFrom(...words), fc.constantFrom(...spice), fc.string({ maxLength: 8 }));

/** Cuts `remove` words out at `at`, and puts `insert` there. */
const change = fc.record({ at: fc.nat(words.length), remove: fc.nat(6), insert: fc.array(piece, { maxLength: 4 }) });

/** Of the processor: what else runs on the machine does not count. */
function seconds(act: () => void): number {
  const before = process.cpuUsage();
  act();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000_000;
}

function judged(text: string): void {
  for (const line of problemsOf(text)) {
    expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/);
    expect(line.length).toBeLessThan(700);
    expect(line).toMatch(/^c(?::\d+:\d+)?[ :]/);
  }
}

test("the example, changed at random, is taken or refused in order", () => {
  let refused = 0;
  let runs = 0;
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      const torn = [...words];
      for (const { at, remove, insert } of changes) torn.splice(at, remove, ...insert);
      const text = torn.join("");
      runs++;
      if (problemsOf(text).length > 0) refused++;
      expect(seconds(() => judged(text))).toBeLessThan(2);
    }),
    { numRuns: 1500, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false },
  );
  // Both ends of the test are reached.
  expect(refused).toBeGreaterThan(runs / 10);
  expect(refused).toBeLessThan(runs);
}, 60_000);

test("any text is taken or refused in order", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string({ unit: "binary" }),
        fc.array(piece).map((parts) => parts.join("")),
      ),
      judged,
    ),
    { numRuns: 1500, interruptAfterTimeLimit: 15_000 },
  );
}, 60_000);

test("any object of a program is taken or refused in order", async () => {
  const odd = fc.anything({ maxDepth: 4, withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withTypedArray: true });
  const keys = ["listeners", "identity", "trust", "targets", "rules", "limits", "log", "admin", "maxMessage"] as const;
  await fc.assert(
    fc.asyncProperty(fc.oneof(odd, fc.dictionary(fc.constantFrom(...keys), odd)), async (object) => {
      const refusal: unknown = await configFrom(object).catch((error: unknown) => error);
      expect(linesOf(refusal).length).toBeGreaterThan(0);
    }),
    { numRuns: 1000, interruptAfterTimeLimit: 15_000 },
  );
}, 60_000);

test.each<readonly [string, string]>([
  ["60,000 keys", Array.from({ length: 60_000 }, (_, index) => `k${index}: 1`).join("\n")],
  ["20,000 aliases", `a: &x 1\n${Array.from({ length: 20_000 }, (_, index) => `a${index}: *x`).join("\n")}`],
  ["half a million brackets", "[".repeat(500_000)],
  ["half a million quotes", '"'.repeat(500_000)],
  ["100,000 questions", "? ".repeat(100_000)],
  ["100,000 dashes", "- ".repeat(100_000)],
  ["a megabyte of one word", `log: ${"x".repeat(1 << 20)}`],
  [
    "20,000 rules",
    `targets: { echo: { builtin: echo } }\nrules:\n${Array.from({ length: 20_000 }, (_, index) => `- { clients: [cn:c${index}], targets: [echo] }`).join("\n")}`,
  ],
  [
    "20,000 names",
    `targets: {}\nrules:\n- clients: [cn:a]\n  targets: [${Array.from({ length: 20_000 }, (_, index) => `t${index}`).join(", ")}]`,
  ],
  // Each of these once took minutes: every line was compared with every other.
  [
    "15,000 misspelt names of 10,000 targets",
    `targets:\n${Array.from({ length: 10_000 }, (_, index) => `  target-number-${index}: { builtin: echo }`).join("\n")}\nrules:\n- clients: [cn:a]\n  targets: [${Array.from({ length: 15_000 }, (_, index) => `tarjet-nunber-${index}`).join(", ")}]`,
  ],
  ["20,000 sockets", `listeners:\n${Array.from({ length: 20_000 }, (_, index) => `- { listen: "unix:a${index}" }`).join("\n")}`],
  ["90,000 protocols", `listeners:\n- listen: a:1\n  alpn: [${Array.from({ length: 90_000 }, (_, index) => `x${index}`).join(", ")}]`],
  [
    "900 misspelt aliases of 30,000 anchors",
    `a:\n${Array.from({ length: 30_000 }, (_, index) => `- &anchor${index} 1`).join("\n")}\n${Array.from({ length: 900 }, (_, index) => `k${index}: *ankor${index}x`).join("\n")}`,
  ],
])(
  "%s are refused within seconds",
  (_, text) => {
    expect(seconds(() => expect(problemsOf(text).length).toBeGreaterThan(0))).toBeLessThan(8);
  },
  30_000,
);
