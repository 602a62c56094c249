/**
 * What went wrong between dialling and the gateway's welcome, told to a person: what it was, and what to check.
 * The TLS stack of a gateway cannot say why it refuses (in TLS 1.3 our side of the handshake looks complete by then), so what we know
 * of our own certificate is said instead. Values in, an error out.
 */
import { PipegateError } from "../base/error.ts";
import { explanations, type Reason } from "../base/reason.ts";
import type { OwnCertificate } from "./credentials.ts";

export interface Failure {
  /** credentials: ours cannot be used; dial: no connection; handshake: TLS failed; welcome: the gateway ended it before it let us in. */
  readonly phase: "credentials" | "dial" | "handshake" | "welcome";
  /** The runtime's code, "" without one. */
  readonly code: string;
  readonly message: string;
}

export interface Attempt {
  /** As the user named it. */
  readonly gateway: string;
  readonly serverName: string;
  readonly own: OwnCertificate;
  /** Subjects of the CAs that we trust. */
  readonly ca: readonly string[];
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export function explainFailure(failure: Failure, attempt: Attempt): PipegateError {
  if (failure.phase === "credentials") return unusable(failure);
  if (failure.phase === "dial") return unreachable(failure, attempt);
  const alert = /ALERT_(\w+)$/u.exec(failure.code)?.[1];
  if (alert !== undefined) return alerted(alert, attempt);
  return failure.phase === "handshake" ? badHandshake(failure, attempt) : closedWithoutAWord(attempt);
}

function unusable({ message }: Failure): PipegateError {
  return new PipegateError("config", `the TLS stack does not take our certificate, its chain or its key (${message})`, {
    next: "check that each certificate is whole, and that RSA keys have 2048 bits or more",
  });
}

function unreachable({ code, message }: Failure, { gateway }: Attempt): PipegateError {
  switch (code) {
    case "ECONNREFUSED":
    case "ENOENT":
      return new PipegateError("unreachable", `nothing listens at ${gateway}`, { next: "start the gateway, or check its address" });
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "EAI_NODATA":
      return new PipegateError("unreachable", `the name in ${gateway} cannot be resolved`, {
        next: "check its spelling and the DNS of this host",
      });
    default:
      return new PipegateError("unreachable", `${gateway} cannot be reached (${code || message})`, {
        next: "check the network and the firewalls between",
      });
  }
}

/** Alerts by which a TLS stack refuses a certificate. */
const refusals: Readonly<Record<string, Reason>> = {
  CERTIFICATE_REQUIRED: "no_certificate",
  UNKNOWN_CA: "unknown_issuer",
  CERTIFICATE_EXPIRED: "cert_expired",
  CERTIFICATE_REVOKED: "revoked",
  UNSUPPORTED_CERTIFICATE: "wrong_usage",
  BAD_CERTIFICATE: "unknown_issuer",
  CERTIFICATE_UNKNOWN: "unknown_issuer",
  ACCESS_DENIED: "unknown_issuer",
};

function alerted(alert: string, attempt: Attempt): PipegateError {
  const { gateway } = attempt;
  if (alert === "NO_APPLICATION_PROTOCOL") {
    return new PipegateError("alpn", `what listens at ${gateway} does not speak pipegate/1`, {
      next: "check that the address is the gateway's",
    });
  }
  if (alert === "PROTOCOL_VERSION") {
    return new PipegateError("not_tls", `what listens at ${gateway} does not speak TLS 1.3`, {
      next: "check that the address is the gateway's",
    });
  }
  const reason = refusals[alert];
  if (reason) return notAccepted(reason, attempt);
  return new PipegateError("unreachable", `the TLS handshake with ${gateway} failed (alert ${alert.toLowerCase()})`, {
    next: "look into the log of the gateway",
  });
}

function badHandshake({ code, message }: Failure, { gateway, serverName, ca }: Attempt): PipegateError {
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    const names = /altnames: (DNS:.*|IP.*)$/u.exec(message)?.[1];
    return new PipegateError(
      "untrusted_gateway",
      `the certificate of ${gateway} is not for ${serverName}${names ? `, but for ${names}` : ""}`,
      {
        next: "pass --server-name with a name that it carries, or check the address",
      },
    );
  }
  if (code === "CERT_HAS_EXPIRED" || code === "CERT_NOT_YET_VALID") {
    const what = code === "CERT_HAS_EXPIRED" ? "has expired" : "is not valid yet";
    return new PipegateError("untrusted_gateway", `the certificate of ${gateway} ${what}`, {
      next: "have it renewed, or check the clock of this host",
    });
  }
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || code === "ERR_SSL_PACKET_LENGTH_TOO_LONG") {
    return new PipegateError("not_tls", `what listens at ${gateway} does not speak TLS`, {
      next: "check that the address is the gateway's",
    });
  }
  if (/^(?:SELF_SIGNED|DEPTH_ZERO|UNABLE_TO|CERT_|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH|HOSTNAME)/u.test(code)) {
    return new PipegateError(
      "untrusted_gateway",
      `the certificate of ${gateway} does not come from the CA that we trust: ${ca.join("; ")} (${code})`,
      {
        next: "pass --ca with the CA that issued the gateway's certificate",
      },
    );
  }
  return new PipegateError("unreachable", `${gateway} broke the TLS handshake off (${code || message})`, {
    next: "check that the address is the gateway's, and look into its log",
  });
}

/** Most likely our certificate, which Node's TLS stack refuses so; but a gateway that is being restarted looks the same. */
function closedWithoutAWord(attempt: Attempt): PipegateError {
  const { own, gateway } = attempt;
  if (seenOf(attempt) !== "unknown_issuer") return notAccepted("unknown_issuer", attempt);
  return new PipegateError(
    "unknown_issuer",
    `${gateway} closed the connection without a word, as it does when it does not accept our certificate: issued by ${own.issuer}`,
    {
      next: "have it issued by a CA that the gateway trusts, or have this one added to its trust.ca; if the gateway was just started, try again",
    },
  );
}

/** What we can see of our own certificate. */
function seenOf({ own, now }: Attempt): Reason {
  return own.notAfter < now ? "cert_expired" : own.notBefore > now ? "not_yet_valid" : "unknown_issuer";
}

/** The gateway's TLS stack did not take our certificate for `reason`; the broadest one is narrowed by what we can see ourselves. */
function notAccepted(reason: Reason, attempt: Attempt): PipegateError {
  const { own, gateway, now } = attempt;
  const code = reason === "unknown_issuer" ? seenOf(attempt) : reason;
  const about = code === "cert_expired" && own.notAfter < now ? `it expired ${timeText(own.notAfter)}` : `issued by ${own.issuer}`;
  const next =
    code === "unknown_issuer"
      ? "have it issued by a CA that the gateway trusts, or have this one added to its trust.ca"
      : explanations[code].next;
  return new PipegateError(code, `${gateway} did not accept our certificate: ${about}`, { next });
}

function timeText(at: number): string {
  return `${new Date(at).toISOString().slice(0, 16)}Z`;
}
