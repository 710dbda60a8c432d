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
import { OutsideAgents } from "../OutsideAgents.ts"
import { Push } from "../push/Push.ts"
import { inFinalizer, Stopping } from "../Stopping.ts"
import { errorFrame, lastWords, momentOf } from "./Connection.ts"
import * as Connections from "./Connections.ts"
import { EventFeed } from "./EventFeed.ts"
import * as Handshake from "./Handshake.ts"
import * as Methods from "./Methods.ts"
import { Peer } from "./Peer.ts"
import { Refusal } from "./Refusal.ts"
import { CHANNEL, type Rooms, sessionOf } from "./Rooms.ts"
import type { WebSocketConfig } from "./WebSocketConfig.ts"
import { WebSocketServer } from "./WebSocketLibrary.ts"

export interface SocketDoorOptions extends WebSocketConfig {
  /** Whose `channel` the gateway sends answers by. */
  readonly rooms: Rooms
}

const PATH = "/ws"
/** Sockets beyond `maxConnections` that are opened to be told so: a browser cannot read what else an upgrade is answered. */
const MOST_TURNED_AWAY = 16
const RETRY_AFTER = 10
/** Milliseconds a peer has to answer a close before it is cut off. */
const CLOSING = 5_000
/** The same where the gateway stops: one that is dead keeps nobody waiting. */
const LAST_WORD = 500

const STOPPING = "the gateway is stopping; try again once it is back"

const refuse = (socket: Duplex, { body, headers, status }: Problem.HttpAnswer): void => {
  const all = { ...headers, connection: "close", "content-length": String(Buffer.byteLength(body)) }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`)
  socket.on("error", () => socket.destroy())
  // Whoever does not hang up after it is hung up on: the server's end waits for every connection.
  socket.end(`HTTP/1.1 ${status} Refused\r\n${lines.join("\r\n")}\r\n\r\n${body}`, () => socket.destroy())
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
    const stopping = yield* Stopping
    const { sockets: hearers } = yield* Push
    const outside = yield* OutsideAgents
    const clock = yield* Effect.clock
    const now = () => clock.unsafeCurrentTimeMillis()
    const run = yield* FiberSet.makeRuntime<never>()
    const feed = new EventFeed(randomBytes(6).toString("base64url"), maxReplay)
    const connections = yield* Connections.make(config, rooms, feed, hearers, outside)
    const handlers = yield* Methods.make({
      access,
      rooms,
      feed,
      connections,
      agents,
      maxSessions: config.maxSessions,
      now
    })
    const handshake = Handshake.make({ access, config, connections, feed })
    const tooMany = new Refusal({
      code: "too-many-connections",
      message: `there are ${maxConnections} connections, as many as may be (webSocket.maxConnections)`,
      retryAfterSeconds: RETRY_AFTER
    })
    const peers = new Set<Peer>()
    const turnedAway = new Set<Peer>()
    const server = new WebSocketServer({
      noServer: true,
      maxPayload,
      perMessageDeflate: false,
      clientTracking: false,
      closeTimeout: CLOSING
    })

    const options = { access, config, connections, handlers, hearers, outside, now, run }
    /** Where a new socket's place is, and how it is greeted; `undefined`: there is none for it. */
    const placeFor = () => {
      if (peers.size < maxConnections) return { among: peers, handshake }
      return turnedAway.size < MOST_TURNED_AWAY
        ? { among: turnedAway, handshake: () => Either.left(tooMany) }
        : undefined
    }
    const check = (head: HttpHead): Either.Either<void, Denied> =>
      Either.flatMap(access.checkOrigin(head.headers), () => access.checkQuery(head.query))
    const onUpgrade = (request: IncomingMessage, socket: Duplex, first: Buffer): void => {
      const head = headOf(request)
      const checked = check(head)
      const place = placeFor()
      if (head.path !== PATH) refuse(socket, Problem.problem(404, `there is no WebSocket at ${head.path}; use ${PATH}`))
      else if (Either.isLeft(checked)) refuse(socket, answerOf(checked.left))
      else if (stopping.until() !== undefined) {
        refuse(socket, Problem.problem(503, STOPPING, { headers: { "retry-after": String(RETRY_AFTER) } }))
      } else if (place === undefined) {
        refuse(socket, Problem.problem(503, tooMany.message, { headers: { "retry-after": String(RETRY_AFTER) } }))
      } else {
        const { among, handshake } = place
        server.handleUpgrade(request, socket, first, (opened) => {
          const peer = new Peer(opened, socket, head, { ...options, handshake })
          among.add(peer)
          opened.on("close", () => among.delete(peer))
        })
      }
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
    yield* stopping.onBegin((until) => {
      const text = `the gateway is stopping: what runs is answered until ${new Date(until).toISOString()}, and nothing new is taken`
      for (const connection of connections.values()) connection.say(lastWords("unavailable", text))
    })
    yield* Effect.addFinalizer(() => {
      const open = [...peers, ...turnedAway].map(({ socket }) => socket)
      for (const connection of connections.values()) connection.socket = undefined
      const closed = Effect.forEach(
        open,
        (socket) =>
          Effect.async<void>((resume) => {
            socket.on("close", () => resume(Effect.void))
            socket.close(closeCodes.restart, "the gateway restarts")
          }),
        { concurrency: "unbounded", discard: true }
      )
      const cutOff = Effect.sync(() => {
        for (const socket of open) socket.terminate()
      })
      return inFinalizer(Effect.zipRight(Effect.timeoutOption(closed, LAST_WORD), cutOff))
    })
    yield* listener.upgrade(onUpgrade)
  })

/**
 * The control plane: JSON-RPC over WebSocket at `/ws`, as `@postilion/client/Protocol` has it.
 *
 * A socket is let in by its `Host` and `Origin`, and then says `connect` with a token; what it is told is numbered, and told again
 * from where it broke off to one that resumes it in time. When the server begins to stop, connections are told and further
 * sockets refused with 503; when the scope closes, sockets are closed with 1012.
 */
export const layer = (
  options: SocketDoorOptions
): Layer.Layer<
  never,
  never,
  | HttpListener
  | Access
  | Stopping
  | GatewayService
  | Reconfiguration
  | SessionStore
  | KillSwitch
  | EventBus
  | Store
  | Push
  | OutsideAgents
> => Layer.scopedDiscard(make(options))
