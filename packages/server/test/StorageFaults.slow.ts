import { execFileSync } from "node:child_process"
import {
  chmodSync,
  chownSync,
  cpSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync
} from "node:fs"
import { join } from "node:path"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService, Store } from "@postilion/gateway"
import { Effect, Layer, type Scope } from "effect"
import { type Child, start, urlOf } from "./ChildServer.ts"
import { ADA, deliver, delivery, eventually, request, requestAt, server, tempDir } from "./Support.ts"

const EVENTS = 30

/** A file with accepted events: as a crash leaves it, the last ones in its log, or all of them in the file itself. */
const leftBy = (end: "crash" | "close") =>
  Effect.gen(function* () {
    const dir = yield* tempDir
    const living = join(yield* tempDir, "ops.sqlite")
    const storage = join(dir, "ops.sqlite")
    yield* Effect.gen(function* () {
      const take = (n: number) => Effect.map(deliver("push", `d${n}`), ({ status }) => expect(status).toBe(202))
      for (let n = 0; n < EVENTS; n++) {
        yield* take(n)
        const last = end === "crash" ? EVENTS - 5 : EVENTS - 1
        if (n === last) yield* (yield* SqlClient.SqlClient).unsafe("PRAGMA wal_checkpoint(TRUNCATE)")
      }
      for (const suffix of ["", "-wal"]) cpSync(living + suffix, storage + suffix)
    }).pipe(Effect.provide(server({ storage: living })))
    return { dir, storage }
  })

const databaseFiles = (dir: string) =>
  readdirSync(dir)
    .filter((name) => /sqlite(-wal)?$/.test(name))
    .map((name) => [name, readFileSync(join(dir, name))] as const)
    // A look at a file without a log leaves an empty one.
    .filter(([, bytes]) => bytes.length > 0)

/** Every event that was answered with a 202 is there, and the chain over them is whole. */
const nothingIsLost = (storage: string, count = EVENTS) =>
  Effect.gen(function* () {
    const events = yield* (yield* Store).find("events", {})
    expect(new Set(events.map(({ dedupe_key }) => dedupe_key)).size).toBe(count)
    expect(yield* (yield* AuditLog).verify).toMatchObject({ valid: true })
  }).pipe(Effect.provide(server({ storage })))

/** Changes bytes of a file; the effect changes them back. */
const overwrite = (file: string, from: number, to: number) => {
  const before = readFileSync(file)
  const after = Buffer.from(before)
  for (let i = from; i < to; i++) after[i] = (after[i] ?? 0) ^ 0x5a
  writeFileSync(file, after)
  return Effect.sync(() => writeFileSync(file, before))
}

/** Who the server runs as where a permission is to count: root may do everything. */
const someone = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : undefined
const giveTo = (dir: string, owner: { readonly uid: number; readonly gid: number }) => {
  for (const path of [dir, ...readdirSync(dir).map((name) => join(dir, name))]) chownSync(path, owner.uid, owner.gid)
}

interface Fault {
  readonly what: string
  /** How the server before ended. Default: `crash`. */
  readonly after?: "close"
  /** Does it to the file, and gives what undoes it. */
  readonly inflict: (
    storage: string,
    dir: string
  ) => Effect.Effect<Effect.Effect<unknown, unknown>, unknown, Scope.Scope>
  readonly says: RegExp
  readonly as?: typeof someone
}

const sync = <A>(make: () => A) => Effect.sync(make)
const faults: ReadonlyArray<Fault> = [
  {
    what: "a file whose header is damaged",
    after: "close",
    inflict: (storage) => sync(() => overwrite(storage, 0, 16)),
    says: /ops\.sqlite" is not a SQLite database; it was left as it is: restore a backup/
  },
  {
    what: "a file with a damaged page in the middle",
    after: "close",
    inflict: (storage) => sync(() => overwrite(storage, 4096 * 5, 4096 * 6)),
    says: /ops\.sqlite" is damaged.*it was left as it is: restore a backup/
  },
  {
    what: "a file that was cut short",
    after: "close",
    inflict: (storage) =>
      sync(() => {
        const before = readFileSync(storage)
        truncateSync(storage, 4096 * 7 + 100)
        return Effect.sync(() => writeFileSync(storage, before))
      }),
    says: /ops\.sqlite" is damaged/
  },
  {
    what: "a write-ahead log whose header is damaged",
    inflict: (storage) => sync(() => overwrite(`${storage}-wal`, 8, 12)),
    says: /ops\.sqlite-wal" is damaged \(its header is not what was written\); it was left as it is/
  },
  {
    what: "a write-ahead log with a damaged frame",
    inflict: (storage) => sync(() => overwrite(`${storage}-wal`, 32 + 24 + 100, 32 + 24 + 101)),
    says: /ops\.sqlite-wal" is damaged \(its frame 1 is not what was written, and later ones were committed\)/
  },
  {
    what: "a file of a newer schema",
    inflict: (storage) =>
      Effect.gen(function* () {
        const change = (text: string) =>
          Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(text)).pipe(
            Effect.provide(SqliteClient.layer({ filename: storage }))
          )
        yield* change("INSERT INTO postilion_migrations (migration_id, name) VALUES (99, 'reports')")
        return change("DELETE FROM postilion_migrations WHERE migration_id = 99")
      }),
    says: /has schema version 99 \("reports", since \d{4}-.*written by a newer Postilion; this one knows up to version \d+; it was left as it is: start that version/
  },
  {
    what: "a file that may only be read",
    as: someone,
    inflict: (storage, dir) =>
      sync(() => {
        if (someone !== undefined) giveTo(dir, someone)
        chmodSync(storage, 0o444)
        return Effect.sync(() => chmodSync(storage, 0o644))
      }),
    says: /ops\.sqlite" cannot be written, only read; make it and its folder writable for this user/
  },
  {
    what: "a folder that may only be read",
    as: someone,
    inflict: (_, dir) =>
      Effect.acquireRelease(
        sync(() => {
          if (someone !== undefined) giveTo(dir, someone)
          chmodSync(dir, 0o555)
          return Effect.sync(() => chmodSync(dir, 0o755))
        }),
        (undo) => undo
      ),
    says: /ops\.sqlite.*make it and its folder (readable and )?writable for this user/
  },
  {
    what: "a file another program has locked",
    inflict: (storage) =>
      Effect.gen(function* () {
        const other = yield* Layer.build(SqliteClient.layer({ filename: storage }))
        const run = (text: string) =>
          Effect.provide(
            Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(text)),
            other
          )
        yield* run("BEGIN IMMEDIATE")
        return run("ROLLBACK")
      }),
    says: /ops\.sqlite" is locked by another program; close what has it open/
  }
]

describe("a server that cannot use its file", { timeout: 60_000 }, () => {
  for (const { after = "crash", as, inflict, says, what } of faults) {
    it.scopedLive(`${what}: exits with status 1 and says why; the file stays as it is, with all that was in it`, () =>
      Effect.gen(function* () {
        const { dir, storage } = yield* leftBy(after)
        const undo = yield* inflict(storage, dir)
        const before = databaseFiles(dir)
        const { code, output } = yield* (yield* start({ storage }, as === undefined ? {} : { as })).exit
        expect(output).toMatch(says)
        expect(code).toBe(1)
        expect(databaseFiles(dir)).toEqual(before)
        yield* undo
        yield* nothingIsLost(storage)
      })
    )
  }

  it.scopedLive("a log that a power cut tore in its last commit is no fault: all before it is there", () =>
    Effect.gen(function* () {
      const { storage } = yield* leftBy("crash")
      const { size } = statSync(`${storage}-wal`)
      yield* sync(() => overwrite(`${storage}-wal`, size - 10, size))
      yield* nothingIsLost(storage, EVENTS - 1)
    })
  )
})

interface Shortage {
  readonly name: string
  readonly folder: Effect.Effect<string, never, Scope.Scope>
  readonly begin: (child: Child, dir: string) => void
  readonly end: (child: Child, dir: string) => void
}

const prlimit = ({ process }: Child, soft: string) =>
  execFileSync("prlimit", ["--pid", String(process.pid), `--fsize=${soft}:unlimited`])

/** Files that may not grow: a shortage any user can make, and end. */
const limitedFiles: Shortage = {
  name: "files that may not grow",
  folder: tempDir,
  begin: (child) => prlimit(child, "0"),
  end: (child) => prlimit(child, "unlimited")
}

const mount = (dir: string) => execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", dir], { stdio: "pipe" })
const mayMount = (() => {
  if (process.getuid?.() !== 0) return false
  try {
    execFileSync("unshare", ["-m", "mount", "-t", "tmpfs", "tmpfs", "/tmp"], { stdio: "pipe" })
    return true
  } catch {
    return false
  }
})()

/** A disk of two megabytes, and a file that takes what is left of it. */
const fullDisk: Shortage = {
  name: "a full disk",
  folder: Effect.flatMap(tempDir, (dir) =>
    Effect.acquireRelease(
      sync(() => {
        mount(dir)
        return dir
      }),
      () => sync(() => execFileSync("umount", ["--lazy", dir]))
    )
  ),
  begin: (_, dir) => {
    for (const size of [65_536, 4_096, 1]) {
      try {
        while (true) writeFileSync(join(dir, "filler"), Buffer.alloc(size), { flag: "a" })
      } catch (cause) {
        expect(cause).toMatchObject({ code: "ENOSPC" })
      }
    }
  },
  end: (_, dir) => rmSync(join(dir, "filler"))
}

describe("a server that can no longer write", { timeout: 60_000 }, () => {
  for (const { begin, end, folder, name } of mayMount ? [limitedFiles, fullDisk] : [limitedFiles]) {
    it.scopedLive(`${name}: refuses with 503, is unready, recovers by itself, and has lost nothing`, () =>
      Effect.gen(function* () {
        const dir = yield* folder
        const storage = join(dir, "ops.sqlite")
        const child = yield* start({ storage, tokens: { ada: ADA }, accessControl: { allowedSenders: ["ada"] } })
        const url = yield* urlOf(child)
        const post = (id: string) => requestAt(url, "/webhooks/github", delivery("push", id))
        expect((yield* post("d1")).status).toBe(202)

        begin(child, dir)
        const chat: RequestInit = {
          method: "POST",
          headers: { authorization: `Bearer ${ADA}`, "content-type": "application/json" },
          body: JSON.stringify({ text: "hello" })
        }
        for (const refused of [yield* post("d2"), yield* post("d2"), yield* requestAt(url, "/chat", chat)]) {
          expect(refused).toMatchObject({ status: 503, body: { reason: "storage" } })
          expect(refused.headers.get("retry-after")).toBe("1")
        }
        const unready = yield* requestAt(url, "/readyz")
        expect(unready).toMatchObject({ status: 503, body: { detail: "the storage cannot be written" } })
        expect(unready.headers.get("retry-after")).toBe("5")
        expect((yield* requestAt(url, "/livez")).status).toBe(200)

        end(child, dir)
        yield* eventually(requestAt(url, "/readyz"), ({ status }) => status === 200)
        expect(yield* post("d2")).toMatchObject({ status: 202, body: { status: "accepted" } })
        expect(yield* post("d1")).toMatchObject({ status: 202, body: { status: "duplicate" } })
        child.process.kill("SIGTERM")
        expect((yield* child.exit).code).toBe(0)

        yield* Effect.gen(function* () {
          const audit = yield* AuditLog
          const events = yield* (yield* Store).find("events", {})
          expect(events.map(({ state }) => state)).toEqual(["merging", "merged"])
          expect(yield* audit.verify).toMatchObject({ valid: true })
          const [recovered] = yield* audit.query({ kind: "storage.recovered" })
          expect(recovered?.data).toMatchObject({ withdrawnBatches: expect.any(Number) })
        }).pipe(Effect.provide(server({ storage })))
      })
    )
  }

  it.scopedLive("a database that may not grow (the same without a second process)", () =>
    Effect.gen(function* () {
      const { storage } = yield* leftBy("crash")
      const limit = (pages: number) =>
        Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(`PRAGMA max_page_count = ${pages}`))
      yield* Effect.gen(function* () {
        yield* limit(1)
        const gateway = yield* GatewayService
        const before = yield* gateway.status()
        const input = { source: "webhook", payload: { text: "x".repeat(100_000) } } as const
        expect(yield* Effect.flip(gateway.submit(input))).toMatchObject({ reason: "storage", retryable: true })
        expect(yield* request("/readyz")).toMatchObject({ status: 503 })
        expect((yield* gateway.status()).pending).toEqual(before.pending)
        yield* limit(1_000_000)
        yield* eventually(request("/readyz"), ({ status }) => status === 200)
        yield* gateway.submit(input)
      }).pipe(Effect.provide(server({ storage })))
      yield* nothingIsLost(storage, EVENTS + 1)
    })
  )
})
