/** The library's only door: re-exports, no code. */
export { connect } from "./client.ts";
export type { Client, ConnectOptions, MessagePipe, Notice, OpenOptions, Pipe, RenewOptions } from "./client/types.ts";
export { type ErrorCode, PipegateError, type PipegateErrorOptions } from "./base/error.ts";
export type { ExplainAnswer, ExplainRequest } from "./explain.ts";
export type { LogFields, Logger, LogLevel, LogValue } from "./base/log.ts";
export { type Explanation, explanations, isReason, type Reason, reasons } from "./base/reason.ts";
export { version } from "./base/software.ts";
export type { Gateway, GatewayOptions, GatewayStatus, PipeStatus, Reloaded } from "./gateway.ts";
export { createGateway, type CreateGatewayOptions, readConfig, type ReadConfigOptions } from "./gateway/create.ts";
export type { Config, InForce } from "./config/config.ts";
