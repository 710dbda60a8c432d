import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { describe, expect, it } from "@effect/vitest"
import { GatewayConfigError, Store } from "@postilion/gateway"
import { SqliteStorage } from "@postilion/server"
import { Effect, Layer } from "effect"
import { tempDir } from "./Support.ts"

const open = (filename: string) => Layer.build(SqliteStorage.layer({ filename }))

const refusal = (filename: string) =>
  Effect.map(Effect.flip(Effect.scoped(open(filename))), (error) => {
    if (!(error instanceof GatewayConfigError)) throw error
    expect(error).toMatchObject({ path: "storage", retryable: false })
    return error.message
  })

const fill = (filename: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`CREATE TABLE filler (body TEXT)`
    yield* sql`INSERT INTO filler WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT hex(randomblob(200)) FROM n`
  }).pipe(Effect.provide(SqliteStorage.layer({ filename })))

describe("SqliteStorage", () => {
  it.scoped("commits to disk: WAL and synchronous=FULL on the connection that is used", () =>
    Effect.gen(function* () {
      const filename = join(yield* tempDir, "ops.sqlite")
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        expect(yield* sql`PRAGMA synchronous`).toEqual([{ synchronous: 2 }])
        expect(yield* sql`PRAGMA journal_mode`).toEqual([{ journal_mode: "wal" }])
        expect(yield* sql`PRAGMA busy_timeout`).toEqual([{ timeout: 1000 }])
        expect(yield* (yield* Store).find("events", {})).toEqual([])
        expect(existsSync(filename)).toBe(true)
        expect(readFileSync(`${filename}.pid`, "utf8")).toBe(`${process.pid}\n`)
      }).pipe(Effect.provide(SqliteStorage.layer({ filename })))
      expect(existsSync(`${filename}.pid`)).toBe(false)
    })
  )

  it.scoped("in memory, synchronous all the same, and no file", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      expect(yield* sql`PRAGMA synchronous`).toEqual([{ synchronous: 2 }])
      expect(existsSync(":memory:")).toBe(false)
    }).pipe(Effect.provide(SqliteStorage.layer({ filename: ":memory:" })))
  )

  it.scoped("opens a file again, and one with nothing in it", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const filename = join(dir, "empty.sqlite")
      writeFileSync(filename, "")
      yield* Effect.scoped(open(filename))
      yield* Effect.scoped(open(filename))
    })
  )

  it.scoped("N12: one owner a file, also under another name; the refusal names the holder's pid", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const filename = join(dir, "ops.sqlite")
      yield* open(filename)
      symlinkSync(filename, join(dir, "alias.sqlite"))
      for (const name of [filename, `${dir}/./ops.sqlite`, join(dir, "alias.sqlite")]) {
        expect(yield* refusal(name)).toContain(`is in use by the process with pid ${process.pid}; stop that one first`)
      }
      // Being refused must not have cost the holder its lock.
      expect(yield* refusal(filename)).toContain(`pid ${process.pid}`)
      yield* open(join(dir, "other.sqlite"))
    })
  )

  it.scoped("takes over from a holder that is gone, whatever its pid file says", () =>
    Effect.gen(function* () {
      const filename = join(yield* tempDir, "ops.sqlite")
      writeFileSync(`${filename}.lock`, "")
      writeFileSync(`${filename}.pid`, `${process.ppid}\n`)
      yield* open(filename)
      expect(readFileSync(`${filename}.pid`, "utf8")).toBe(`${process.pid}\n`)
    })
  )

  it.scoped("leaves alone what is no database", () =>
    Effect.gen(function* () {
      const filename = join(yield* tempDir, "notes.txt")
      const notes = "remember the milk\n".repeat(100)
      writeFileSync(filename, notes)
      expect(yield* refusal(filename)).toMatch(/notes\.txt" is not a SQLite database; it was left as it is/)
      expect(readFileSync(filename, "utf8")).toBe(notes)
      expect(existsSync(`${filename}-wal`)).toBe(false)
    })
  )

  it.scoped("leaves alone a database that is damaged", () =>
    Effect.gen(function* () {
      const filename = join(yield* tempDir, "ops.sqlite")
      yield* fill(filename)
      const damaged = readFileSync(filename)
      damaged.fill(0x5a, 40_000, 60_000)
      writeFileSync(filename, damaged)
      expect(yield* refusal(filename)).toMatch(/ops\.sqlite" is damaged.*it was left as it is: restore a backup/)
      expect(readFileSync(filename).equals(damaged)).toBe(true)
      // A start that was refused holds nothing.
      expect(yield* refusal(filename)).toContain("is damaged")
    })
  )

  it.scoped("leaves alone a database that was cut short", () =>
    Effect.gen(function* () {
      const filename = join(yield* tempDir, "ops.sqlite")
      yield* fill(filename)
      const torn = readFileSync(filename).subarray(0, 100_000)
      writeFileSync(filename, torn)
      expect(yield* refusal(filename)).toContain("is damaged")
      expect(readFileSync(filename).equals(torn)).toBe(true)
    })
  )

  it.scoped("says what to do where there is no folder, or no file", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      expect(yield* refusal(join(dir, "missing", "ops.sqlite"))).toContain(`make "${join(dir, "missing")}" first`)
      mkdirSync(join(dir, "folder"))
      expect(yield* refusal(join(dir, "folder"))).toContain("is not a file")
      writeFileSync(join(dir, "plain"), "")
      expect(yield* refusal(join(dir, "plain", "ops.sqlite"))).toContain(`make "${join(dir, "plain")}" first`)
    })
  )

  it.scoped("is refused a file that another program is writing to", () =>
    Effect.gen(function* () {
      const filename = join(yield* tempDir, "ops.sqlite")
      yield* Effect.scoped(open(filename))
      const other = yield* Layer.build(SqliteClient.layer({ filename }))
      yield* Effect.gen(function* () {
        yield* (yield* SqlClient.SqlClient).unsafe("BEGIN IMMEDIATE")
      }).pipe(Effect.provide(other))
      expect(yield* refusal(filename)).toContain("is locked by another program; close what has it open")
    })
  )
})
