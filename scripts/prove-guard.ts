/**
 * `npm run prove:guard`: what the guard costs. The CPU of judging a certificate that was never seen, and one that was, under a trust with a
 * revocation list and a deny-list; then 10,000 live pipes of 200 connections judged again after the rules changed under them, and after
 * nobody may stay. Exits with 1 when a certificate costs 0.2 ms or more, or the sweep 50 ms or more.
 */
import { createTestCa } from "../test/support/mint.ts";
import { startGateway } from "../test/support/gateway.ts";
import { createTrust, judge, type Trust } from "../src/identity/judge.ts";
import { connect } from "../src/mod.ts";
import { createDenyList, denial } from "../src/policy/deny.ts";

const [GUARD_MS, SWEEP_MS] = [0.2, 50];
const [CERTIFICATES, CONNECTIONS, PIPES] = [2_000, 200, 50];

const ca = createTestCa();
const leaves = Array.from({ length: CERTIFICATES }, (_, n) => [Buffer.from(ca.client(`n${n}`).der)]);
const crl = [Buffer.from(ca.crl({ revoked: Array.from({ length: 1_000 }, (_, n) => (0x10_00_00 + n).toString(16)) }).pem)];
const deny = createDenyList(["spiffe://dev/agent/mallory", "serial:0a1b"]);
const guard = (trust: Trust): number => {
  const before = process.cpuUsage();
  for (const chain of leaves) {
    const verdict = judge(chain, trust, { now: Date.now(), verifiedByRuntime: false });
    if (!verdict.ok || denial(deny, verdict.identity) !== undefined) throw new Error("a good certificate was refused");
  }
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000 / CERTIFICATES;
};
const fresh = (): Trust => createTrust({ ca: [ca.certificate], crl, now: Date.now() });
guard(fresh()); // warm
const trust = fresh();
const [first, again] = [guard(trust), guard(trust)];
console.log(`a certificate costs ${first.toFixed(3)} ms CPU when it is new, ${again.toFixed(3)} ms when it is known`);

await using setup = await startGateway({ ca });
for (let n = 0; n < CONNECTIONS; n++) {
  const own = ca.client(`n${n}`);
  const client = await connect({ gateway: `127.0.0.1:${setup.port}`, certificate: own.certificate, key: own.key, ca: ca.certificate });
  client.closed.catch(() => {});
  for (let pipe = 0; pipe < PIPES; pipe++) (await client.open("echo")).closed.catch(() => {});
}
const rules = Array.from({ length: 100 }, (_, n) => ({ clients: [`dns:n${n}.example`], targets: ["*"], limits: {}, line: n }));
const took: number[] = [];
for (let round = 0; round < 7; round++) {
  const changed = [...rules, { clients: [`cn:round ${round}`, "*"], targets: ["*"], limits: {}, line: 200 }];
  await setup.gateway.reload({ ...setup.config, rules: changed });
  took.push(setup.gateway.status().judgedMs);
}
const median = took.toSorted((a, b) => a - b)[3]!;
console.log(`${setup.gateway.status().pipes.length} pipes of ${CONNECTIONS} connections under 101 rules: ${median.toFixed(1)} ms`);
await setup.gateway.reload({ ...setup.config, rules });
for (let waited = 0; setup.gateway.status().pipes.length > 0 && waited < 100; waited++)
  await new Promise((resolve) => setTimeout(resolve, 50));
console.log(`all of them ended: ${setup.gateway.status().judgedMs.toFixed(1)} ms, ${setup.gateway.status().pipes.length} left`);
process.exitCode = median < SWEEP_MS && first < GUARD_MS ? 0 : 1;
process.exit();
