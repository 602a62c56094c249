/**
 * `npm run prove:floods`: the long proof that CI does not wait for. 500 silent, 500 half-hello and 500 byte-by-byte clients at once, three
 * times, with the deadline that the gateway has. Prints what was seen; exits with 1 when one was not cut at the deadline, a descriptor was
 * left, or the handshakes of an honest client took more than 300 ms at the 95th percentile.
 */
import { listenerDefaults } from "../src/tls/listener-options.ts";
import { flood, quantile } from "../test/support/floods.ts";

const CLIENTS = 500;
const ROUNDS = 3;
const LONGEST_MS = 300;
const PATIENCE_MS = 2_000;

const { handshakeTimeoutMs: deadlineMs } = listenerDefaults;
for (let round = 1; round <= ROUNDS; round++) {
  const { descriptors, refused, strange, lives, handshakes } = await flood({ clients: CLIENTS, deadlineMs });
  const slow = quantile(handshakes, 0.95);
  const last = lives.at(-1) ?? Number.POSITIVE_INFINITY;
  const { before, most, after } = descriptors;
  console.log(
    `round ${round}: cut after ${lives[0]?.toFixed(0)} to ${last.toFixed(0)} ms; refused ${JSON.stringify(refused)} ${strange.join(" | ")}; descriptors ${before}, ${most}, ${after}; ` +
      `${handshakes.length} honest handshakes, median ${quantile(handshakes, 0.5).toFixed(1)} ms, 95 % ${slow.toFixed(1)} ms`,
  );
  if (refused["handshake_timeout"] !== 3 * CLIENTS || last > deadlineMs + PATIENCE_MS || after > before || slow >= LONGEST_MS) {
    console.error("a promise was broken");
    process.exitCode = 1;
  }
}
