/** Fresh certificates for tests over real TLS: a CA, and leaves signed by it. Independent of src/ca, which is under test itself. */
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

x509.cryptoProvider.set(webcrypto as unknown as Crypto);

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const day = 24 * 3600 * 1000;

export interface Issued {
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
}

export interface LeafOptions {
  readonly role: "gateway" | "client";
  readonly cn?: string;
  readonly uri?: string;
  readonly dns?: readonly string[];
  readonly ip?: readonly string[];
  /** Milliseconds since the epoch. Default: a minute ago and a day from now. */
  readonly notBefore?: number;
  readonly notAfter?: number;
}

export interface TestCa extends Issued {
  issue(options: LeafOptions): Promise<Issued>;
  /** For localhost and 127.0.0.1. */
  gateway(): Promise<Issued>;
  /** `spiffe://dev/agent/NAME`. */
  client(name: string): Promise<Issued>;
}

async function keyPair(): Promise<{ readonly keys: webcrypto.CryptoKeyPair; readonly pem: string }> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const der = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { keys, pem: x509.PemConverter.encode(der, "PRIVATE KEY") };
}

export async function createTestCa(name = "test CA"): Promise<TestCa> {
  const { keys, pem } = await keyPair();
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + day),
    signingAlgorithm: algorithm,
    keys: keys as CryptoKeyPair,
    serialNumber: serial(),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey as CryptoKey),
    ],
  });
  const issue = async (options: LeafOptions): Promise<Issued> => {
    const leaf = await keyPair();
    const names: x509.JsonGeneralName[] = [
      ...(options.uri === undefined ? [] : [{ type: "url" as const, value: options.uri }]),
      ...(options.dns ?? []).map((value) => ({ type: "dns" as const, value })),
      ...(options.ip ?? []).map((value) => ({ type: "ip" as const, value })),
    ];
    const certificate = await x509.X509CertificateGenerator.create({
      ...(options.cn === undefined ? {} : { subject: `CN=${options.cn}` }),
      issuer: ca.subject,
      notBefore: new Date(options.notBefore ?? Date.now() - 60_000),
      notAfter: new Date(options.notAfter ?? Date.now() + day),
      signingAlgorithm: algorithm,
      publicKey: leaf.keys.publicKey as CryptoKey,
      signingKey: keys.privateKey as CryptoKey,
      serialNumber: serial(),
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([
          options.role === "gateway" ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth,
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(keys.publicKey as CryptoKey),
        ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names, options.cn === undefined)] : []),
      ],
    });
    return { certificate: certificate.toString("pem"), key: leaf.pem };
  };
  return {
    certificate: ca.toString("pem"),
    key: pem,
    issue,
    gateway: () => issue({ role: "gateway", cn: "gateway", dns: ["localhost"], ip: ["127.0.0.1"] }),
    client: (client) => issue({ role: "client", uri: `spiffe://dev/agent/${client}` }),
  };
}

function serial(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16));
  bytes[0]! &= 0x7f;
  return Buffer.from(bytes).toString("hex");
}
