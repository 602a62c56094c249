/**
 * Who a peer is: the value made once from its verified leaf certificate and handed down; no later stage touches a certificate.
 * Promises: every text is plain printable ASCII as it stood in the DER (`cn` and `issuer`: made printable).
 */
export interface Identity {
  /** The key of buckets and logs: the URI SAN, else `dns:NAME` (the first), else `cn:NAME`, else `sha256:HEX`. Survives a renewed certificate. */
  readonly principal: string;
  /** The one URI SAN, if there is one. More than one is refused (`bad_san`). */
  readonly uri: string | undefined;
  /** DNS SANs in lower case, in the order of the certificate. */
  readonly dns: readonly string[];
  /** The one common name of the subject; undefined when there is none or more than one. */
  readonly cn: string | undefined;
  /** `sha256:` and 64 lower-case hex digits of the leaf's DER. */
  readonly fingerprint: string;
  /** Another fingerprint under which its holder can show the same certificate (twin.ts); undefined: there is none. */
  readonly twin: string | undefined;
  /** Lower-case hex of the serial's bytes without DER's sign byte. */
  readonly serial: string;
  /** The issuer's name, for people. */
  readonly issuer: string;
  /** Milliseconds since the epoch; `notAfter` is the earliest of the chain. */
  readonly notBefore: number;
  readonly notAfter: number;
}
