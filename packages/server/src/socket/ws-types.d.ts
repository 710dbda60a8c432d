/** What this package uses of `ws`, which brings no types of its own. */
declare module "ws" {
  import type { EventEmitter } from "node:events"
  import type { IncomingMessage } from "node:http"
  import type { Duplex } from "node:stream"

  export class WebSocket extends EventEmitter {
    constructor(url: string, options?: { readonly headers?: Readonly<Record<string, string>>; readonly ca?: Buffer })
    /** Bytes that wait to be sent. */
    readonly bufferedAmount: number
    send(data: string | Buffer, options?: { readonly binary?: boolean }): void
    /** `done` is called once it has left, with all before it, or cannot any more. */
    ping(data?: undefined, mask?: undefined, done?: () => void): void
    close(code?: number, reason?: string): void
    terminate(): void
    /** Reads nothing until `resume`. */
    pause(): void
    resume(): void
  }
  export interface ServerOptions {
    readonly noServer: true
    readonly maxPayload: number
    readonly perMessageDeflate: false
    readonly clientTracking: false
    readonly closeTimeout: number
  }
  export class WebSocketServer extends EventEmitter {
    constructor(options: ServerOptions)
    handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, opened: (socket: WebSocket) => void): void
    close(): void
  }
}
