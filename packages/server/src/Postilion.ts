import type { SqlClient } from "@effect/sql"
import { type AgentRunner, type ChannelConnectionError, Gateway, Phases, type Store } from "@postilion/gateway"
import { Effect, Layer, type Redacted } from "effect"
import * as Access from "./Access.ts"
import * as AuditSigning from "./AuditSigning.ts"
import * as CallbackChannel from "./CallbackChannel.ts"
import * as HttpDoor from "./HttpDoor.ts"
import * as HttpListener from "./HttpListener.ts"
import * as OutsideAgents from "./OutsideAgents.ts"
import { decodeConfig, environmentToken, type PostilionConfig, type PostilionConfigInput } from "./PostilionConfig.ts"
import * as Push from "./push/Push.ts"
import * as Shutdown from "./Shutdown.ts"
import * as SqliteStorage from "./SqliteStorage.ts"
import { Rooms } from "./socket/Rooms.ts"
import * as SocketDoor from "./socket/SocketDoor.ts"
import * as Tls from "./Tls.ts"
import * as Tokens from "./Tokens.ts"

/** What the configuration only names. */
interface Surroundings {
  readonly environmentToken: Redacted.Redacted<string> | undefined
  readonly tls: Tls.Secured | undefined
}

const compose = (
  {
    allowedHosts,
    allowedOrigins,
    audit: _,
    bodyTimeoutMs,
    callbacks,
    drainDeadlineMs,
    host,
    maxBodyBytes,
    maxFailedAttempts,
    outside,
    port,
    push,
    ssl: _ssl,
    storage,
    tokens,
    trustedProxies,
    webSocket,
    ...gateway
  }: PostilionConfig,
  { environmentToken, tls }: Surroundings,
  options: Gateway.GatewayOptions
) => {
  const { replyToUnknown } = gateway.accessControl
  const rooms = new Rooms()
  const callbackChannels = Object.entries(callbacks).map(([name, callback]) => CallbackChannel.make(name, callback))
  const channels = [...(options.channels ?? []), ...callbackChannels, rooms.channel]
  const access = Access.layer({
    tokens,
    environmentToken,
    allowedOrigins,
    allowedHosts,
    trustedProxies,
    maxFailedAttempts
  })
  // From the socket outwards: what is built first is closed last.
  const http = HttpDoor.layer({ drainDeadlineMs, replyToUnknown, callbacks: new Set(Object.keys(callbacks)) })
  const socket = SocketDoor.layer({ ...webSocket, rooms, agents: Object.keys(gateway.agents) })
  return Phases.component("channels", "HttpDoor", http).pipe(
    // Closed once what still ran has answered.
    Layer.provide(Phases.component("channels", "SocketDoor", socket)),
    Layer.provide(Phases.component("channels", "Push", Push.layer(push))),
    Layer.provide(Phases.component("channels", "Access", Layer.provideMerge(access, Tokens.layer))),
    Layer.provide(Shutdown.layer),
    Layer.provideMerge(Gateway.layer(gateway, { ...options, channels })),
    Layer.provide(OutsideAgents.layer(outside)),
    Layer.provideMerge(Phases.component("bus", "SqliteStorage", SqliteStorage.layer({ filename: storage }))),
    Layer.provide(Phases.layer),
    Layer.provideMerge(HttpListener.layer({ host, port, maxBodyBytes, bodyTimeoutMs, tls }))
  )
}

/**
 * The whole of Postilion in one process: the gateway, its records in a SQLite file, its HTTP door. Needs an `AgentRunner`; any
 * subsystem that the surroundings provide is used in place of the built-in one.
 *
 * ```ts
 * program.pipe(
 *   Effect.provide(Postilion.layer({ storage: "./ops.sqlite", policies: { maxActionsPerHour: 20 } })),
 *   Effect.provide(OfflineRunner.layer()),
 *   NodeRuntime.runMain
 * )
 * ```
 *
 * Fails with a `GatewayConfigError` when the configuration is wrong or the storage cannot be used, with a
 * `ChannelConnectionError` when the address cannot be listened at.
 *
 * Closing its scope, as `NodeRuntime.runMain` does on SIGTERM and SIGINT, stops it gracefully: see `HttpDoor.layer`. The
 * process then exits with status 0; a second signal ends it at once.
 */
export const layer = (
  config: PostilionConfigInput = {},
  options: Gateway.GatewayOptions = {}
): Layer.Layer<
  Gateway.Services | Store | SqlClient.SqlClient | HttpListener.HttpAddress,
  Gateway.StartError | ChannelConnectionError,
  AgentRunner
> =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      const decoded = yield* decodeConfig(config)
      const audit = yield* AuditSigning.load(decoded.audit)
      const tls = decoded.ssl === undefined ? undefined : yield* Tls.read(decoded.ssl)
      return compose(decoded, { environmentToken: yield* environmentToken, tls }, { audit, ...options })
    })
  )

/** A gateway for tests: records in memory, a scripted agent, no door. See `Gateway.layerTest`. */
export const layerTest = Gateway.layerTest
