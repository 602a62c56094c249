/** `node scripts/mint.ts [folder]`: a development CA and certificates in certs/, as `pipegate demo` makes them; what is there is kept. */
import process from "node:process";
import { devCertificates } from "../src/ca/dev.ts";
import { endingOf } from "../src/cli/exit.ts";
import { complain, say } from "../src/cli/terminal.ts";

const folder = process.argv[2] ?? "certs";
try {
  const { ca, gateway, client, stranger, made } = await devCertificates(folder);
  say(made.length === 0 ? `Everything is in ${folder} already:` : `Made ${made.join(", ")}. Now there are:`);
  say(`  ${ca.certificate}  the CA, for everyone; ${ca.key}, for nobody else`);
  say(`  ${gateway.certificate}  a gateway on localhost`);
  say(`  ${client.certificate}  spiffe://dev/agent/alice`);
  say(`  ${stranger.certificate}  spiffe://dev/stranger, whom no rule knows`);
  say(`Next: pipegate demo, or pipegate ca issue --dir ${folder} spiffe://dev/agent/NAME`);
} catch (error) {
  const { status, line } = endingOf(error);
  if (line !== undefined) complain(line);
  process.exitCode = status;
}
