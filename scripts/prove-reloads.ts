/**
 * `npm run prove:reloads`: the long proof that CI does not wait for. A thousand reloads at ten a second, each with another certificate, other
 * trust, rules, targets and listeners, under 50 clients that send and 50 new connections a second. Exits with 1 when a pump was not whole, a
 * connection failed, anybody was refused, or memory grew after the first hundred.
 */
import { reloadUnderLoad } from "../test/support/reload-load.ts";

const REST_BYTES = 64 << 20; // what the clients in this process, and what collectors leave for later, may make of it

const { whole, connected, failures, refusals, version, resident } = await reloadUnderLoad({
  reloads: 1_000,
  reloadsPerSecond: 10,
  pumps: 50,
  connectionsPerSecond: 50,
});
const [early, late] = resident.map((bytes) => bytes >> 20);
console.log(
  `version ${version}; ${whole} of 50 pumps whole; ${connected} connections; ${refusals} refusals; resident ${early} MiB, then ${late} MiB`,
);
for (const failure of new Set(failures)) console.error(failure);
const good = version === 1_001 && whole === 50 && failures.length === 0 && refusals === 0 && resident[1] - resident[0] < REST_BYTES;
console.log(good ? "no promise was broken" : "a promise was broken");
process.exitCode = good ? 0 : 1;
