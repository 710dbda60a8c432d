/** What the tests share: stores of both kinds, gateways on them, and a way to wait for what the bus tells. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { EventBus, Gateway, type GatewayConfigInput, Store, type StoreError } from "@postilion/gateway"
import type { BusEvent, BusTag } from "@postilion/gateway/domain/BusEvent"
import type { AgentRunError } from "@postilion/gateway/domain/Errors"
import type { RunResult, RunTask } from "@postilion/gateway/domain/Run"
import type { StoreShape } from "@postilion/gateway/records/Store"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import * as StoreSql from "@postilion/gateway/records/StoreSql"
import * as AgentRunner from "@postilion/gateway/runs/AgentRunner"
import { type ConfigError, Effect, Layer } from "effect"
import { LongestSleep } from "../src/internal/Alarm.ts"

/** A database file that is gone with the scope. */
export const tempFile = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "postilion-"))),
    (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
  ),
  (directory) => join(directory, "gateway.db")
)

/** Records in the SQLite file. */
export const sqlite = (filename: string) => StoreSql.layer.pipe(Layer.provideMerge(SqliteClient.layer({ filename })))

/** Every kind of store, for the suites each of them has to pass. */
export const stores: ReadonlyArray<
  readonly [name: string, layer: Layer.Layer<Store, StoreError | ConfigError.ConfigError>]
> = [
  ["memory", StoreMemory.layer],
  ["SQLite in memory", sqlite(":memory:")],
  ["SQLite in a file", Layer.unwrapScoped(Effect.map(tempFile, sqlite))]
]

export type Respond = (task: RunTask) => Effect.Effect<RunResult, AgentRunError>

export const answerOf = (text: string): RunResult => ({
  text,
  usage: { inputTokens: 60, outputTokens: 40 },
  model: "scripted"
})

/** A gateway on whatever store there is, whose agent answers with `respond`. Every run may use 100 tokens. */
export const gateway = (
  config: GatewayConfigInput = {},
  respond: Respond = ({ taskDescription }) => Effect.succeed(answerOf(`done: ${taskDescription}`)),
  options: Gateway.GatewayOptions = {}
) =>
  Gateway.layer(config, options).pipe(
    Layer.provide(AgentRunner.layerScripted(respond, () => 100)),
    Layer.provide(Layer.succeed(LongestSleep, Number.MAX_SAFE_INTEGER))
  )

/** The same, on a SQLite file: to be opened, closed, and opened again. */
export const gatewayOn = (filename: string, ...args: Parameters<typeof gateway>) =>
  gateway(...args).pipe(Layer.provideMerge(sqlite(filename)))

/** Lets the event loop go round once: for what no event tells of. */
export const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

/** What the bus told since, and a way to wait until it has told enough. */
export const watch = Effect.gen(function* () {
  const bus = yield* EventBus
  const events: Array<BusEvent> = []
  const looks = new Set<() => void>()
  yield* bus.listen((event) => {
    events.push(event)
    for (const look of looks) look()
  })
  const all = <Tag extends BusTag>(tag: Tag) =>
    events.filter((event): event is Extract<BusEvent, { _tag: Tag }> => event._tag === tag)
  return {
    events,
    all,
    /** The events of this tag, once there are so many. */
    until: <Tag extends BusTag>(tag: Tag, count: number) =>
      Effect.async<ReadonlyArray<Extract<BusEvent, { _tag: Tag }>>>((resume) => {
        const look = () => {
          const found = all(tag)
          if (found.length < count) return
          looks.delete(look)
          resume(Effect.succeed(found))
        }
        looks.add(look)
        look()
      })
  }
})

/** Puts `change` between the store there is and whoever uses it. */
export const wrapStore = (change: (store: StoreShape) => StoreShape): Layer.Layer<Store, never, Store> =>
  Layer.effect(Store, Effect.map(Store, change))
