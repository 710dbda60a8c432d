import { createServer, type IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import { Effect } from "effect"
import { type WebSocket, WebSocketServer } from "ws"

/** A server that is no gateway, and how often it was asked for anything. */
export const stranger = (onUpgrade: (socket: Duplex, request: IncomingMessage, head: Buffer) => void) =>
  Effect.acquireRelease(
    Effect.async<{ readonly url: string; readonly asked: () => number; readonly close: () => void }>((resume) => {
      let asked = 0
      const server = createServer((_, response) => response.end())
      server.on("connection", () => {
        asked += 1
      })
      server.on("upgrade", (request, socket, head) => {
        // Who is sent away may hang up with a reset, and Node.js leaves an upgraded socket without a listener.
        socket.on("error", () => socket.destroy())
        onUpgrade(socket, request, head)
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        const close = (): void => void server.close().closeAllConnections()
        resume(Effect.succeed({ url: `ws://127.0.0.1:${port}/ws`, asked: () => asked, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

/** One that sends everybody on to `url`. */
export const redirecting = (url: string) =>
  stranger((socket) =>
    socket.end(`HTTP/1.1 302 Found\r\nlocation: ${url}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`)
  )

const limits = { maxPayload: 1e6, maxMessagesPerMinute: 600, heartbeatIntervalMs: 30_000, reconnectTimeoutMs: 60_000 }

/** One that welcomes everybody, tells them to come back to `url`, by every name that could have, and hangs up. */
export const luring = (url: string) => {
  const said: Array<string> = []
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: 1e6,
    perMessageDeflate: false,
    clientTracking: false,
    closeTimeout: 5_000
  })
  const answer = (socket: WebSocket, text: string): void => {
    said.push(text)
    const elsewhere = { url, gatewayUrl: url, resumeUrl: url, location: url }
    const welcome = {
      protocol: 1,
      connectionId: "c",
      resumed: false,
      resumeToken: "r",
      principal: "ada",
      scopes: ["client"],
      limits,
      cursor: "0",
      ...elsewhere
    }
    socket.send(JSON.stringify({ jsonrpc: "2.0", id: 0, result: welcome, ...elsewhere }))
    socket.close(1012, url)
  }
  const server = stranger((socket, request, head) =>
    sockets.handleUpgrade(request, socket, head, (opened) =>
      opened.once("message", (data: Buffer) => answer(opened, data.toString("utf8")))
    )
  )
  return Effect.map(server, ({ url }) => ({ url, said }))
}
