import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http"
import { json as readJson } from "node:stream/consumers"
import { Deferred, Effect, Queue, type Scope } from "effect"

export interface ProviderRequest {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: unknown
}

export type Answer = (response: ServerResponse, request: ProviderRequest) => void

export interface ProviderServer {
  readonly url: string
  /** What came in, oldest first. */
  readonly requests: Queue.Dequeue<ProviderRequest>
  /** Done when the client closed the connection before the answer was whole. */
  readonly aborted: Effect.Effect<void>
}

/** A real HTTP server on a free port that answers every request with `answer`. */
export const serve = (answer: Answer): Effect.Effect<ProviderServer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const requests = yield* Queue.unbounded<ProviderRequest>()
    const aborted = yield* Deferred.make<void>()
    const server = createServer((request, response) => {
      response.on("close", () => {
        if (!response.writableFinished) Deferred.unsafeDone(aborted, Effect.void)
      })
      readJson(request).then((body) => {
        const received = { path: request.url ?? "", headers: request.headers, body }
        answer(response, received)
        Queue.unsafeOffer(requests, received)
      })
    })
    const url = yield* Effect.acquireRelease(
      Effect.async<string>((resume) => {
        server.listen(0, "127.0.0.1", () => {
          const address = server.address()
          resume(
            address !== null && typeof address === "object"
              ? Effect.succeed(`http://127.0.0.1:${address.port}`)
              : Effect.dieMessage("the server has no port")
          )
        })
      }),
      () =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
    )
    return { url, requests, aborted: Deferred.await(aborted) }
  })

/** Where nothing listens. */
export const unusedUrl: Effect.Effect<string> = Effect.scoped(
  Effect.map(
    serve(() => {}),
    ({ url }) => url
  )
)

export const json =
  (status: number, body: unknown, headers: Record<string, string> = {}): Answer =>
  (response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body))
  }

/** Says it is JSON. */
export const text =
  (body: string): Answer =>
  (response) => {
    response.writeHead(200, { "content-type": "application/json" }).end(body)
  }

export const silence: Answer = () => {}

/** Half a JSON body, then the connection breaks. */
export const cut: Answer = (response) => {
  response.writeHead(200, { "content-type": "application/json", "content-length": "1000" })
  response.write(`{"id":`, () => response.destroy())
}

/** Half a JSON body, then nothing. */
export const stall: Answer = (response) => {
  response.writeHead(200, { "content-type": "application/json", "content-length": "1000" }).write(`{"id":`)
}

/** One server-sent event: with a name when its data has a `type`, as Anthropic and OpenAI send them. */
const toEvent = (data: unknown): string =>
  typeof data === "string"
    ? `data: ${data}\n\n`
    : typeof data === "object" && data !== null && "type" in data
      ? `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`
      : `data: ${JSON.stringify(data)}\n\n`

const events = (response: ServerResponse, data: ReadonlyArray<unknown>, then: () => void): void => {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" })
  response.write(data.map(toEvent).join(""), then)
}

export const stream =
  (data: ReadonlyArray<unknown>): Answer =>
  (response) =>
    events(response, data, () => response.end())

export const streamCut =
  (data: ReadonlyArray<unknown>): Answer =>
  (response) =>
    events(response, data, () => response.destroy())

export const streamStall =
  (data: ReadonlyArray<unknown>): Answer =>
  (response) =>
    events(response, data, () => {})
