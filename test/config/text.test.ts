import { describe, expect, test } from "vitest";
import { parseConfig } from "../../src/config/load.ts";
import { configText, problemsOf } from "./problems.ts";

type Changes = Readonly<Record<string, string>>;
const target = "expected one of builtin, tcp, unix, tls";

describe("a config text", () => {
  test("that is good gives its shape, texts parsed", () => {
    expect(problemsOf(configText())).toEqual([]);
    const { shape, warnings } = parseConfig(
      configText({
        rules: 'rules: [{ clients: ["*"], targets: [echo], limits: { opens: 50/s burst 100, bytes: 1MiB/s, pipes: 3 } }]',
        maxMessage: "maxMessage: 64KiB",
      }),
    );
    expect(shape.listeners[0]!.listen).toEqual({ kind: "tcp", host: "127.0.0.1", port: 0 });
    expect(shape.rules[0]!.limits).toEqual({
      opens: { perSecond: 50, burst: 100 },
      bytes: { perSecond: 1 << 20, burst: 1 << 20 },
      pipes: 3,
    });
    expect(shape.maxMessage).toBe(65_536);
    expect(warnings).toEqual([]);
  });
  test.each<readonly [what: string, changes: Changes, ...problems: string[]]>([
    [
      "a rate without its unit",
      { rules: "rules: [{ clients: [cn:a], targets: [echo], limits: { opens: 50 } }]" },
      "c:5:62 rules[0].limits.opens: expected a rate such as 50/s burst 100, got 50; did you mean 50/s",
    ],
    [
      "bytes without a unit",
      { rules: "rules: [{ clients: [cn:a], targets: [echo], limits: { bytes: 10485760/s } }]" },
      'c:5:62 rules[0].limits.bytes: expected a rate with its unit, such as 10MiB/s burst 20MiB, got "10485760/s"; did you mean 10MiB/s',
    ],
    [
      "a rate of none",
      { rules: "rules: [{ clients: [cn:a], targets: [echo], limits: { opens: 0/s } }]" },
      'c:5:62 rules[0].limits.opens: expected a rate such as 50/s burst 100, got "0/s"; to allow none, remove the rule',
    ],
    [
      "a rate beyond counting",
      { rules: "rules: [{ clients: [cn:a], targets: [echo], limits: { bytes: 2TiB/s } }]" },
      'c:5:62 rules[0].limits.bytes: expected a rate with its unit, such as 10MiB/s burst 20MiB, got "2TiB/s"; the most is 1TiB',
    ],
    [
      "a cap of none",
      { rules: "rules: [{ clients: [cn:a], targets: [echo], limits: { pipes: 0 } }]" },
      "c:5:62 rules[0].limits.pipes: expected a whole number, 1 or more, got 0",
    ],
    [
      "half a pipe",
      { rules: "rules: [{ clients: [cn:a], targets: [echo], limits: { pipes: 1.5 } }]" },
      "c:5:62 rules[0].limits.pipes: expected a whole number, 1 or more, got 1.5",
    ],
    [
      "a number in quotes",
      { rules: 'rules: [{ clients: [cn:a], targets: [echo], limits: { pipes: "3" } }]' },
      'c:5:62 rules[0].limits.pipes: expected a whole number, 1 or more, got "3"; leave out the quotes',
    ],
    [
      "a size without its unit",
      { maxMessage: "maxMessage: 1048576" },
      "c:6:13 maxMessage: expected a size with its unit, such as 1MiB, got 1048576; did you mean 1MiB",
    ],
    [
      "a size of another kind",
      { maxMessage: "maxMessage: 5s" },
      'c:6:13 maxMessage: expected a size with its unit, such as 1MiB, got "5s"',
    ],
    [
      "a message that is too large",
      { maxMessage: "maxMessage: 2GiB" },
      'c:6:13 maxMessage: expected a size with its unit, such as 1MiB, got "2GiB"; the most is 1GiB',
    ],
    ["a misspelt key", { listeners: "listeners: [{ lisen: 127.0.0.1:0 }]" }, "c:1:15 listeners[0].lisen: unknown key; did you mean listen"],
    [
      "an unknown key",
      { identity: "identity: { certificate: a, key: b, colour: red }" },
      "c:2:37 identity.colour: unknown key; known here: certificate, key",
    ],
    [
      "a missing key",
      { identity: "identity: { certificate: a }" },
      "c:2:11 identity.key: missing; expected the path of our key, such as certs/gateway-key.pem",
    ],
    [
      "a missing section",
      { rules: "" },
      'c:1:1 rules: missing; expected a list of rules, such as [{ clients: ["dns:*.example"], targets: [db] }]',
    ],
    ["a key without a value", { trust: "trust:" }, "c:3:7 trust: expected a map of keys and values, got nothing"],
    [
      "a list where a map stands",
      { targets: "targets: [echo]", rules: "rules: []" },
      "c:4:10 targets: expected a map of keys and values, got a list",
    ],
    [
      "a map where a list stands",
      { listeners: "listeners: { listen: 127.0.0.1:0 }" },
      "c:1:12 listeners: expected a list of listeners, such as [{ listen: 0.0.0.0:8443 }], got a map",
    ],
    [
      "a text where a list stands",
      { rules: "rules: [{ clients: cn:a, targets: [echo] }]" },
      'c:5:20 rules[0].clients: expected a list of clients, such as ["spiffe://dev/agent/*"], got "cn:a"; put it in [brackets]',
    ],
    [
      "an empty list",
      { trust: "trust: { ca: [] }" },
      "c:3:14 trust.ca: expected the path of a CA's certificate or a list of them, such as [certs/ca.pem], got an empty list",
    ],
    [
      "a port alone",
      { listeners: "listeners: [{ listen: 8443 }]" },
      "c:1:23 listeners[0].listen: expected host:port or unix:PATH, such as 0.0.0.0:8443, got 8443; did you mean 127.0.0.1:8443",
    ],
    [
      "an address in bare brackets",
      { listeners: "listeners: [{ listen: [::1]:80 }]" },
      'c:1:28: not YAML: an address in brackets needs quotes, as in "[::1]:8443"',
    ],
    [
      "a duplicate key",
      { trust: "trust: { ca: a.pem }\ntrust: { ca: b.pem }" },
      "c:4:1 trust: this key stands here a second time, first on line 3; remove one of them",
    ],
    [
      "a duplicate target",
      { targets: "targets: { echo: { builtin: echo }, echo: { builtin: echo } }" },
      "c:4:37 targets.echo: this key stands here a second time, first on line 4; remove one of them",
    ],
    [
      "__proto__",
      { targets: "targets: { echo: { builtin: echo }, __proto__: { builtin: echo } }" },
      "c:4:37 targets.__proto__: this name is reserved; choose another",
    ],
    [
      "constructor",
      { targets: "targets: { echo: { builtin: echo }, constructor: { builtin: echo } }" },
      "c:4:37 targets.constructor: this name is reserved; choose another",
    ],
    ["toString as a key", { log: "log: { toString: 1 }" }, "c:6:8 log.toString: unknown key; known here: level, format"],
    [
      "an unknown word",
      { log: "log: { level: inof }" },
      'c:6:15 log.level: expected debug, info, warn or error, got "inof"; did you mean info',
    ],
    [
      "an odd target name",
      { targets: "targets: { echo: { builtin: echo }, -x: { builtin: echo } }" },
      'c:4:37 targets["-x"]: expected a name of letters, digits, dots, hyphens and underscores that begins with a letter or digit, got "-x"',
    ],
    ["a target of no kind", { targets: "targets: { echo: {} }" }, `c:4:18 targets.echo: ${target}, got an empty map`],
    ["a target of an unknown kind", { targets: "targets: { echo: { sctp: 1.2.3.4:5 } }" }, `c:4:18 targets.echo: ${target}, got "sctp"`],
    [
      "a target of a misspelt kind",
      { targets: "targets: { echo: { tpc: 1.2.3.4:5 } }" },
      "c:4:20 targets.echo.tpc: unknown key; did you mean tcp",
    ],
    [
      "a target of two kinds",
      { targets: "targets: { echo: { builtin: echo, tcp: 1.2.3.4:5 } }" },
      "c:4:35 targets.echo.tcp: builtin and tcp: expected one kind; keep one of them",
    ],
    [
      "a target that is a text",
      { targets: "targets: { echo: 1.2.3.4:5 }" },
      'c:4:18 targets.echo: expected a map with one of builtin, tcp, unix, tls, such as { tcp: 127.0.0.1:5432 }, got "1.2.3.4:5"',
    ],
    [
      "framing on a builtin",
      { targets: "targets: { echo: { builtin: echo, framing: u32 } }" },
      "c:4:35 targets.echo.framing: unknown key; known here: builtin",
    ],
    [
      "an unknown framing",
      { targets: "targets: { echo: { tcp: 1.2.3.4:5, framing: u33 } }" },
      'c:4:45 targets.echo.framing: expected u32, u16, varint, lines or bytes, got "u33"; did you mean u32',
    ],
    [
      "a dial timeout without unit",
      { targets: "targets: { echo: { tcp: 1.2.3.4:5, dialTimeout: 5 } }" },
      "c:4:49 targets.echo.dialTimeout: expected a time with its unit, such as 5s, got 5; did you mean 5s",
    ],
    [
      "one bad address of two",
      { targets: "targets: { echo: { tcp: [1.2.3.4:5, 1.2.3.4] } }" },
      'c:4:37 targets.echo.tcp[1]: expected host:port, such as 10.0.0.5:5432, got "1.2.3.4"; the port is missing',
    ],
    [
      "unix: twice",
      { targets: "targets: { echo: { unix: unix:/run/x } }" },
      'c:4:26 targets.echo.unix: expected the path of a socket, such as /run/redis.sock, got "unix:/run/x"; did you mean /run/x',
    ],
    [
      "a certificate without its key",
      { targets: "targets: { echo: { tls: a:1, certificate: x } }" },
      "c:4:43 targets.echo.certificate: a certificate without its key; add key",
    ],
    [
      "a key without its certificate",
      { targets: "targets: { echo: { tls: a:1, key: x } }" },
      "c:4:35 targets.echo.key: a key without its certificate; add certificate",
    ],
    [
      "no targets",
      { targets: "targets: {}", rules: "rules: []" },
      "c:4:10 targets: expected at least one target, such as echo: { builtin: echo }, got an empty map",
    ],
    [
      "a rule for a target that is not there",
      { rules: "rules: [{ clients: [cn:a], targets: [ecko] }]" },
      'c:5:38 rules[0].targets[0]: there is no target "ecko"; did you mean echo',
    ],
    [
      "a listener for a target that is not there",
      { listeners: "listeners: [{ listen: 127.0.0.1:0, target: database }]" },
      'c:1:44 listeners[0].target: there is no target "database"; there are echo',
    ],
    [
      "a server name for a target that is not there",
      { listeners: "listeners: [{ listen: 127.0.0.1:0, serverNames: { a.example: eco } }]" },
      'c:1:62 listeners[0].serverNames["a.example"]: there is no target "eco"; did you mean echo',
    ],
    [
      "an odd server name",
      { listeners: "listeners: [{ listen: 127.0.0.1:0, serverNames: { 10.0.0.1: echo } }]" },
      'c:1:51 listeners[0].serverNames["10.0.0.1"]: expected a server name such as db.example, got "10.0.0.1"',
    ],
    [
      "a server name twice",
      { listeners: "listeners: [{ listen: 127.0.0.1:0, serverNames: { a.b: echo, A.b: echo } }]" },
      'c:1:67 listeners[0].serverNames["A.b"]: the same name as a.b; capitals do not matter',
    ],
    [
      "ALPN without a target",
      { listeners: "listeners: [{ listen: 127.0.0.1:0, alpn: [http/1.1] }]" },
      "c:1:42 listeners[0].alpn: it says what raw clients may ask for, and this listener has no target for them; add target or serverNames",
    ],
    [
      "our own ALPN",
      { listeners: "listeners: [{ listen: 127.0.0.1:0, target: echo, alpn: [pipegate/1] }]" },
      'c:1:57 listeners[0].alpn[0]: expected a protocol name such as postgresql or http/1.1, got "pipegate/1"; it is always there; leave it out',
    ],
    [
      "the same ALPN twice",
      { listeners: "listeners: [{ listen: 127.0.0.1:0, target: echo, alpn: [a, b, a] }]" },
      "c:1:63 listeners[0].alpn[2]: it stands here a second time",
    ],
    [
      "two listeners on one address",
      { listeners: "listeners: [{ listen: 127.0.0.1:1 }, { listen: 0.0.0.0:1 }]" },
      "c:1:48 listeners[1].listen: 0.0.0.0:1 is taken by listeners[0].listen (127.0.0.1:1)",
    ],
    [
      "the admin socket on a listener's",
      { listeners: "listeners: [{ listen: unix:a/../x }]", admin: "admin: { listen: unix:x }" },
      "c:6:18 admin.listen: unix:x is taken by listeners[0].listen (unix:a/../x)",
    ],
    [
      "an admin port",
      { admin: "admin: { listen: 127.0.0.1:9000 }" },
      'c:6:18 admin.listen: expected unix:PATH, such as unix:/run/pipegate/admin.sock, got "127.0.0.1:9000"; it asks for no certificate, so it is a unix socket',
    ],
    [
      "a client pattern",
      { rules: "rules: [{ clients: [dns:a*.b], targets: [echo] }]" },
      'c:5:21 rules[0].clients[0]: expected a client such as spiffe://dev/agent/* or dns:*.ci.example, got "dns:a*.b"; character 6: * stands only for the whole first label; write dns:*.NAME',
    ],
    [
      "a target pattern",
      { rules: "rules: [{ clients: [cn:a], targets: [e**] }]" },
      'c:5:38 rules[0].targets[0]: expected the name of a target, or a pattern such as db-*, got "e**"; character 2: ** says no more than *; write one *',
    ],
    [
      "a path that is none",
      { trust: 'trust: { ca: "" }' },
      `c:3:14 trust.ca: expected the path of a CA's certificate, such as certs/ca.pem, got ""`,
    ],
    [
      "a word of a later version",
      { trust: "trust: { ca: ca.pem, ocsp: true, connect: 5s }" },
      "c:3:22 trust.ocsp: unknown key; known here: ca, crl, maxStaleness, onExpired, deny",
      "c:3:34 trust.connect: this version of pipegate does not have it yet; remove it",
    ],
    [
      "balance",
      { targets: "targets: { echo: { tcp: 1.2.3.4:5, balance: least-connections } }" },
      "c:4:36 targets.echo.balance: this version of pipegate does not have it yet; remove it",
    ],
    [
      "exec",
      { targets: "targets: { echo: { exec: [/bin/cat] } }" },
      "c:4:20 targets.echo.exec: this version of pipegate does not have it yet; remove it",
    ],
    [
      "udp",
      { targets: "targets: { echo: { udp: 1.2.3.4:5 } }" },
      "c:4:20 targets.echo.udp: this version of pipegate does not have it yet; remove it",
    ],
    [
      "agent",
      { targets: 'targets: { echo: { agent: ["cn:a"] } }' },
      "c:4:20 targets.echo.agent: this version of pipegate does not have it yet; remove it",
    ],
    [
      "a serial that is none",
      { trust: 'trust: { ca: ca.pem, deny: ["serial:0x1a"] }' },
      'c:3:29 trust.deny[0]: expected a client such as spiffe://dev/agent/mallory, or a serial such as serial:0a1b2c, got "serial:0x1a"; write its hex digits, with or without colons',
    ],
    [
      "a deny-list of everyone",
      { trust: 'trust: { ca: ca.pem, deny: ["*"] }' },
      'c:3:29 trust.deny[0]: expected a client such as spiffe://dev/agent/mallory, or a serial such as serial:0a1b2c, got "*"; to turn everyone away, leave the rules empty',
    ],
    [
      "a shadow that is neither",
      { rules: "rules: [{ clients: [cn:a], targets: [echo], shadow: maybe }]" },
      'c:5:53 rules[0].shadow: expected true or false, got "maybe"',
    ],
    ["a self-test that is off by mistake", { selfTest: "selfTest: off" }, 'c:6:11 selfTest: expected required or skip, got "off"'],
    ["a self-test without a value", { selfTest: "selfTest:" }, "c:6:10 selfTest: expected required or skip, got nothing"],
    ["no workers", { workers: "workers: 0" }, "c:6:10 workers: expected a whole number, 1 or more, got 0"],
    ["more workers than there may be", { workers: "workers: 65" }, "c:6:10 workers: expected a whole number up to 64, got 65"],
    ["workers that are no number", { workers: "workers: all" }, 'c:6:10 workers: expected a whole number or auto, got "all"'],
    ["dashboard", { dashboard: "dashboard: true" }, "c:6:1 dashboard: this version of pipegate does not have it yet; remove it"],
    [
      "a text that would break the line",
      { log: 'log: { level: "in\\nfo\\u202e" }' },
      'c:6:15 log.level: expected debug, info, warn or error, got "in\\u{a}fo\\u{202e}"; did you mean info',
    ],
  ])("refuses %s", (_, changes, ...problems) => {
    expect(problemsOf(configText(changes as Changes))).toEqual(problems);
  });
  test("tells all that is wrong at once, in the order of the file", () => {
    const text = configText({
      listeners: "listeners: [{ listen: 1 }, { lsten: 127.0.0.1:0 }]",
      trust: "trust: { ca: [1], x: 1, y: 2 }",
      rules: "rules: [{ clients: [], targets: [nope] }]",
    });
    expect(problemsOf(text).map((line) => line.split(": ")[0])).toEqual([
      "c:1:23 listeners[0].listen",
      "c:1:30 listeners[1].lsten",
      "c:3:15 trust.ca[0]",
      "c:3:19 trust.x",
      "c:3:25 trust.y",
      "c:5:20 rules[0].clients",
      "c:5:34 rules[0].targets[0]",
    ]);
  });
  test("with one bad rule among 100 tells which", () => {
    const rules = Array.from(
      { length: 100 },
      (_, index) => `  - { clients: ["cn:c${index}"], targets: [${index === 61 ? "ecko" : "echo"}] }`,
    );
    expect(problemsOf(configText({ rules: `rules:\n${rules.join("\n")}` }))).toEqual([
      'c:67:38 rules[61].targets[0]: there is no target "ecko"; did you mean echo',
    ]);
  });
  test("with a thousand faults shows a hundred and counts the others", () => {
    const lines = problemsOf(configText({ log: `log: { ${Array.from({ length: 1000 }, (_, index) => `x${index}: 1`).join(", ")} }` }));
    expect(lines).toHaveLength(101);
    expect(lines.at(-1)).toBe("c: and 900 more");
  });
});

describe("what is no YAML for a config", () => {
  test.each([
    ["nothing", "", "c:1:1: the config is empty; pipegate demo writes one to start from"],
    ["a comment only", "# x\n", "c:1:1: the config is empty; pipegate demo writes one to start from"],
    ["a byte-order mark only", "\ufeff", "c:1:1: the config is empty; pipegate demo writes one to start from"],
    ["a tab", "log:\n\tlevel: info\n", "c:2:1: not YAML: a tab; indent with spaces"],
    ["two documents", "log: {}\n---\nlog: {}\n", "c:2:1: a second document begins here; a config is one document"],
    ["YAML 1.1", "%YAML 1.1\n---\nlog: {}\n", "c:1:1: expected YAML 1.2, got 1.1; remove the %YAML line"],
    ["a tag", "log: !!js/function x\n", "c:1:6: a tag that a config cannot have; remove the word that begins with !"],
    ["a quote that does not end", 'log: "x\n', 'c:2:1: not YAML: Missing closing "quote'],
    ["a list as a key", "[a]: 1\n", "c:1:1: a key is one plain word, not a list or a map"],
    ["a depth without end", "[".repeat(100_000), "c:1:"],
    ["an alias of nothing", "log: *lgo\n", "c:1:6 log: nothing above is called &lgo"],
    ["an alias of itself", "log: &a { level: *a }\n", "c:1:18 log.level: *a stands inside of itself"],
  ])("%s is refused with its place", (_, text, expected) => {
    expect(problemsOf(text)).toContainEqual(expect.stringContaining(expected));
  });
  test("a text, a number and a list are no map", () => {
    for (const text of ["hello\n", "42\n", "- a\n"])
      expect(problemsOf(text)[0]).toMatch(/^c:1:1: expected a map of keys and values, got ("hello"|42|a list)$/);
  });
  test("aliases may share what stands above, and are bounded", () => {
    const limits = "limits: &usual { opens: 5/s }";
    const rules = (more: string): string => configText({ rules: `rules:\n- { clients: [cn:a], targets: [echo], ${limits} }\n${more}` });
    expect(parseConfig(rules("- { clients: [cn:b], targets: [echo], limits: *usual }")).shape.rules[1]!.limits).toEqual({
      opens: { perSecond: 5, burst: 5 },
    });
    const many = Array.from({ length: 1001 }, (_, index) => `- { clients: [cn:b${index}], targets: [echo], limits: *usual }`).join("\n");
    expect(problemsOf(rules(many))).toEqual(["c:1007:51 rules[1001].limits: more than 1000 aliases"]);
    const bomb = [
      "a: &a [x,x,x,x,x,x,x,x,x]",
      ..."bcdefghi".split("").map((key, index) => `${key}: &${key} [${Array(9).fill(`*${"abcdefgh"[index]}`).join(",")}]`),
    ].join("\n");
    expect(problemsOf(bomb).join("\n")).toMatch(/more than 1000 aliases/);
  });
  test("a position inside an alias is that of what it stands for", () => {
    const text = configText({
      rules:
        "rules:\n- { clients: [cn:a], targets: [echo], limits: &usual { opens: 5 } }\n- { clients: [cn:b], targets: [echo], limits: *usual }",
    });
    expect(problemsOf(text).map((line) => line.split(": ")[0])).toEqual(["c:6:63 rules[0].limits.opens", "c:6:63 rules[1].limits.opens"]);
  });
});

describe("a warning", () => {
  const warningsOf = (changes: Changes): readonly string[] => parseConfig(configText(changes), { file: "c" }).warnings;
  test.each<readonly [what: string, changes: Changes, ...warnings: string[]]>([
    [
      "that a pattern fits no target",
      { rules: 'rules: [{ clients: ["*"], targets: [echo, db-*] }]' },
      "c:5:43 rules[0].targets[1]: no target fits db-*",
    ],
    ["that there are no rules", { rules: "rules: []" }, "c:5:8 rules: there are no rules, so everyone is refused"],
    [
      "that nobody can reach a target",
      { targets: "targets: { echo: { builtin: echo }, db: { tcp: a:1 } }" },
      "c:4:41 targets.db: no rule lets anybody reach it",
    ],
    [
      "that a rule can never answer",
      {
        rules:
          'rules:\n- { clients: ["spiffe://dev/agent/*", "dns:*.x.y"], targets: ["e*"] }\n- { clients: ["spiffe://dev/agent/a", "dns:a.x.y", "dns:*.X.y"], targets: [echo] }',
      },
      "c:7:3 rules[1]: it can never answer, because rules[0] matches everything that it matches",
    ],
    [
      "that all rules are shadow rules",
      { rules: "rules: [{ clients: [cn:a], targets: [echo], shadow: true }]" },
      "c:5:8 rules: all rules are shadow rules, which decide nothing, so everyone is refused",
    ],
    [
      "that only a shadow rule names a target",
      {
        targets: "targets: { echo: { builtin: echo }, db: { tcp: a:1 } }",
        rules: "rules:\n- { clients: [cn:a], targets: [db], shadow: true }\n- { clients: [cn:a], targets: [echo] }",
      },
      "c:4:41 targets.db: no rule lets anybody reach it",
    ],
    [
      "that a shadow rule behind what answers first will tell nothing, and of nothing that stands behind a shadow rule",
      {
        rules:
          'rules:\n- { clients: ["*"], targets: ["*"], shadow: true }\n- { clients: ["*"], targets: [echo] }\n- { clients: ["spiffe://dev/**"], targets: [echo], shadow: true }',
      },
      "c:8:3 rules[2]: this shadow rule will never tell anything, because rules[1] matches everything that it matches",
    ],
    [
      "that everyone came before",
      {
        rules:
          'rules:\n- { clients: ["*"], targets: ["*"] }\n- { clients: ["spiffe://dev/**", "*"], targets: [echo] }\n- { clients: [cn:a], targets: [echo] }',
      },
      "c:7:3 rules[1]: it can never answer, because rules[0] matches everything that it matches",
    ],
    [
      "that a burst is smaller than what pipes carry at once",
      { rules: 'rules: [{ clients: ["*"], targets: [echo], limits: { bytes: 1MiB/s burst 1KiB } }]' },
      "c:5:61 rules[0].limits.bytes: pipes carry up to 64KiB at once, so a burst of 1KiB comes in jumps; write 1MiB/s burst 64KiB",
    ],
    [
      "that one second's worth is too small a burst",
      { rules: 'rules: [{ clients: ["*"], targets: [echo], limits: { bytes: 1KiB/s } }]' },
      "c:5:61 rules[0].limits.bytes: pipes carry up to 64KiB at once, so a burst of 1KiB comes in jumps; write 1KiB/s burst 64KiB",
    ],
    ["nothing of a burst that just fits", { rules: 'rules: [{ clients: ["*"], targets: [echo], limits: { bytes: 1KiB/s burst 64KiB } }]' }],
    [
      "of none of rules that only overlap",
      {
        rules:
          'rules:\n- { clients: ["spiffe://dev/a/*", cn:a], targets: [echo] }\n- { clients: ["spiffe://dev/**", cn:b], targets: [echo] }\n- { clients: ["spiffe://dev/a/b"], targets: ["*"] }',
      },
    ],
  ])("tells %s", (_, changes, ...warnings) => {
    expect(warningsOf(changes as Changes)).toEqual(warnings);
  });
});
