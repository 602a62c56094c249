/** Child of log-writer.test.ts: logs LINES lines, then exits with 7, at once after a flush or a little later. */
import { createLogWriter } from "../../src/base/log-writer.ts";

const [lines, end] = process.argv.slice(2);
const log = createLogWriter({ level: "info", format: "json" });
for (let index = 0; index < Number(lines); index++) log.info("line", { index, text: "x".repeat(500) });
if (end === "flush") {
  log.flush();
  process.exit(7);
}
setTimeout(() => process.exit(7), 300);
