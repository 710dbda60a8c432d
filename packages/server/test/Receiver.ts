/** A real HTTP server that takes callbacks, and does with each what the test says. */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http"
import { Effect } from "effect"

export interface Received {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}
type Act = (response: ServerResponse, received: Received, before: number) => void

export const answer =
  (status: number, headers: Record<string, string> = {}, body = ""): Act =>
  (response) => {
    response.writeHead(status, headers)
    response.end(body)
  }
/** The request has arrived, and then the connection breaks. */
export const reset: Act = (response) => void response.socket?.resetAndDestroy()
export const silence: Act = () => {}
export const inTurn =
  (...acts: ReadonlyArray<Act>): Act =>
  (response, received, before) =>
    (acts[Math.min(before, acts.length - 1)] ?? silence)(response, received, before)

export const receiver = (act: Act = answer(204)) =>
  Effect.acquireRelease(
    Effect.async<{ readonly url: string; readonly received: Array<Received>; readonly close: () => void }>((resume) => {
      const received: Array<Received> = []
      const server = createServer((request, response) => {
        let body = ""
        request.setEncoding("utf8")
        request.on("data", (chunk: string) => {
          body += chunk
        })
        request.on("end", () => {
          const one = { path: request.url ?? "", headers: request.headers, body }
          received.push(one)
          act(response, one, received.length - 1)
        })
        request.on("error", () => {})
      })
      const close = () => {
        server.close()
        server.closeAllConnections()
      }
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}/hook`, received, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )
