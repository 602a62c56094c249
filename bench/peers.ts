/**
 * The peers that are found on this machine, set up to do as pipegate does (subjects.ts). sshd is another kind: its forwarded ports are
 * plain TCP for the load, and its CPU is that of sshd alone.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { Child, freePort, whenOpen } from "./children.ts";
import { find, firstLine, running, type Subject } from "./subjects.ts";

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
