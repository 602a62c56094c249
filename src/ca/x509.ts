/**
 * The one place where @peculiar/x509 is loaded: it wants `reflect-metadata` first, and costs 90 ms, so nothing imports this file but
 * what is itself imported only when something is to be signed.
 */
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

x509.cryptoProvider.set(webcrypto as Crypto);

export { x509 };
