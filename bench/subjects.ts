/**
 * What is measured: pipegate on Node or Deno, and the peers that are found on this machine, each set up to do the same: TLS 1.3 with
 * a client certificate of one CA, no session tickets, one worker, no log of single connections, bytes to a back end on loopback.
 * sshd is another kind: its forwarded ports are plain TCP for the load, and its CPU is that of sshd alone.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, rmdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { root } from "../scripts/tree.ts";
import { Child, freePort, whenOpen } from "./children.ts";

/** Where the back end listens, and where configs and certificates may be written. */
export interface Surroundings {
  readonly folder: string;
  readonly backend: { readonly bulk: number; readonly echo: number };
}

/** Ports of a subject that runs. */
export interface Running {
  readonly child: Child;
  /** Whose CPU and memory counts. */
  readonly pid: number;
  /** Raw: to the back end's ports. TLS, or plain TCP for sshd. */
  readonly bulk: number;
  readonly echo: number;
  /** pipegate/1, with the targets `bulk` and `echo`. */
  readonly framed?: number;
  stop(): Promise<void>;
}

export interface Subject {
  readonly name: string;
  readonly version: string;
  readonly kind: "pipegate" | "proxy" | "ssh";
  start(around: Surroundings): Promise<Running>;
}

const bin = join(root, "node_modules/.bin");

/** The full path of a command, or undefined. Daemons are also looked for where PATH of a person need not point. */
export function find(command: string): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  return folders.map((folder) => join(folder, command)).find((path) => existsSync(path));
}

function firstLine(words: readonly string[], pattern: RegExp): string {
  try {
    const text = execFileSync("/bin/sh", ["-c", '"$@" 2>&1 || true', "sh", ...words], { encoding: "utf8", timeout: 10_000 });
    return pattern.exec(text)?.[1] ?? "";
  } catch {
    return "";
  }
}

async function running(
  words: readonly string[],
  ports: { readonly bulk: number; readonly echo: number; readonly framed?: number },
): Promise<Running> {
  const child = new Child(words);
  try {
    for (const port of Object.values(ports)) await whenOpen(port, child);
  } catch (error) {
    await child.stop();
    throw error;
  }
  return { child, pid: child.process.pid!, ...ports, stop: () => child.stop() };
}

/** pipegate as its users run it: the command and a config. */
export function pipegate(runtime: "node" | "deno"): Subject {
  const words =
    runtime === "node"
      ? [join(bin, "node"), "--disable-sigusr1"]
      : [join(bin, "deno"), "run", "-A", "--quiet", `--config=${join(root, "deno.json")}`];
  return {
    name: `pipegate ${runtime}`,
    version: firstLine([words[0]!, "--version"], /(\d+\.\d+\.\d+)/),
    kind: "pipegate",
    async start({ folder, backend }) {
      const [bulk, echo, framed] = [await freePort(), await freePort(), await freePort()];
      const file = join(folder, `pipegate-${runtime}.yaml`);
      writeFileSync(
        file,
        `listeners:
  - listen: 127.0.0.1:${framed}
  - listen: 127.0.0.1:${bulk}
    target: bulk
  - listen: 127.0.0.1:${echo}
    target: echo
identity: { certificate: ${folder}/gateway.pem, key: ${folder}/gateway-key.pem }
trust: { ca: [${folder}/ca.pem] }
targets:
  bulk: { tcp: "127.0.0.1:${backend.bulk}" }
  echo: { tcp: "127.0.0.1:${backend.echo}" }
rules:
  - clients: ["spiffe://dev/agent/*"]
    targets: [bulk, echo]
log: { level: warn, format: json }
`,
      );
      return running([...words, join(root, "src/cli/main.ts"), "gateway", "-c", file], { bulk, echo, framed });
    },
  };
}

type Configure = (at: { readonly folder: string; readonly port: number; readonly backend: number; readonly name: string }) => string;

/** A TLS proxy with a config file: `each` makes the part for one of the two ports. */
function proxy(
  name: string,
  how: {
    readonly version: readonly string[];
    readonly words: (path: string, file: string) => readonly string[];
    readonly head: (folder: string) => string;
    readonly each: Configure;
    readonly tail?: string;
  },
): Subject | undefined {
  const path = find(name);
  if (path === undefined) return undefined;
  return {
    name,
    version: firstLine([path, ...how.version], /(\d+\.\d+(?:\.\d+)?)/),
    kind: "proxy",
    async start({ folder, backend }) {
      const [bulk, echo] = [await freePort(), await freePort()];
      const file = join(folder, `${name}.conf`);
      const parts = [
        how.head(folder),
        how.each({ folder, port: bulk, backend: backend.bulk, name: "bulk" }),
        how.each({ folder, port: echo, backend: backend.echo, name: "echo" }),
        how.tail ?? "",
      ];
      writeFileSync(file, parts.join(""));
      return running(how.words(path, file), { bulk, echo });
    },
  };
}

const nginxModule = "/usr/lib/nginx/modules/ngx_stream_module.so";

function nginx(): Subject | undefined {
  return proxy("nginx", {
    version: ["-v"],
    words: (path, file) => [path, "-c", file],
    head: (folder) => `daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid ${folder}/nginx.pid; error_log ${folder}/nginx.log;
${existsSync(nginxModule) ? `load_module ${nginxModule};` : ""}
events { worker_connections 16000; }
stream {
ssl_certificate ${folder}/gateway.pem; ssl_certificate_key ${folder}/gateway-key.pem; ssl_client_certificate ${folder}/ca.pem;
ssl_verify_client on; ssl_protocols TLSv1.3; ssl_session_tickets off;
`,
    each: ({ port, backend }) => `server { listen 127.0.0.1:${port} ssl; proxy_pass 127.0.0.1:${backend}; }\n`,
    tail: "}\n",
  });
}

function haproxy(): Subject | undefined {
  return proxy("haproxy", {
    version: ["-v"],
    words: (path, file) => [path, "-f", file, "-db"],
    head: () =>
      "global\n  nbthread 1\n  maxconn 8000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 120s\n  timeout server 120s\n",
    each: ({ folder, port, backend, name }) => `frontend ${name}
  bind 127.0.0.1:${port} ssl crt ${folder}/gateway-both.pem ca-file ${folder}/ca.pem verify required ssl-min-ver TLSv1.3 no-tls-tickets
  default_backend b-${name}
backend b-${name}
  server s 127.0.0.1:${backend}
`,
  });
}

function stunnel(): Subject | undefined {
  return proxy("stunnel", {
    version: ["-version"],
    words: (path, file) => [path, file],
    head: () => "foreground = yes\npid =\ndebug = 3\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n",
    each: ({ folder, port, backend, name }) => `[${name}]
accept = 127.0.0.1:${port}
connect = 127.0.0.1:${backend}
cert = ${folder}/gateway.pem
key = ${folder}/gateway-key.pem
CAfile = ${folder}/ca.pem
verifyChain = yes
sslVersion = TLSv1.3
options = NO_TICKET
`,
  });
}

function ghostunnel(): Subject | undefined {
  const path = find("ghostunnel");
  if (path === undefined) return undefined;
  return {
    name: "ghostunnel",
    version: firstLine([path, "--version"], /(\d+\.\d+(?:\.\d+)?)/),
    kind: "proxy",
    async start({ folder, backend }) {
      const [bulk, echo] = [await freePort(), await freePort()];
      // It serves one port a process; a shell holds both, so that they are one tree.
      const one = (port: number, target: number): string =>
        `"${path}" server --listen 127.0.0.1:${port} --target 127.0.0.1:${target} --cert ${folder}/gateway.pem --key ${folder}/gateway-key.pem --cacert ${folder}/ca.pem --allow-all --quiet all`;
      return running(["/bin/sh", "-c", `${one(bulk, backend.bulk)} & ${one(echo, backend.echo)} & wait`], { bulk, echo });
    },
  };
}

function sshd(): Subject | undefined {
  const [server, client, keygen] = [find("sshd"), find("ssh"), find("ssh-keygen")];
  if (server === undefined || client === undefined || keygen === undefined) return undefined;
  return {
    name: "sshd",
    version: firstLine([client, "-V"], /OpenSSH_(\d+\.\d+)/),
    kind: "ssh",
    async start({ folder, backend }) {
      const [port, bulk, echo] = [await freePort(), await freePort(), await freePort()];
      for (const key of ["ssh-host", "ssh-user"]) {
        if (!existsSync(join(folder, key))) execFileSync(keygen, ["-q", "-t", "ed25519", "-N", "", "-f", join(folder, key)]);
      }
      const separation = "/run/sshd"; // wanted by sshd, made by Debian's service
      const made = process.getuid?.() === 0 && !existsSync(separation);
      if (made) mkdirSync(separation, { mode: 0o755 });
      const options = [
        `Port=${port}`,
        "ListenAddress=127.0.0.1",
        `HostKey=${folder}/ssh-host`,
        `AuthorizedKeysFile=${folder}/ssh-user.pub`,
      ];
      options.push(
        "StrictModes=no",
        "UsePAM=no",
        "PermitRootLogin=prohibit-password",
        "PasswordAuthentication=no",
        "PidFile=none",
        "LogLevel=ERROR",
      );
      const daemon = new Child([server, "-D", "-e", "-f", "/dev/null", ...options.flatMap((option) => ["-o", option])]);
      const words = ["-N", "-F", "/dev/null", "-i", join(folder, "ssh-user"), "-p", String(port), "-o", "StrictHostKeyChecking=no"];
      words.push("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ExitOnForwardFailure=yes");
      words.push("-L", `127.0.0.1:${bulk}:127.0.0.1:${backend.bulk}`, "-L", `127.0.0.1:${echo}:127.0.0.1:${backend.echo}`, "127.0.0.1");
      let tunnel: Child | undefined;
      const stop = async (): Promise<void> => {
        await tunnel?.stop();
        await daemon.stop();
        if (made) rmdirSync(separation);
      };
      try {
        await whenOpen(port, daemon);
        tunnel = new Child([client, ...words]);
        await whenOpen(bulk, tunnel);
        await whenOpen(echo, tunnel);
      } catch (error) {
        await stop();
        throw error;
      }
      return { child: daemon, pid: daemon.process.pid!, bulk, echo, stop };
    },
  };
}

/** Peers on this machine, and the names of those that are not. */
export function peers(): { readonly found: readonly Subject[]; readonly absent: readonly string[] } {
  const all: Readonly<Record<string, Subject | undefined>> = {
    nginx: nginx(),
    haproxy: haproxy(),
    stunnel: stunnel(),
    ghostunnel: ghostunnel(),
    sshd: sshd(),
  };
  return {
    found: Object.values(all).filter((subject) => subject !== undefined),
    absent: Object.keys(all).filter((name) => all[name] === undefined),
  };
}

/** Certificates as every subject wants them: PEM files, keys for the owner alone. */
export function writeCertificates(folder: string, made: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(made)) {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    chmodSync(join(folder, name), name.includes("key") || name.includes("both") ? 0o600 : 0o644);
  }
}
