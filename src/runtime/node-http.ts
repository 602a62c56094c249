/**
 * node:http without its facade: an `import` of a built-in module asks for everything that it exports, and node:http loads all of undici
 * for that, a quarter of the time that a gateway takes to start.
 */
import { getBuiltinModule } from "node:process";

export const { createServer, request } = getBuiltinModule("node:http");
