import { createHash, randomBytes } from "node:crypto"
import { closeCodes } from "@postilion/client/Protocol"
import { Effect, FiberMap } from "effect"
import type { OutsideAgentsShape } from "../OutsideAgents.ts"
import type { SocketHearers } from "../push/SocketHearers.ts"
import { Connection, type Holder, lastWords } from "./Connection.ts"
import type { EventFeed } from "./EventFeed.ts"
import type { Rooms } from "./Rooms.ts"
import type { WebSocketConfig } from "./WebSocketConfig.ts"

const keyOf = (token: string): string => createHash("sha256").update(token).digest("base64url")

/** All connections: those with a socket, and those that can still be resumed. */
export const make = (
  config: WebSocketConfig,
  rooms: Rooms,
  feed: EventFeed,
  hearers: SocketHearers,
  outside: Pick<OutsideAgentsShape, "dropped">
) =>
  Effect.gen(function* () {
    const all = new Map<string, Connection>()
    const byKey = new Map<string, Connection>()
    /** Without a socket, the one that has been so for longest first. */
    const detached = new Set<Connection>()
    const timers = yield* FiberMap.make<Connection>()
    const fork = yield* FiberMap.runtime(timers)<never>()

    const drop = (connection: Connection): void => {
      all.delete(connection.id)
      byKey.delete(connection.resumeKey)
      detached.delete(connection)
      for (const room of connection.rooms) rooms.leave(room, connection)
      feed.unsubscribe(connection)
      hearers.dropped(connection)
      outside.dropped(connection)
    }
    /** What resumes it from here on; what did until now does not any more. */
    const renew = (connection: Connection): string => {
      const token = randomBytes(32).toString("base64url")
      byKey.delete(connection.resumeKey)
      connection.resumeKey = keyOf(token)
      byKey.set(connection.resumeKey, connection)
      return token
    }
    return {
      /** In no order. */
      values: () => all.values(),
      get size() {
        return all.size
      },
      drop,
      renew,
      open: (holder: Holder): Connection => {
        const connection = new Connection(holder, config)
        all.set(connection.id, connection)
        return connection
      },
      /** The connection this token resumes, if it is this holder's and has told so much; it has no socket any more. */
      take: (
        token: string,
        seq: number,
        { principal, role }: Pick<Holder, "principal" | "role">
      ): Connection | undefined => {
        const connection = byKey.get(keyOf(token))
        const own = connection?.principal.name === principal.name && connection.principal.tokenId === principal.tokenId
        if (connection === undefined || !own || connection.role !== role || seq > connection.seq) return undefined
        detached.delete(connection)
        // Whatever waits for it to come back too late sees that it has.
        connection.socket?.close(closeCodes.replaced, "resumed elsewhere")
        connection.socket = undefined
        return connection
      },
      /** Has lost its socket: kept until it is resumed, or for too long, or until too many are. */
      detach: (connection: Connection): void => {
        if (!all.has(connection.id)) return
        hearers.detached(connection)
        detached.delete(connection)
        detached.add(connection)
        for (const oldest of detached) {
          if (detached.size <= config.maxConnections) break
          drop(oldest)
        }
        const forget = Effect.sync(() => {
          if (detached.has(connection)) drop(connection)
        })
        fork(connection, Effect.zipRight(Effect.sleep(config.reconnectTimeoutMs), forget))
      },
      /** Ends every connection of a token that does not count any more. */
      revoke: (tokenId: string): void => {
        for (const connection of all.values()) {
          if (connection.principal.tokenId !== tokenId) continue
          const { socket } = connection
          connection.say(lastWords("token-revoked", "the token was revoked"))
          drop(connection)
          connection.socket = undefined
          socket?.close(closeCodes.protocol, "token revoked")
        }
      }
    }
  })
export type Connections = Effect.Effect.Success<ReturnType<typeof make>>
