import { createHmac } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { request as httpRequest, type OutgoingHttpHeaders } from "node:http"
import { createRequire } from "node:module"
import { connect, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { RunResult, RunTask } from "@postilion/gateway"
import { type AgentRunError, type Gateway, Store } from "@postilion/gateway"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import { HttpAddress, Postilion, type PostilionConfigInput, SqliteStorage } from "@postilion/server"
import { Effect, Layer, Schema } from "effect"

export const SECRET = "It's a Secret to Everybody"
export const ADA = "token-of-ada"
export const MALLORY = "token-of-mallory"

export const tempDir = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "postilion-"))),
  (dir) => Effect.sync(() => rmSync(dir, { recursive: true, force: true }))
)

export type Respond = (task: RunTask) => Effect.Effect<RunResult, AgentRunError>

export const result = (text: string): RunResult => ({
  text,
  usage: { inputTokens: 10, outputTokens: 5 },
  model: "scripted"
})
export const done: Respond = (task) => Effect.succeed(result(`done: ${task.taskDescription}`))

/** A server with real sockets, in memory unless `storage` says where, with a webhook for GitHub and two principals. */
export const server = (config: PostilionConfigInput = {}, respond: Respond = done, options?: Gateway.GatewayOptions) =>
  Postilion.layer(
    {
      storage: ":memory:",
      port: 0,
      tokens: { ada: ADA, mallory: MALLORY },
      webhooks: [{ path: "/github", adapter: "github", secret: SECRET }],
      accessControl: { allowedSenders: ["ada"] },
      ...config
    },
    options
  ).pipe(Layer.provide(layerScripted(respond)))

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The body, read as a JSON object where it is said to be JSON. */
  readonly body: Record<string, unknown>
}

const decodeBody = Schema.decodeUnknownSync(
  Schema.parseJson(Schema.Record({ key: Schema.String, value: Schema.Unknown }))
)

export const requestAt = (url: string, path: string, init: RequestInit = {}): Effect.Effect<Answer> =>
  Effect.promise(async (signal) => {
    const response = await fetch(url + path, { signal, ...init })
    const text = await response.text()
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: /[/+]json\b/.test(response.headers.get("content-type") ?? "") && text !== "" ? decodeBody(text) : {}
    }
  })

export const request = (path: string, init?: RequestInit) =>
  Effect.flatMap(HttpAddress, ({ url }) => requestAt(url, path, init))

/** As `request`, with whatever headers: `fetch` sets the host itself. */
export const requestNamed = (path: string, headers: OutgoingHttpHeaders, method = "GET") =>
  Effect.flatMap(HttpAddress, ({ host, port }) =>
    Effect.async<Pick<Answer, "status" | "text">>((resume) => {
      const sent = httpRequest({ host, port, path, method, headers }, (response) => {
        let text = ""
        response.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk
        })
        response.on("end", () => resume(Effect.succeed({ status: response.statusCode ?? 0, text })))
      })
      sent.on("error", (error) => resume(Effect.die(error))).end()
    })
  )

export const as = (token: string): RequestInit => ({ headers: { authorization: `Bearer ${token}` } })

export const say = (message: unknown, token = ADA) =>
  request("/chat", {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: typeof message === "string" ? message : JSON.stringify(message)
  })

const examples = Schema.decodeUnknownSync(
  Schema.Array(
    Schema.Struct({
      name: Schema.String,
      examples: Schema.Array(Schema.Record({ key: Schema.String, value: Schema.Unknown }))
    })
  )
)(createRequire(import.meta.url)("@octokit/webhooks-examples"))

/** A payload as GitHub sent it once. */
export const payloadOf = (event: string): Record<string, unknown> => {
  const example = examples.find(({ name }) => name === event)?.examples[0]
  if (example === undefined) throw new Error(`no example of ${event}`)
  return example
}

export const sign = (body: string): string => `sha256=${createHmac("sha256", SECRET).update(body).digest("hex")}`

/** A delivery as GitHub makes it. */
export const delivery = (
  event: string,
  id: string,
  { body = JSON.stringify(payloadOf(event)), headers = {} }: { body?: string; headers?: Record<string, string> } = {}
): RequestInit => ({
  method: "POST",
  headers: {
    "content-type": "application/json",
    "x-github-event": event,
    "x-github-delivery": id,
    "x-hub-signature-256": sign(body),
    ...headers
  },
  body
})

export const deliver = (...args: Parameters<typeof delivery>) => request("/webhooks/github", delivery(...args))

/** A connection of bytes. `received` resolves once what came matches. */
export interface Raw {
  readonly socket: Socket
  readonly received: (pattern: RegExp) => Effect.Effect<string>
  readonly ended: Effect.Effect<string>
}

export const rawConnection = Effect.flatMap(HttpAddress, ({ host, port }) =>
  Effect.acquireRelease(
    Effect.async<Raw>((resume) => {
      const socket = connect(port, host)
      let text = ""
      let over = false
      const listeners = new Set<() => void>()
      const tell = () => {
        for (const listener of listeners) listener()
      }
      const until = (isMet: () => boolean): Effect.Effect<string> =>
        Effect.async<string>((resume) => {
          const listener = () => {
            if (!isMet()) return
            listeners.delete(listener)
            resume(Effect.succeed(text))
          }
          listeners.add(listener)
          listener()
        })
      socket.setEncoding("utf8")
      socket.on("data", (chunk: string) => {
        text += chunk
        tell()
      })
      socket.on("error", () => {})
      socket.on("close", () => {
        over = true
        tell()
      })
      socket.once("connect", () =>
        resume(
          Effect.succeed({
            socket,
            received: (pattern) => until(() => pattern.test(text)),
            ended: until(() => over)
          })
        )
      )
    }),
    ({ socket }) => Effect.sync(() => void socket.destroy())
  )
)

/** The rows of the runs in a file that nobody has open. */
export const runsIn = (filename: string) =>
  Effect.gen(function* () {
    const store = yield* Store
    return yield* store.find("runs", { orderBy: ["created_at", "asc"] })
  }).pipe(Effect.provide(SqliteStorage.layer({ filename })))

const realTurn = Effect.promise(() => new Promise<void>((resolve) => void setTimeout(resolve, 2)))

/** Looks until it is so; the test's own timeout is the deadline. */
export const eventually = <A, E, R>(look: Effect.Effect<A, E, R>, isSo: (seen: A) => boolean): Effect.Effect<A, E, R> =>
  Effect.flatMap(look, (seen) =>
    isSo(seen) ? Effect.succeed(seen) : Effect.zipRight(realTurn, eventually(look, isSo))
  )
