import type { SqlClient } from "@effect/sql"
import { AgentRunner, type ChannelConnectionError, Gateway, Phases, type Store } from "@postilion/gateway"
import { Context, Effect, Layer, Option, type Redacted } from "effect"
import * as Access from "./Access.ts"
import * as AuditSigning from "./AuditSigning.ts"
import * as AgentModels from "./agents/AgentModels.ts"
import * as Channels from "./Channels.ts"
import * as ConfigFile from "./ConfigFile.ts"
import * as ConfigReload from "./ConfigReload.ts"
import * as HttpDoor from "./HttpDoor.ts"
import * as HttpListener from "./HttpListener.ts"
import * as Observability from "./Observability.ts"
import * as OutsideAgents from "./OutsideAgents.ts"
import { decodeConfig, environmentToken, type PostilionConfig, type PostilionConfigInput } from "./PostilionConfig.ts"
import * as Push from "./push/Push.ts"
import * as Shutdown from "./Shutdown.ts"
import * as SqliteStorage from "./SqliteStorage.ts"
import * as Stopping from "./Stopping.ts"
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
    agents,
    channels: outward,
    drainDeadlineMs,
    host,
    maxBodyBytes,
    maxFailedAttempts,
    observability,
    outside,
    port,
    push,
    ssl: _ssl,
    storage,
    tokens,
    trustedProxies,
    webSocket,
    ...rest
  }: PostilionConfig,
  { environmentToken, tls }: Surroundings,
  options: Gateway.GatewayOptions
) => {
  const gateway = { ...rest, agents: AgentModels.withoutModels(agents) }
  const rooms = new Rooms()
  const channels = [...(options.channels ?? []), ...Channels.make(outward), rooms.channel]
  const access = Access.layer({
    tokens,
    environmentToken,
    allowedOrigins,
    allowedHosts,
    trustedProxies,
    maxFailedAttempts
  })
  // From the socket outwards: what is built first is closed last.
  const http = HttpDoor.layer({ drainDeadlineMs, channels: new Set(Object.keys(outward)) })
  const socket = SocketDoor.layer({ ...webSocket, rooms })
  return Phases.component("channels", "HttpDoor", http).pipe(
    // Closed once what still ran has answered.
    Layer.provide(Phases.component("channels", "SocketDoor", socket)),
    Layer.provide(Phases.component("channels", "Push", Push.layer(push))),
    Layer.provideMerge(Phases.component("channels", "Access", Layer.provideMerge(access, Tokens.layer))),
    Layer.provide(Stopping.layer),
    Layer.provideMerge(Shutdown.layer),
    Layer.provideMerge(Gateway.layer(gateway, { ...options, channels })),
    Layer.provide(OutsideAgents.layer(outside)),
    Layer.provideMerge(Phases.component("bus", "SqliteStorage", SqliteStorage.layer({ filename: storage }))),
    Layer.provide(Phases.layer),
    Layer.provideMerge(HttpListener.layer({ host, port, maxBodyBytes, bodyTimeoutMs, tls })),
    Layer.provideMerge(AgentModels.layer(agents)),
    Layer.provide(Observability.layer(observability))
  )
}

const build = (decoded: PostilionConfig, options: Gateway.GatewayOptions) =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      const audit = yield* AuditSigning.load(decoded.audit)
      const tls = decoded.ssl === undefined ? undefined : yield* Tls.read(decoded.ssl)
      return compose(decoded, { environmentToken: yield* environmentToken, tls }, { audit, ...options })
    })
  )

/** What a program gets. */
export type Services = Gateway.Services | Store | SqlClient.SqlClient | HttpListener.HttpAddress | Shutdown.Shutdown

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
): Layer.Layer<Services, Gateway.StartError | ChannelConnectionError, AgentRunner> =>
  Layer.unwrapEffect(Effect.map(decodeConfig(config), (decoded) => build(decoded, options)))

export interface FileOptions extends Gateway.GatewayOptions {
  /** What holds whatever the file says; a path is read from where the process was started. Default: nothing. */
  readonly set?: Partial<Pick<PostilionConfig, "host" | "port" | "storage" | "observability">>
}

/**
 * The same from a `gateway.yaml`, which is followed: see `ConfigReload.layer`. Agents without a `model` are run by the offline
 * one, which says so in its answers, unless the surroundings give an `AgentRunner`. Warnings are logged. Fails with a
 * `GatewayConfigError` that shows every problem of the file.
 */
export const layerFile = (
  path: string,
  { set, ...options }: FileOptions = {}
): Layer.Layer<Services | ConfigReload.ConfigReload, Gateway.StartError | ChannelConnectionError> =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      const read = ConfigFile.load(path, {
        adapters: options.adapters,
        channels: options.channels?.map(({ name }) => name)
      }).pipe(Effect.map((loaded) => ({ ...loaded, config: { ...loaded.config, ...set } })))
      const loaded = yield* read
      yield* ConfigReload.logWarnings(loaded)
      const given = yield* Effect.serviceOption(AgentRunner)
      const runner = Option.isSome(given) ? Layer.succeed(AgentRunner, given.value) : AgentModels.offline
      return ConfigReload.layer({ read, loaded }).pipe(
        Layer.provideMerge(build(loaded.config, options)),
        Layer.provide(runner)
      )
    })
  )

/**
 * Runs a server until it is interrupted, as `NodeRuntime.runMain` does on SIGTERM and SIGINT, or until `POST /shutdown` asks for
 * its end; then stops it gracefully.
 *
 * ```ts
 * Postilion.launch(Postilion.layer({ storage: "./ops.sqlite" })).pipe(Effect.provide(OfflineRunner.layer()), NodeRuntime.runMain)
 * ```
 */
export const launch = <E, R>(server: Layer.Layer<Shutdown.Shutdown, E, R>): Effect.Effect<void, E, R> =>
  Effect.flatMap(Layer.build(server), (context) => Context.get(context, Shutdown.Shutdown).requested).pipe(
    Effect.scoped
  )

/** A gateway for tests: records in memory, a scripted agent, no door. See `Gateway.layerTest`. */
export const layerTest = Gateway.layerTest
