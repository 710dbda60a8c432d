import { randomUUID } from "node:crypto"
import { type Params, VERSIONS, type Welcome } from "@postilion/client/Protocol"
import { Either } from "effect"
import type { AccessShape, Principal } from "../Access.ts"
import type { HttpHead } from "../HttpListener.ts"
import * as Scopes from "../Scopes.ts"
import type { Connection } from "./Connection.ts"
import type { Connections } from "./Connections.ts"
import type { EventFeed } from "./EventFeed.ts"
import { Refusal } from "./Refusal.ts"
import type { WebSocketConfig } from "./WebSocketConfig.ts"

export interface HandshakeOptions {
  readonly access: Pick<AccessShape, "addressOf" | "authenticate">
  readonly config: WebSocketConfig
  readonly connections: Connections
  readonly feed: EventFeed
}

export interface Greeted {
  readonly connection: Connection
  readonly welcome: Welcome
}

const bearerOf = (authorization = ""): string | undefined => /^bearer +(\S+) *$/i.exec(authorization)?.[1]

/** Answers `connect`: who this is, what they may do, and which connection it is. */
export const make = ({ access, config, connections, feed }: HandshakeOptions) => {
  const holderOf = (head: HttpHead, { role, token }: Params<"connect">): Either.Either<Principal, Refusal> => {
    const held = access.authenticate(token ?? bearerOf(head.headers.authorization), access.addressOf(head))
    if (Either.isLeft(held)) {
      const { message, reason, retryAfterSeconds } = held.left
      const code = reason === "too-many-attempts" ? "rate-limited" : "unauthorized"
      return Either.left(
        new Refusal({ code, message, ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }) })
      )
    }
    const { name, scopes, tokenId } = held.right
    // An operator may do all that others may. Nobody gets more than they asked for, nor more than they hold.
    if (Scopes.covers(scopes, role)) return Either.right({ name, scopes: [role], tokenId })
    return Either.left(
      new Refusal({
        code: "forbidden",
        message: `${name}'s token is for ${scopes.join(", ")}, not for the role ${role}`
      })
    )
  }
  return (head: HttpHead, params: Params<"connect">): Either.Either<Greeted, Refusal> => {
    const [lowest, highest] = params.protocol
    const [first, last] = VERSIONS
    if (lowest > last || highest < first) {
      const message = `the client speaks ${lowest} to ${highest}, the gateway ${first} to ${last}`
      return Either.left(new Refusal({ code: "version-mismatch", message }))
    }
    return Either.map(holderOf(head, params), (principal) => {
      const { client, resume, role } = params
      const resumed = resume && connections.take(resume.token, resume.seq, { principal, role })
      const connection =
        resumed ?? connections.open({ id: randomUUID(), principal, role, client: `${client.name} ${client.version}` })
      const { heartbeatIntervalMs, maxMessagesPerMinute, maxPayload, reconnectTimeoutMs } = config
      return {
        connection,
        welcome: {
          protocol: Math.min(highest, last),
          connectionId: connection.id,
          resumed: resumed !== undefined,
          resumeToken: connections.renew(connection),
          principal: principal.name,
          scopes: principal.scopes,
          limits: { maxPayload, maxMessagesPerMinute, heartbeatIntervalMs, reconnectTimeoutMs },
          cursor: feed.cursor
        }
      }
    })
  }
}
export type Handshake = ReturnType<typeof make>
