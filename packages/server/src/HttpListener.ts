import { createServer, IncomingMessage, type Server, type ServerResponse } from "node:http"
import { createServer as createSecureServer, Server as SecureServer } from "node:https"
import type { Duplex } from "node:stream"
import { ChannelConnectionError, supervise } from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Cause, Context, Effect, Exit, Layer, Runtime, type Scope } from "effect"
import { readBody } from "./HttpBody.ts"
import { STALLED, type StreamedAnswer, sendStream } from "./HttpStream.ts"
import { plain } from "./Peers.ts"
import * as Tls from "./Tls.ts"

export interface HttpListenerOptions {
  /** The address to listen at. */
  readonly host: string
  /** `0`: any that is free. */
  readonly port: number
  /** Bytes a request's body may have; more is answered 413. */
  readonly maxBodyBytes: number
  /** Milliseconds a request's body may take to arrive; longer is answered 408. */
  readonly bodyTimeoutMs: number
  /** Milliseconds a client may take to read some of an answer that is sent as it comes; then it is cut off. Default: 60,000. */
  readonly stallMs?: number
  /** What connections are secured with. Default: nothing, it is HTTP. */
  readonly tls?: Tls.Secured | undefined
}

/** A request without its body. */
export interface HttpHead {
  /** The address of the connection's other end: a client's, or a proxy's. */
  readonly peer: string
  readonly method: string
  /** As it was sent, without the query; nothing is decoded. */
  readonly path: string
  /** What follows the path's `?`; empty when nothing does. */
  readonly query: string
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
}

export type Answer = Problem.HttpAnswer | StreamedAnswer

/** What a request is answered once its body has arrived. */
export interface Reading {
  (body: Uint8Array): Effect.Effect<Answer>
  /** Bytes it may have, where that is more than `maxBodyBytes` of the listener. */
  readonly maxBodyBytes?: number
}

/** What a request is answered, known from its head: at once, or once its body has arrived. */
export type Answering = Effect.Effect<Answer> | Reading

/** The same in plain code, which costs no fiber: once the body has arrived, it is answered by calling `respond`, once. */
export interface Responding {
  readonly onBody: (body: Uint8Array, respond: (answer: Problem.HttpAnswer) => void) => void
}

export type Handler = (head: HttpHead) => Answering | Responding

/** Takes a connection over that asks to speak another protocol. */
export type UpgradeHandler = (request: IncomingMessage, socket: Duplex, head: Buffer) => void

export interface HttpListenerShape {
  readonly address: HttpAddressShape
  /** Hands every request but `/livez` to `handler`, from now until the scope closes. Before and after, they are answered 503. */
  readonly serve: (handler: Handler) => Effect.Effect<void, never, Scope.Scope>
  /** Hands every request to become a WebSocket to `handler`, until the scope closes. Before and after, they are requests like others. */
  readonly upgrade: (handler: UpgradeHandler) => Effect.Effect<void, never, Scope.Scope>
  /** Takes connections, at the same address again where it had stopped to. Fails when it cannot, or could not take one. */
  readonly accepting: Effect.Effect<never, ChannelConnectionError>
  /** From here on each connection is closed once what it asked is answered: nobody asks by one that is about to be cut off. */
  readonly retire: Effect.Effect<void>
  /** Waits until the requests that are under way now have been answered; those that take longer are cut off. */
  readonly settle: (deadlineMillis: number) => Effect.Effect<void>
}

/** The socket: one `node:http` or `node:https` server, open before the gateway is and until after it has closed. */
export class HttpListener extends Context.Tag("@postilion/server/HttpListener")<HttpListener, HttpListenerShape>() {}

export interface HttpAddressShape {
  readonly host: string
  /** The actual one, also where `0` was asked for. */
  readonly port: number
  /** Without a slash at the end. */
  readonly url: string
  /** Whether no other machine can reach it. */
  readonly loopback: boolean
}

/** Where the HTTP door is. */
export class HttpAddress extends Context.Tag("@postilion/server/HttpAddress")<HttpAddress, HttpAddressShape>() {}

/** What `/livez` is answered: that the process lives. */
export const alive: Problem.HttpAnswer = {
  status: 200,
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ status: "ok" })
}

const closed = Problem.problem(503, "the gateway is starting or stopping; try again in a few seconds", {
  headers: { "retry-after": "5" }
})

const urlOf = ({ host, tls }: HttpListenerOptions, port: number): string =>
  `${tls === undefined ? "http" : "https"}://${host.includes(":") ? `[${host}]` : host}:${port}`

const isLoopback = (address: string): boolean => address === "::1" || /^127\./.test(plain(address))

const REMEDIES = new Map([
  ["EADDRINUSE", "the port is in use; stop what uses it, or set another `port` (0: any that is free)"],
  ["EACCES", "this user may not use the port; set one above 1023"],
  ["EADDRNOTAVAIL", "this machine does not have the address; set `host` to one it has, such as 127.0.0.1"],
  ["ENOTFOUND", "there is no such host; set `host` to an address of this machine, such as 127.0.0.1"]
])

const listen = (server: Server | SecureServer, options: HttpListenerOptions) =>
  Effect.async<HttpAddressShape, ChannelConnectionError>((resume) => {
    const { host, port } = options
    const onError = (cause: NodeJS.ErrnoException) => {
      const why = REMEDIES.get(cause.code ?? "") ?? cause.message
      resume(
        new ChannelConnectionError({
          channel: "http",
          message: `cannot listen at ${urlOf(options, port)}: ${why}`,
          cause
        })
      )
    }
    server.once("error", onError)
    server.listen(port, host, () => {
      server.off("error", onError)
      const bound = server.address()
      const { address, port: actual } = typeof bound === "object" && bound !== null ? bound : { address: "", port }
      resume(Effect.succeed({ host, port: actual, url: urlOf(options, actual), loopback: isLoopback(address) }))
    })
  })

/** What is asked, without what is sent along. */
export const headOf = (request: IncomingMessage): HttpHead => {
  const url = request.url ?? "/"
  const query = url.indexOf("?")
  // Made once by Node, for this request alone: what is not one text is made one in its place.
  const { headers } = request
  for (const name in headers) {
    const value = headers[name]
    if (Array.isArray(value)) headers[name] = value.join(", ")
  }
  return {
    peer: request.socket.remoteAddress ?? "",
    method: request.method ?? "GET",
    path: query === -1 ? url : url.slice(0, query),
    query: query === -1 ? "" : url.slice(query + 1),
    headers: headers as Record<string, string>
  }
}

const ASKED = Symbol("upgrade")

/**
 * A request that offers to speak another protocol than WebSocket, as clients of HTTP/2 do (`Upgrade: h2c`), is one like others: an
 * offer may be passed over (RFC 9110, 7.8). Node.js goes by `upgrade`, and would hand all of them on, without their bodies.
 */
class Incoming extends IncomingMessage {
  declare [ASKED]: boolean | undefined
  get upgrade(): boolean {
    return this[ASKED] === true && (this.method === "CONNECT" || /^websocket$/i.test(this.headers.upgrade ?? ""))
  }
  set upgrade(asked: boolean) {
    this[ASKED] = asked
  }
}

const make = (options: HttpListenerOptions) =>
  Effect.gen(function* () {
    const runtime = yield* Effect.runtime<never>()
    const run = Runtime.runCallback(runtime)
    const log = Runtime.runFork(runtime)
    const open = new Set<ServerResponse>()
    let handler: Handler | undefined
    let retiring = false
    const isClosing = (): boolean => retiring || handler === undefined

    const send = (response: ServerResponse, { body, headers, status }: Problem.HttpAnswer): void => {
      // Whoever asked has gone.
      if (response.destroyed) return
      // Kept alive, a connection would be cut off in the middle of its next request.
      if (isClosing()) response.shouldKeepAlive = false
      response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) })
      response.end(body)
    }
    const streaming = {
      stallMs: options.stallMs ?? STALLED,
      isClosing,
      onFailure: (response: ServerResponse) => send(response, Problem.internalError)
    }
    const answer = (response: ServerResponse, effect: Effect.Effect<Answer>): void => {
      let stop = (): void => {}
      const cancel = run(effect, {
        onExit: (exit) => {
          if (Exit.isSuccess(exit)) {
            if ("body" in exit.value) send(response, exit.value)
            else stop = run(sendStream(response, exit.value, streaming))
          } else if (!Cause.isInterruptedOnly(exit.cause)) {
            log(Effect.logError("answering an HTTP request failed", exit.cause))
            send(response, Problem.internalError)
          }
        }
      })
      response.once("close", () => {
        if (response.writableFinished) return
        cancel()
        stop()
      })
    }

    /** Gives a request's body to `next`, whose defects are logged, and answered 500. */
    const read = (
      request: IncomingMessage,
      response: ServerResponse,
      maxBodyBytes = 0,
      next: (body: Uint8Array) => void
    ): void => {
      const limits = maxBodyBytes > options.maxBodyBytes ? { ...options, maxBodyBytes } : options
      readBody(request, limits, (body) => {
        if (!(body instanceof Uint8Array)) {
          send(response, body)
          return
        }
        try {
          next(body)
        } catch (defect) {
          answer(response, Effect.die(defect))
        }
      })
    }

    // Plain code: this is the door's hot path. An Effect is run once per request at most, by `answer`.
    const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
      open.add(response)
      response.once("close", () => open.delete(response))
      const head = headOf(request)
      if (head.path === "/livez" && (head.method === "GET" || head.method === "HEAD")) {
        send(response, alive)
        return
      }
      const answering = handler?.(head)
      if (answering === undefined) send(response, closed)
      else if ("onBody" in answering) {
        const respond = (answered: Problem.HttpAnswer): void => send(response, answered)
        read(request, response, undefined, (body) => answering.onBody(body, respond))
      } else if (typeof answering !== "function") answer(response, answering)
      else read(request, response, answering.maxBodyBytes, (body) => answer(response, answering(body)))
    }

    const server = yield* Effect.acquireRelease(
      Effect.sync(() => {
        if (options.tls === undefined) return createServer({ IncomingMessage: Incoming }, onRequest)
        const { contents } = options.tls
        // Where it is said who issues clients' certificates, whoever has none from there gets no connection.
        const secured = { ...contents, requestCert: contents.ca !== undefined, IncomingMessage: Incoming }
        return createSecureServer(secured, onRequest)
      }),
      (server) =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
    )
    if (options.tls !== undefined && server instanceof SecureServer) {
      yield* supervise("certificate", Tls.following(server, options.tls))
    }
    const address = yield* listen(server, options)
    // Told by `accepting` while somebody watches; without a listener of its own it would end the process.
    server.on("error", () => {})
    const stopped = Effect.async<never, ChannelConnectionError>((resume) => {
      const fail = (message: string, cause?: unknown) =>
        resume(new ChannelConnectionError({ channel: "http", message: `${address.url}: ${message}`, cause }))
      const onError = (cause: Error) => fail(`a connection could not be taken: ${cause.message}`, cause)
      const onClose = () => fail("nobody listens any more")
      server.on("error", onError).on("close", onClose)
      return Effect.sync(() => server.off("error", onError).off("close", onClose))
    })

    return HttpListener.of({
      address,
      accepting: Effect.suspend(() =>
        server.listening ? stopped : Effect.zipRight(listen(server, { ...options, port: address.port }), stopped)
      ),
      serve: (served) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            handler = served
          }),
          () =>
            Effect.sync(() => {
              handler = undefined
            })
        ),
      upgrade: (upgraded) =>
        Effect.acquireRelease(
          Effect.sync(() => void server.on("upgrade", upgraded)),
          () => Effect.sync(() => void server.off("upgrade", upgraded))
        ),
      retire: Effect.sync(() => {
        retiring = true
      }),
      settle: (deadlineMillis) =>
        Effect.suspend(() => {
          const underWay = [...open]
          return Effect.forEach(
            underWay,
            (response) => Effect.async<void>((resume) => void response.once("close", () => resume(Effect.void))),
            { concurrency: "unbounded", discard: true }
          ).pipe(
            Effect.timeoutOption(deadlineMillis),
            Effect.zipRight(
              Effect.sync(() => {
                for (const response of underWay) response.destroy()
              })
            )
          )
        })
    })
  })

/**
 * Listens. Fails with a `ChannelConnectionError` (channel `http`) when the address cannot be had. `/livez` is answered 200 as
 * long as the process lives.
 */
export const layer = (options: HttpListenerOptions): Layer.Layer<HttpListener | HttpAddress, ChannelConnectionError> =>
  Layer.effect(
    HttpAddress,
    Effect.map(HttpListener, ({ address }) => address)
  ).pipe(Layer.provideMerge(Layer.scoped(HttpListener, make(options))))
