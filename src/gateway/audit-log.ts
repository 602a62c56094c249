/** The audit log that a config asks for, with its troubles told in the log. Leaves to others: writing it (audit/), what is recorded (journal.ts). */
import type { Audit } from "../audit/audit.ts";
import { beginAudit } from "../audit/waiting.ts";
import type { Clock } from "../base/clock.ts";
import type { AuditConfig } from "../config/config.ts";
import type { Journal } from "../journal.ts";

/** Rejects with a PipegateError (config); a full disk is waited for, where the config does not refuse everybody meanwhile. */
export function beginAuditLog(
  config: AuditConfig,
  { clock, journal }: { readonly clock: Clock; readonly journal: Journal },
): Promise<Audit> {
  const told = {
    onTrouble: (detail: string) => journal.auditTroubled(detail),
    onWell: () => journal.auditWell(),
  };
  return beginAudit({ ...config, clock, ...told }, { mayWait: config.onFailure !== "refuse" });
}
