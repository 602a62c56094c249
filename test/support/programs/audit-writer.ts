/** Writes an audit log as fast as it can until it is killed; says each thousand lines that are in the file. */
import { openAudit } from "../../../src/audit/audit.ts";

const audit = await openAudit({ file: process.argv[2]!, maxBytes: 100_000, keep: 10_000, onTrouble: () => {}, onWell: () => {} });
const from = audit.head.seq;
process.stdout.write("writing\n");
for (let n = 0, told = 0; ; n++) {
  audit.record({ event: "pipe open", n, identity: "spiffe://dev/agent/alice", target: "db" });
  if (n % 50 !== 0) continue;
  await new Promise((resolve) => setTimeout(resolve, 1));
  for (; audit.head.seq - from >= (told + 1) * 1_000; told++) process.stdout.write(`written ${told + 1}000\n`);
}
