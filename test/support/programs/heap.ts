/** Says what V8 makes of the flags that the command is started with: before they are forgotten, then, and once it is tuned. */
import { cachedDataVersionTag, getHeapSpaceStatistics } from "node:v8";
import { forgetSizes, tuneMemory } from "../../../src/runtime/memory.ts";

const started = cachedDataVersionTag();
forgetSizes();
const loading = cachedDataVersionTag();
const kept: object[] = [];
for (let index = 0; index < 400_000; index++) kept.push({ index }); // a nursery that may grow does
const nursery = getHeapSpaceStatistics().find((space) => space.space_name === "new_space")!;
tuneMemory();
const nurseryBytes = nursery.space_used_size + nursery.space_available_size;
process.stdout.write(JSON.stringify({ started, loading, tuned: cachedDataVersionTag(), nurseryBytes, kept: kept.length }));
