import type { Duplex } from "node:stream"
import {
  type Call,
  closeCodes,
  isMethod,
  methods,
  type Params,
  Request,
  type RequestId
} from "@postilion/client/Protocol"
import * as Mismatch from "@postilion/gateway/domain/Mismatch"
import { Effect, Either, Fiber, Record, Schema } from "effect"
import type { AccessShape } from "../Access.ts"
import type { HttpHead } from "../HttpListener.ts"
import type { OutsideAgentsShape } from "../OutsideAgents.ts"
import type { SocketHearers } from "../push/SocketHearers.ts"
import type { Connection } from "./Connection.ts"
import type { Connections } from "./Connections.ts"
import type { Handshake } from "./Handshake.ts"
import type * as Methods from "./Methods.ts"
import { Refusal, toRpcError } from "./Refusal.ts"
import type { WebSocketConfig } from "./WebSocketConfig.ts"
import type { WebSocket } from "./WebSocketLibrary.ts"

export interface PeerOptions {
  readonly access: Pick<AccessShape, "allows">
  readonly config: WebSocketConfig
  readonly connections: Connections
  readonly handlers: Methods.Handlers
  readonly handshake: Handshake
  readonly hearers: Pick<SocketHearers, "drained" | "resumed">
  readonly outside: Pick<OutsideAgentsShape, "resumed">
  readonly now: () => number
  readonly run: <A>(effect: Effect.Effect<A>) => Fiber.RuntimeFiber<A>
}

/** Refused frames in a row that a socket is closed after. */
const MOST_REFUSED = 10
const MINUTE = 60_000
/** Characters of a name nobody knows that it is shown with. */
const SHOWN = 100
/** The normal end: whoever says so does not come back. */
const GONE = 1000

const decodeRequest = Schema.decodeUnknownEither(Request)
const decoders = Record.map(methods, ({ params }) =>
  Schema.decodeUnknownEither(params as Schema.Schema<unknown>, { onExcessProperty: "error" })
)
const isEffect = (outcome: Methods.Outcome<object>): outcome is Effect.Effect<object, Refusal> =>
  Effect.isEffect(outcome)

/**
 * One socket: reads frames, and answers them.
 *
 * Plain code, since every frame passes here; an Effect is run only for what reads or writes the records.
 */
export class Peer {
  readonly socket: WebSocket
  private readonly stream: Duplex
  private readonly head: HttpHead
  private readonly options: PeerOptions
  private readonly handshake: Fiber.RuntimeFiber<void>
  private connection: Connection | undefined
  /** Who is at the other end, as the log has it. */
  private who = ""
  private closing = false
  private gathering = false
  private heardAt: number
  private minuteFrom: number
  private inMinute = 0
  private refusedInRow = 0

  /** `stream` is what `socket` writes to. */
  constructor(socket: WebSocket, stream: Duplex, head: HttpHead, options: PeerOptions) {
    this.socket = socket
    this.stream = stream
    this.head = head
    this.options = options
    this.heardAt = options.now()
    this.minuteFrom = this.heardAt
    const { handshakeTimeoutMs } = options.config
    this.handshake = options.run(
      Effect.delay(
        Effect.sync(() => this.close(closeCodes.protocol, "nothing said `connect` in time")),
        handshakeTimeoutMs
      )
    )
    socket.on("message", (data: Buffer, isBinary: boolean) => this.receive(data, isBinary))
    socket.on("pong", () => this.heard())
    stream.on("drain", () => {
      if (this.connection?.socket === socket) options.hearers.drained(this.connection)
    })
    // What went wrong with a socket shows in how it is closed.
    socket.on("error", () => {})
    socket.on("close", (code: number) => this.closed(code))
  }
  /** Says that the gateway is there, and looks whether the other end still is. */
  beat(heartbeat: string): void {
    if (this.options.now() - this.heardAt > 2 * this.options.config.heartbeatIntervalMs) {
      this.socket.terminate()
      return
    }
    this.socket.ping()
    this.connection?.say(heartbeat)
  }
  private heard(): void {
    this.heardAt = this.options.now()
  }
  /** What is answered to the frames that came together leaves together: one write for them all is most of the time saved. */
  private gather(): void {
    if (this.gathering) return
    this.gathering = true
    this.stream.cork()
    process.nextTick(() => {
      this.gathering = false
      this.stream.uncork()
    })
  }
  private receive(data: Buffer, isBinary: boolean): void {
    // Between a close and its answer frames still come; a connection that went on elsewhere is not this socket's any more.
    if (this.closing || (this.connection !== undefined && this.connection.socket !== this.socket)) return
    this.gather()
    this.heard()
    const request = this.overRate() ?? this.read(data, isBinary)
    if (request instanceof Refusal) this.refuse(null, request)
    else this.ask(request)
  }
  private overRate(): Refusal | undefined {
    if (this.heardAt - this.minuteFrom >= MINUTE) {
      this.minuteFrom = this.heardAt
      this.inMinute = 0
    }
    this.inMinute += 1
    const { maxMessagesPerMinute } = this.options.config
    if (this.inMinute <= maxMessagesPerMinute) return undefined
    const retryAfterSeconds = Math.ceil((this.minuteFrom + MINUTE - this.heardAt) / 1_000)
    const message = `more than ${maxMessagesPerMinute} frames in a minute (webSocket.maxMessagesPerMinute)`
    return new Refusal({ code: "rate-limited", message, retryAfterSeconds })
  }
  private read(data: Buffer, isBinary: boolean): Request | Refusal {
    if (isBinary) return new Refusal({ code: "parse-error", message: "the frame is binary" })
    let parsed: unknown
    try {
      parsed = JSON.parse(data.toString("utf8"))
    } catch (cause) {
      return new Refusal({ code: "parse-error", message: `the frame is no JSON: ${cause}` })
    }
    const request = decodeRequest(parsed)
    return Either.isRight(request)
      ? request.right
      : new Refusal({ code: "invalid-request", message: Mismatch.describe(request.left) })
  }
  private ask({ id, method, params = {} }: Request): void {
    if (!isMethod(method)) {
      const message = `there is no method "${method.slice(0, SHOWN)}"`
      this.refuse(id, new Refusal({ code: "unknown-method", message }))
      return
    }
    // Asked before what is sent along is even looked at.
    const refusal = method === "connect" ? this.mayNotConnect() : this.mayNot(method)
    if (refusal !== undefined) {
      this.refuse(id, refusal)
      return
    }
    const decoded = decoders[method](params)
    if (Either.isLeft(decoded)) {
      this.refuse(id, new Refusal({ code: "invalid-params", message: `${method}: ${Mismatch.describe(decoded.left)}` }))
    } else if (method === "connect") this.connect(id, decoded.right as Params<"connect">)
    else if (this.connection !== undefined) this.call(this.connection, id, method, decoded.right)
  }
  private mayNotConnect(): Refusal | undefined {
    if (this.connection === undefined) return undefined
    return new Refusal({ code: "already-connected", message: "this socket is connected" })
  }
  private mayNot(method: Call): Refusal | undefined {
    if (this.connection === undefined) {
      return new Refusal({ code: "not-connected", message: `${method} before connect` })
    }
    const { principal } = this.connection
    if (this.options.access.allows(principal, method)) return undefined
    return new Refusal({
      code: "forbidden",
      message: `the scope ${principal.scopes.join(", ")} does not include ${method}`
    })
  }
  private connect(id: RequestId, params: Params<"connect">): void {
    const greeted = this.options.handshake(this.head, params)
    if (Either.isLeft(greeted)) {
      this.refuse(id, greeted.left)
      const { code } = greeted.left
      this.close(code === "too-many-connections" ? closeCodes.tryLater : closeCodes.protocol, code)
      return
    }
    const { connection, welcome } = greeted.right
    this.options.run(Fiber.interrupt(this.handshake))
    this.connection = connection
    const { client, role } = params
    this.who = `${connection.principal.name} as ${role}, by ${JSON.stringify(`${client.name} ${client.version}`)}`
    this.log(welcome.resumed ? "has resumed its connection" : "has connected")
    this.answer(id, welcome)
    connection.resume(this.socket, params.resume !== undefined && welcome.resumed ? params.resume.seq : connection.seq)
    this.options.hearers.resumed(connection)
    this.options.outside.resumed(connection)
  }
  private call(connection: Connection, id: RequestId, method: Call, params: unknown): void {
    const { handlers, run } = this.options
    // The decoder has made the parameters those of this method, which the type cannot say.
    const handler = handlers[method] as (connection: Connection, params: unknown) => Methods.Outcome<object>
    const outcome = handler(connection, params)
    if (!isEffect(outcome)) {
      this.settle(id, outcome)
      return
    }
    const settled = Effect.map(Effect.merge(outcome), (result) => this.settle(id, result))
    run(
      Effect.catchAllDefect(settled, (defect) => {
        this.refuse(id, new Refusal({ code: "internal", message: `${method} failed` }))
        return Effect.logError(`${method} of a WebSocket died`, defect)
      })
    )
  }
  private settle(id: RequestId, outcome: unknown): void {
    if (outcome instanceof Refusal) {
      this.refuse(id, outcome)
      return
    }
    this.refusedInRow = 0
    this.answer(id, outcome)
  }
  private answer(id: RequestId, result: unknown): void {
    this.send(`{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${JSON.stringify(result)}}`)
  }
  private refuse(id: RequestId | null, refusal: Refusal): void {
    this.send(JSON.stringify({ jsonrpc: "2.0", id, error: toRpcError(refusal) }))
    this.refusedInRow += 1
    if (this.refusedInRow >= MOST_REFUSED) this.close(closeCodes.protocol, "ten refusals in a row")
  }
  private send(text: string): void {
    if (this.connection?.socket === this.socket) this.connection.say(text)
    else if (!this.closing) this.socket.send(text)
  }
  private log(what: string): void {
    this.options.run(Effect.logDebug(`${this.who}, ${what}`))
  }
  private close(code: number, reason: string): void {
    this.closing = true
    this.socket.close(code, reason)
  }
  private closed(code: number): void {
    this.closing = true
    const { connections, run } = this.options
    run(Fiber.interrupt(this.handshake))
    const { connection } = this
    if (connection !== undefined) this.log(`has lost its socket (${code})`)
    if (connection === undefined || (connection.socket !== undefined && connection.socket !== this.socket)) return
    connection.socket = undefined
    if (code === GONE) connections.drop(connection)
    else connections.detach(connection)
  }
}
