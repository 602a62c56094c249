/**
 * `npm run prove:slow`: the long proof that CI does not wait for. 2,001 clients that do not read what bulk back ends send them, a third of each kind,
 * and an honest one beside them. Prints what was seen; exits with 1 when a reader cost more than its bound, the memory was not given back, or the
 * honest client's echo took more than 20 ms at the median or 100 ms at the 99th percentile.
 */
import { countDescriptors } from "../src/runtime/descriptors.ts";
import { quantile } from "../test/support/floods.ts";
import { measureSlowReaders, slowReaderBounds, slowReaderKinds } from "../test/support/slow-readers.ts";

const EACH = 667;
/** A client and a back end for each reader, here as in the gateway, which keeps a sixteenth besides. */
const FILES = 4_400;
const [MEDIAN_MS, SLOW_MS] = [20, 100];
const LEFT_BYTES = 64 << 20;
const kib = (bytes: number): string => `${(bytes / 1024).toFixed(0)} KiB`;

const { limit = Infinity } = countDescriptors() ?? {};
if (limit < FILES) {
  console.error(`this takes ${FILES} open files, and the system allows ${limit}: raise it by ulimit -n`);
  process.exit(1);
}
const { cost, left, pipes, cut, alone, beside } = await measureSlowReaders(EACH);
let good = pipes + cut === slowReaderKinds.length * EACH && left < LEFT_BYTES;
for (const kind of slowReaderKinds) {
  const [{ held, resident }, bound] = [cost[kind], slowReaderBounds[kind]];
  console.log(
    `${EACH} ${kind}: each ${kib(held)} held (at most ${kib(bound.held)}), ${kib(resident)} resident (at most ${kib(bound.resident)})`,
  );
  good &&= held < bound.held && resident < bound.resident;
}
const [median, slow] = [quantile(beside, 0.5), quantile(beside, 0.99)];
good &&= median < MEDIAN_MS && slow < SLOW_MS;
console.log(
  `${pipes} pipes, ${cut} cut off; an echo takes ${quantile(alone, 0.5).toFixed(2)} ms alone, ${median.toFixed(2)} ms beside them (99 %: ${slow.toFixed(2)} ms)`,
);
console.log(`${kib(left)} more than before once they had gone`);
console.log(good ? "no promise was broken" : "a promise was broken");
process.exitCode = good ? 0 : 1;
