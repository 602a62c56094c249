/** Says how it was started, and ends as it is told. */
import process from "node:process";

process.on("SIGTERM", () => process.exit(9));
console.log(JSON.stringify({ words: process.argv.slice(2), execArgv: process.execArgv, deno: "Deno" in globalThis }));
if (process.argv[2] === "wait") setTimeout(() => process.exit(1), 20_000);
else process.exit(Number(process.argv[2]));
