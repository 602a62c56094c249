/** What a program sees of the client: options with their units and defaults, pipes, and the client itself. */
import type { Duplex } from "node:stream";

export interface ConnectOptions {
  /** `host:port`, `[v6]:port`, or `unix:/path` (then `serverName` is needed). */
  readonly gateway: string;
  /** Our certificate, PEM text: leaf first, then the chain. */
  readonly certificate: string;
  /** Its private key, PEM text. */
  readonly key: string;
  /** The CA that the gateway's certificate must come from, PEM text; several may stand in one text. Public roots are never used. */
  readonly ca: string;
  /** The name that the gateway's certificate must carry. Default: the host of `gateway`. */
  readonly serverName?: string;
  /** Gives up connecting when it fires; afterwards, closes the client. */
  readonly signal?: AbortSignal;
  /** For the whole way to the gateway's welcome, milliseconds. */
  readonly timeoutMs?: number;
  /** Largest message that we take, bytes, up to 2^32-1; a larger one breaks its pipe. What we may send is the gateway's to say. */
  readonly maxMessageBytes?: number;
  /** The gateway has something to say that changes nothing yet. */
  readonly onNotice?: (notice: Notice) => void;
}

/** Less than a third of our certificate's life is left: at `at` it ends, and every pipe with it. */
export interface Notice {
  readonly kind: "certificate_expires";
  readonly at: Date;
}

export interface RenewOptions {
  /** As in ConnectOptions. */
  readonly certificate: string;
  readonly key: string;
  /** Default: those that are trusted already. */
  readonly ca?: string;
}

export const connectDefaults = { timeoutMs: 15_000, maxMessageBytes: 1 << 20 } as const;

export interface OpenOptions {
  /** Keep message boundaries: the pipe is a MessagePipe. */
  readonly messages?: boolean;
  /** Gives up opening when it fires; afterwards, breaks the pipe off. */
  readonly signal?: AbortSignal;
  /** Share of the connection beside other pipes, 1..255; 16 is the usual one. */
  readonly weight?: number;
  /** How long to wait for the gateway to accept, milliseconds. */
  readonly timeoutMs?: number;
}

export const openDefaults = { timeoutMs: 15_000 } as const;

interface AnyPipe extends AsyncDisposable {
  readonly target: string;
  /** Resolves when both directions ended cleanly; rejects with a PipegateError when the pipe broke. Need not be awaited. */
  readonly closed: Promise<void>;
  /** Ends our direction, throws away what still comes and waits for their end, 5 s at most; then breaks off. Never rejects. */
  close(): Promise<void>;
  /** Breaks both directions off at once: the other side sees a break, never an end. */
  abort(): void;
  /** As `close` when the writing side was ended before, else as `abort`: half a payload must not look like a whole one. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** A pipe of bytes. Read and write through the web streams, or through `duplex()`; not through both. */
export interface Pipe extends AnyPipe {
  /** Ends when the target ends its direction; errors with a PipegateError when the pipe broke. Cancelling it breaks the pipe off. */
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** A write settles when more may follow; the buffer may be used again then. Closing it ends our direction only; aborting it breaks the pipe off. */
  readonly writable: WritableStream<Uint8Array>;
  /** The same as a Node stream; `end()` ends our direction only, `destroy()` breaks the pipe off. */
  duplex(): Duplex;
}

/** A pipe of messages: what was sent as one arrives as one. */
export interface MessagePipe extends AnyPipe, AsyncIterable<Uint8Array<ArrayBuffer>> {
  /** Largest message that may be sent, bytes. */
  readonly maxMessageBytes: number;
  /** Settles when more may follow. Rejects with `message_too_large` (the pipe lives on) or with what broke the pipe. */
  send(message: Uint8Array): Promise<void>;
  /** The next whole message; undefined after the target ended its direction. Rejects when the pipe broke. */
  receive(): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Ends our direction; answers still come. */
  closeWrite(): void;
  /** All messages that come, as `receive`. Leaving the loop early leaves the pipe open. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Uint8Array<ArrayBuffer>>;
}

/** One session with a gateway; pipes share its connection. While a renewed certificate takes over there are two. */
export interface Client extends AsyncDisposable {
  readonly gateway: string;
  /** Opens a pipe; resolves once the gateway accepted. Rejects with a PipegateError that carries the reason of a refusal. */
  open(target: string, options?: OpenOptions & { readonly messages?: false }): Promise<Pipe>;
  open(target: string, options: OpenOptions & { readonly messages: true }): Promise<MessagePipe>;
  /**
   * Connects with this certificate, too: pipes that are opened from then on belong to it, and the old connection is closed when its last
   * pipe has ended. Pipes that are open are not touched. Rejects with a PipegateError that says why not; then everything goes on as it was.
   */
  renew(options: RenewOptions): Promise<void>;
  /** Resolves when the client ended by `close`; rejects with a PipegateError when the session in use broke. Need not be awaited. */
  readonly closed: Promise<void>;
  /** Breaks live pipes off and ends the connection. Never rejects. */
  close(): Promise<void>;
}
