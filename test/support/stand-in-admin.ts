/** An admin socket with a gateway behind it that only answers: what it would judge by is given, and nothing listens. */
import { serveAdmin, type AdminOptions, type Administered } from "../../src/admin.ts";
import { explainTo, type ExplainGround } from "../../src/explain.ts";
import type { GatewayStatus } from "../../src/gateway.ts";

export interface StandInOptions extends AdminOptions {
  ground(): ExplainGround;
}

export interface StandInAdmin {
  /** Of `status`; may be changed. */
  state: GatewayStatus["state"];
  close(): void;
}

export async function standInAdmin(path: string, { ground, ...options }: StandInOptions): Promise<StandInAdmin> {
  const gateway: Administered = {
    status: () => ({ state: standIn.state }),
    metrics: async () => "# HELP pipegate_x\n",
    explain: (request) => explainTo(request, ground()),
  };
  const standIn: StandInAdmin = { state: "ready", close: () => served.close() };
  const served = await serveAdmin(gateway, `unix:${path}`, options);
  return standIn;
}

/** For what asks nothing that has to be judged. */
export const unasked: StandInOptions = {
  ground: () => {
    throw new Error("nobody was to be judged");
  },
};
