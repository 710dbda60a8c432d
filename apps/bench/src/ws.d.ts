/** What the benchmark uses of `ws`, which brings no types of its own. */
declare module "ws" {
  import type { EventEmitter } from "node:events"

  export class WebSocket extends EventEmitter {
    constructor(url: string)
    send(data: string | Buffer, options?: { readonly binary?: boolean }): void
    terminate(): void
  }
  export class WebSocketServer extends EventEmitter {
    constructor(options: { readonly port: number; readonly host: string; readonly perMessageDeflate: false })
    readonly clients: Set<WebSocket>
    address(): { readonly port: number }
    close(done: () => void): void
  }
}
