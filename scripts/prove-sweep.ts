/**
 * `npm run prove:sweep`: 10,000 live pipes of 200 connections are judged again after the rules changed under them, and after nobody may stay.
 * Prints how long that took and how long the event loop stood; exits with 1 when the sweep took 50 ms or more.
 */
import { createTestCa } from "../test/support/mint.ts";
import { startGateway } from "../test/support/gateway.ts";
import { connect } from "../src/mod.ts";

const LIMIT_MS = 50;
const [CONNECTIONS, PIPES] = [200, 50];

const ca = createTestCa();
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
console.log(`all of them ended: ${setup.gateway.status().judgedMs.toFixed(1)} ms, ${setup.gateway.status().pipes.length} left`);
process.exitCode = median < LIMIT_MS ? 0 : 1;
process.exit();
