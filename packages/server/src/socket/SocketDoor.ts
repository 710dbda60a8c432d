import { randomBytes } from "node:crypto"
import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import { closeCodes } from "@postilion/client/Protocol"
import {
  EventBus,
  type GatewayService,
  type KillSwitch,
  Reconfiguration,
  type SessionStore,
  Store,
  supervise
} from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Effect, Either, FiberSet, Layer } from "effect"
import { Access, answerOf, type Denied } from "../Access.ts"
import { type HttpHead, HttpListener, headOf } from "../HttpListener.ts"
import { errorFrame, momentOf } from "./Connection.ts"
import * as Connections from "./Connections.ts"
import { EventFeed } from "./EventFeed.ts"
import * as Handshake from "./Handshake.ts"
import * as Methods from "./Methods.ts"
import { Peer } from "./Peer.ts"
import { CHANNEL, type Rooms, sessionOf } from "./Rooms.ts"
import type { WebSocketConfig } from "./WebSocketConfig.ts"
import { type WebSocket, WebSocketServer } from "./WebSocketLibrary.ts"

export interface SocketDoorOptions extends WebSocketConfig {
  /** Whose `channel` the gateway sends answers by. */
  readonly rooms: Rooms
}

const PATH = "/ws"
/** Milliseconds a peer has to answer a close before it is cut off. */
const CLOSING = 5_000

const refuse = (socket: Duplex, { body, headers, status }: Problem.HttpAnswer): void => {
  const all = { ...headers, connection: "close", "content-length": String(Buffer.byteLength(body)) }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`)
  socket.on("error", () => socket.destroy())
  socket.end(`HTTP/1.1 ${status} Refused\r\n${lines.join("\r\n")}\r\n\r\n${body}`)
}

const make = ({ rooms, ...config }: SocketDoorOptions) =>
  Effect.gen(function* () {
    const { maxConnections, maxPayload, maxReplay } = config
    const listener = yield* HttpListener
    const access = yield* Access
    const { current } = yield* Reconfiguration
    const agents = () => Object.keys(current().agents)
    const bus = yield* EventBus
    const store = yield* Store
    const clock = yield* Effect.clock
    const now = () => clock.unsafeCurrentTimeMillis()
    const run = yield* FiberSet.makeRuntime<never>()
    const feed = new EventFeed(randomBytes(6).toString("base64url"), maxReplay)
    const connections = yield* Connections.make(config, rooms, feed)
    const handlers = yield* Methods.make({ rooms, feed, connections, agents, maxSessions: config.maxSessions, now })
    const handshake = Handshake.make({ access, config, connections, feed })
    const peers = new Set<Peer>()
    const server = new WebSocketServer({
      noServer: true,
      maxPayload,
      perMessageDeflate: false,
      clientTracking: false,
      closeTimeout: CLOSING
    })

    const opened = (socket: WebSocket, stream: Duplex, head: HttpHead): void => {
      const peer = new Peer(socket, stream, head, { access, config, connections, handlers, handshake, now, run })
      peers.add(peer)
      socket.on("close", () => peers.delete(peer))
    }
    const check = (head: HttpHead): Either.Either<void, Denied> =>
      Either.flatMap(access.checkOrigin(head.headers), () => access.checkQuery(head.query))
    const onUpgrade = (request: IncomingMessage, socket: Duplex, first: Buffer): void => {
      const head = headOf(request)
      const checked = check(head)
      if (head.path !== PATH) refuse(socket, Problem.problem(404, `there is no WebSocket at ${head.path}; use ${PATH}`))
      else if (Either.isLeft(checked)) refuse(socket, answerOf(checked.left))
      else if (peers.size >= maxConnections) {
        const detail = `there are ${maxConnections} connections, as many as may be (webSocket.maxConnections)`
        refuse(socket, Problem.problem(503, detail, { headers: { "retry-after": "10" } }))
      } else server.handleUpgrade(request, socket, first, (opening) => opened(opening, socket, head))
    }

    yield* bus.listen((event) => {
      feed.add(event)
      if (event._tag !== "ProactiveActionSuppressed" || event.source !== "channel" || rooms.size === 0) return
      const { eventId, reason } = event
      // Whoever waits for an answer is told that there will be none.
      const tellRoom = Effect.map(store.find("events", { where: { id: eventId } }), ([row]) => {
        const name = sessionOf(row?.session_key?.slice(CHANNEL.length + 1) ?? "")
        if (name !== undefined) rooms.find(name)?.tell(errorFrame("suppressed", reason, { ...name, eventId }))
      })
      run(
        Effect.catchAll(tellRoom, (error) => Effect.logWarning(`nobody was told that ${eventId} is suppressed`, error))
      )
    })
    yield* access.onRevoked((tokenId) => connections.revoke(tokenId))
    const beat = Effect.sync(() => {
      const heartbeat = momentOf("HEARTBEAT", { at: now() })
      for (const peer of peers) peer.beat(heartbeat)
    })
    yield* supervise(
      "websocket heartbeat",
      Effect.forever(Effect.zipRight(Effect.sleep(config.heartbeatIntervalMs), beat))
    )
    yield* Effect.addFinalizer(() =>
      Effect.async<void>((resume) => {
        for (const connection of connections.values()) connection.socket = undefined
        const done = (): void => {
          if (peers.size === 0) resume(Effect.void)
        }
        for (const { socket } of peers) {
          socket.on("close", done)
          // One that does not answer is cut off by its `closeTimeout`.
          socket.close(closeCodes.restart, "the gateway restarts")
        }
        done()
      })
    )
    yield* listener.upgrade(onUpgrade)
  })

/**
 * The control plane: JSON-RPC over WebSocket at `/ws`, as `@postilion/client/Protocol` has it.
 *
 * A socket is let in by its `Host` and `Origin`, and then says `connect` with a token; what it is told is numbered, and told again
 * from where it broke off to one that resumes it in time. When the scope closes, sockets are closed with 1012.
 */
export const layer = (
  options: SocketDoorOptions
): Layer.Layer<
  never,
  never,
  HttpListener | Access | GatewayService | Reconfiguration | SessionStore | KillSwitch | EventBus | Store
> => Layer.scopedDiscard(make(options))
