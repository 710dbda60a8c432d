import { existsSync, realpathSync, statSync } from "node:fs"
import { basename, dirname, join, resolve } from "node:path"
import { SqlClient } from "@effect/sql"
import type { SqliteClient } from "@effect/sql-sqlite-node"
import type { GatewayConfigError, Store, StoreError } from "@postilion/gateway"
import * as StoreSql from "@postilion/gateway/records/StoreSql"
import { Context, Effect, Layer } from "effect"
import * as SingleOwner from "./SingleOwner.ts"
import { connect, explain, LEFT_ALONE, refuse } from "./SqliteConnection.ts"
import { damageOf } from "./SqliteWal.ts"

export interface SqliteStorageOptions {
  /** A file, made when there is none; its folder must exist. `:memory:` keeps records until the process ends. */
  readonly filename: string
}

const MEMORY = ":memory:"

/** The client also caches that a statement could not be prepared: what was wrong for a moment stays wrong for so long. */
const PREPARED_FOR = "10 seconds"

const SET_UP = [
  // Milliseconds a statement waits for another program's lock. Waiting blocks the whole process, so not for long.
  "PRAGMA busy_timeout = 1000",
  // The library's default in WAL mode is NORMAL: a power cut would take back what was answered with a 202.
  "PRAGMA synchronous = FULL",
  // Another program that writes, or a file that may only be read, is noticed now and not at the first event.
  "BEGIN IMMEDIATE",
  "CREATE TABLE postilion_can_write (yes INTEGER)",
  "ROLLBACK"
]

/** Where the file is or will be, the same whichever way it was written: the lock's name follows from it. */
const locate = (filename: string): Effect.Effect<string, GatewayConfigError> =>
  Effect.gen(function* () {
    const given = resolve(filename)
    const folder = dirname(given)
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
      return yield* refuse(given, "has no folder to be in", `make "${folder}" first`)
    }
    const found = statSync(given, { throwIfNoEntry: false })
    if (found === undefined) return join(realpathSync(folder), basename(given))
    return found.isFile()
      ? realpathSync(given)
      : yield* refuse(given, "is not a file", "set `storage` to the path of a file")
  }).pipe(
    // What the system refuses to tell of a path is a defect to the generator.
    Effect.catchAllDefect((cause) => explain(filename, cause))
  )

/**
 * Looks at a database without writing to it, also while a gateway works with it. Takes time in proportion to its size. Fails
 * with what is wrong with it, and what to do.
 */
export const check = (file: string): Effect.Effect<void, GatewayConfigError> =>
  Effect.gen(function* () {
    if (!existsSync(file) || statSync(file).size === 0) return
    const torn = damageOf(`${file}-wal`)
    if (torn !== undefined) yield* refuse(`${file}-wal`, `is damaged (${torn})`, LEFT_ALONE)
    // What a crash left in a rollback journal belongs into the file first; a connection that only reads cannot do that.
    const readonly = !existsSync(`${file}-journal`)
    const connection = yield* connect({ filename: file, readonly, disableWAL: true }, ["PRAGMA busy_timeout = 0"])
    const sql = Context.get(connection, SqlClient.SqlClient)
    const [row] = yield* sql.unsafe<{ readonly quick_check: string }>("PRAGMA quick_check(1)")
    const found = row?.quick_check.replaceAll(/\s+/g, " ")
    if (found !== "ok") yield* refuse(file, `is damaged (quick_check: ${found})`, LEFT_ALONE)
    const newer = yield* Effect.provide(StoreSql.newerSchema, connection)
    if (newer !== undefined) yield* refuse(file, newer, "it was left as it is: start that version, or a later one")
  }).pipe(
    // What cannot be read of a file is a defect to the generator.
    Effect.catchAllDefect(Effect.fail),
    Effect.scoped,
    Effect.mapError((cause) => explain(file, cause))
  )

const open = (filename: string) =>
  Effect.gen(function* () {
    if (filename === MEMORY) return yield* connect({ filename, prepareCacheTTL: PREPARED_FOR }, SET_UP)
    const file = yield* locate(filename)
    yield* SingleOwner.hold(file)
    yield* check(file)
    return yield* connect({ filename: file, prepareCacheTTL: PREPARED_FOR }, SET_UP)
  }).pipe(Effect.mapError((cause) => explain(filename, cause)))

const openAsIs = (filename: string) =>
  Effect.gen(function* () {
    const file = yield* locate(filename)
    if (!existsSync(file)) {
      return yield* refuse(file, "does not exist", "start the gateway once, or set `storage` to where its records are")
    }
    const connection = yield* connect({ filename: file, readonly: true, disableWAL: true }, [
      "PRAGMA busy_timeout = 1000"
    ])
    const { found, known } = yield* Effect.provide(StoreSql.schemaVersion, connection)
    if (found !== known) {
      const what = `has schema version ${found}, and this Postilion reads version ${known}`
      return yield* refuse(
        file,
        what,
        found < known ? "start the gateway once, which brings it up to date" : LEFT_ALONE
      )
    }
    return connection
  }).pipe(Effect.mapError((cause) => explain(filename, cause)))

/**
 * The records in a SQLite file, only to be read; a gateway may work with it meanwhile. Fails with a `GatewayConfigError` (path
 * `storage`) when there is none, it cannot be opened, or its tables are not those of this version.
 */
export const layerReadOnly = ({
  filename
}: SqliteStorageOptions): Layer.Layer<Store | SqlClient.SqlClient, GatewayConfigError> =>
  StoreSql.layerAsIs.pipe(Layer.provideMerge(Layer.scopedContext(openAsIs(filename))))

/**
 * Records in a SQLite file, in WAL mode with `synchronous = FULL`: what is committed survives a power cut. Only this process
 * may work with the file; others may read it.
 *
 * Fails with a `GatewayConfigError` (path `storage`) when the file is damaged or no database, was written by a newer
 * version, cannot be opened, or is in use; it is checked before anything is written to it. Fails with a `StoreError` when its tables cannot be brought up to
 * date.
 */
export const layer = ({
  filename
}: SqliteStorageOptions): Layer.Layer<
  Store | SqliteClient.SqliteClient | SqlClient.SqlClient,
  GatewayConfigError | StoreError
> => StoreSql.layer.pipe(Layer.provideMerge(Layer.scopedContext(open(filename))))
