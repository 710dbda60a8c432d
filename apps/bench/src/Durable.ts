import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Gateway, GatewayService, Policy, PolicyEngine } from "@postilion/gateway"
import * as StoreSql from "@postilion/gateway/records/StoreSql"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import Database from "better-sqlite3"
import { Effect, Layer } from "effect"
import { type Row, rate } from "./Report.ts"

const BATCHES = [1, 10, 100, 1000] as const
const ROUNDS = 3
const eventsFor = (batch: number): number => (batch === 1 ? 3_000 : batch === 10 ? 10_000 : 40_000)

interface Measured {
  readonly perSecond: number
  /** Microseconds of processor time that each took; says more than the rate where others use the machine. */
  readonly processor: number
}

const measured = <E, R>(count: number, work: Effect.Effect<void, E, R>): Effect.Effect<Measured, E, R> =>
  Effect.gen(function* () {
    let before = process.cpuUsage()
    const begin = Effect.sync(() => {
      before = process.cpuUsage()
    })
    const [perSecond] = yield* rate(count, Effect.zipRight(begin, work))
    const { system, user } = process.cpuUsage(before)
    return { perSecond, processor: (user + system) / count }
  })

/** A pull request as a webhook adapter hands it on, 850 bytes of payload. */
const payload = (n: number) => ({
  action: "opened",
  number: n,
  repository: { full_name: "octo/hello", private: false, stars: 42 },
  pull_request: { title: `Change ${n}`, body: "x".repeat(620), user: { login: "octocat", id: 1 }, draft: false }
})

const storage = (filename: string) =>
  StoreSql.layer.pipe(
    Layer.provideMerge(
      Layer.effectDiscard(Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe("PRAGMA synchronous = FULL"))).pipe(
        Layer.provideMerge(SqliteClient.layer({ filename }))
      )
    )
  )

/** Accepts, judges and records `total` events, `batch` at a time; every one is on disk when its submit returns. */
const ours = (filename: string, batch: number, total: number) =>
  Effect.gen(function* () {
    const gateway = yield* GatewayService
    const engine = yield* PolicyEngine
    yield* engine.addPolicy(Policy.make("Recorded", { priority: 90, evaluate: () => Policy.skip("recorded only") }))
    let n = 0
    const submit = Effect.suspend(() => {
      n += 1
      return gateway.submit({
        source: "webhook",
        payload: payload(n),
        metadata: { adapter: "github", type: "pull_request.opened" },
        idempotencyKey: `webhook:/github:${n}`
      })
    })
    /** Waits for each answer before it sends the next. */
    const sender = (times: number) =>
      Effect.gen(function* () {
        for (let i = 0; i < times; i++) yield* submit
      })
    /** As many of them as a batch is to have. */
    const senders = (times: number) =>
      Effect.forEach(Array.from({ length: batch }), () => sender(times), { concurrency: "unbounded", discard: true })
    yield* senders(1)
    return yield* measured(total, senders(total / batch))
  }).pipe(
    Effect.provide(
      Gateway.layer({ policies: { maxActionsPerHour: "unlimited" } }).pipe(
        Layer.provide(storage(filename)),
        Layer.provide(layerScripted(() => Effect.dieMessage("nothing is executed here")))
      )
    )
  )

type Columns = Record<string, string | number | null>

/** Writes the rows the gateway wrote, in transactions of the same size, with prepared statements and nothing else. */
const bare = (from: string, to: string, batch: number, total: number) =>
  Effect.gen(function* () {
    const source = new Database(from, { readonly: true })
    const read = (table: string, where: string) =>
      source
        .prepare(`SELECT * FROM ${table} ${where} ORDER BY seq DESC LIMIT ${total}`)
        .all()
        .reverse() as Array<Columns>
    const events = read("events", "")
    const audit = read("audit", "WHERE kind = 'event.decided'")
    const schema = source
      .prepare("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
      .all()
    source.close()
    const db = new Database(to)
    db.pragma("journal_mode = WAL")
    db.pragma("synchronous = FULL")
    for (const { sql } of schema as Array<{ sql: string }>) db.exec(sql)
    const insert = (table: string, row: Columns) => {
      const names = Object.keys(row)
      return db.prepare(`INSERT INTO ${table} (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`)
    }
    const insertEvent = insert("events", events[0] ?? {})
    const insertAudit = insert("audit", audit[0] ?? {})
    const eventValues = events.map(Object.values)
    const auditValues = audit.map(Object.values)
    const write = db.transaction((start: number) => {
      for (let i = start; i < start + batch; i++) {
        insertEvent.run(eventValues[i])
        insertAudit.run(auditValues[i])
      }
    })
    const all = Effect.sync(() => {
      for (let start = 0; start < total; start += batch) write(start)
    })
    const figures = yield* measured(total, all)
    db.close()
    return figures
  })

/** Durable accept + decide + audit, beside bare better-sqlite3 writing the same rows in the same batches. */
export const durable = Effect.gen(function* () {
  const rows: Array<Row> = []
  for (const batch of BATCHES) {
    const total = eventsFor(batch)
    for (let round = 0; round < ROUNDS; round++) {
      const folder = mkdtempSync(join(tmpdir(), "postilion-bench-"))
      const file = join(folder, "ours.sqlite")
      const own = yield* ours(file, batch, total)
      const raw = yield* bare(file, join(folder, "bare.sqlite"), batch, total)
      rmSync(folder, { recursive: true })
      const row = (name: string, unit: string, figure: keyof Measured) =>
        rows.push({ name: `${name}, batches of ${batch}`, unit, ours: own[figure], bare: raw[figure] })
      row("durable accept+decide+audit", "events/s", "perSecond")
      row("  processor time for each", "µs", "processor")
    }
  }
  return rows
})
