import { expect, test } from "vitest";
import { connect } from "../../src/mod.ts";
import { startGateway } from "../support/gateway.ts";
import { createTestCa, type Issued } from "../support/mint.ts";

const ca = createTestCa();
const middle = ca.intermediate();

test("asking a gateway about a chain teaches its door nothing; what was proven at the door holds for who asks, too", async () => {
  await using setup = await startGateway({ ca, rules: [{ clients: ["cn:x"] }, { clients: ["*"] }, { clients: ["*"] }] });
  const alice = middle.client("alice");
  const answerTo = (...chain: readonly Issued[]): unknown =>
    setup.gateway.explain({ certificates: chain.map(({ der }) => der), target: "echo" }).reason ?? "allowed";
  const knock = (...chain: readonly Issued[]): Promise<unknown> =>
    connect({
      gateway: `127.0.0.1:${setup.port}`,
      certificate: chain.map(({ certificate }) => certificate).join(""),
      key: alice.key,
      ca: ca.certificate,
    }).then(
      (client) => client.close().then(() => "let in"),
      ({ code }: { readonly code: string }) => code,
    );
  expect(answerTo(alice, middle)).toBe("allowed");
  expect(answerTo(alice)).toBe("unknown_issuer");
  expect(await knock(alice)).toBe("unknown_issuer");
  expect(await knock(alice, middle)).toBe("let in");
  expect(answerTo(alice)).toBe("allowed");
  const { steps, rules } = setup.gateway.explain({ certificates: [alice.der], target: "echo" });
  expect(steps.filter(({ result }) => result === "fails")).toEqual([]);
  expect(steps.find(({ step }) => step === "issuer")?.says).toContain("with more of its chain it was proven before");
  expect(rules.map(({ verdict }) => verdict)).toEqual(["lacks", "decides"]); // none behind the one that answers
});
