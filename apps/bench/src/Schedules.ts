import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Gateway, type NewJob, Scheduler } from "@postilion/gateway"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import { SqliteStorage } from "@postilion/server"
import Database from "better-sqlite3"
import { Clock, Cron, Effect, Layer } from "effect"
import { type Row, rate } from "./Report.ts"

const JOBS = [100, 1_000, 10_000, 100_000] as const
const ADDERS = 1_000
/** Jobs that fire in one step, and rows the bare one writes in one transaction. */
const BATCH = 500
const HOUR = 3_600_000

const rules = ["skip", "once", "all"] as const
/** Half by the hour of a zone's wall clock, half by intervals; one of three for each way to catch up. */
const job = (n: number): NewJob => ({
  name: `job ${n}`,
  instruction: "Look around, and say what is new.",
  catchUp: rules[n % 3] ?? "once",
  schedule:
    n % 2 === 0
      ? { kind: "every", everyMs: HOUR }
      : { kind: "cron", expression: `${n % 60} * * * *`, timezone: "Europe/Berlin" }
})

/** A clock that can be set. */
const settable = Effect.map(Effect.clock, (clock) => {
  let offset = 0
  const shifted: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    currentTimeNanos: clock.currentTimeNanos,
    unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos(),
    currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + offset),
    unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + offset,
    sleep: (duration) => clock.sleep(duration)
  }
  return {
    clock: shifted,
    move: (millis: number): void => {
      offset += millis
    }
  }
})
/** Every event waits, as none may run: what is measured is the scheduler, and what is recorded of it. */
const on = (filename: string) =>
  Gateway.layer({ policies: { maxActionsPerHour: 0 }, limits: { maxInbox: 1_000_000 } }).pipe(
    Layer.provide(layerScripted(() => Effect.never)),
    Layer.provide(SqliteStorage.layer({ filename }))
  )

/** Waits until every job is due in the future. */
const allFired = Effect.gen(function* () {
  const scheduler = yield* Scheduler
  const now = yield* Clock.currentTimeMillis
  const turn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
  while ((scheduler.status().nextWake?.getTime() ?? 0) <= now) yield* turn
})

type Columns = Record<string, string | number | null>

/** Writes the newest rows of these tables, one of each for each of `count`, in transactions of `batch`, and nothing else. */
const bare = (
  from: string,
  to: string,
  tables: ReadonlyArray<string>,
  count: number,
  batch: number,
  updates: boolean
) =>
  Effect.gen(function* () {
    const source = new Database(from, { readonly: true })
    const schema = source
      .prepare("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
      .all()
    const rows = tables.map(
      (table) => source.prepare(`SELECT * FROM ${table} ORDER BY rowid DESC LIMIT ${count}`).all() as Array<Columns>
    )
    const jobs = source.prepare("SELECT * FROM jobs").all() as Array<Columns>
    source.close()
    const db = new Database(to)
    db.pragma("journal_mode = WAL")
    db.pragma("synchronous = FULL")
    for (const { sql } of schema as Array<{ sql: string }>) db.exec(sql)
    const insert = (table: string, row: Columns = {}) => {
      const names = Object.keys(row)
      return db.prepare(`INSERT INTO ${table} (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`)
    }
    if (updates) {
      const insertJob = insert("jobs", jobs[0])
      db.transaction(() => {
        for (const row of jobs) insertJob.run(Object.values(row))
      })()
    }
    const inserts = tables.map((table, i) => insert(table, rows[i]?.[0]))
    const values = rows.map((of) => of.map(Object.values))
    const update = db.prepare("UPDATE jobs SET next_at = ?, last_at = ?, accounted_at = ? WHERE id = ?")
    const write = db.transaction((start: number) => {
      for (let i = start; i < Math.min(start + batch, count); i++) {
        for (const [t, statement] of inserts.entries()) {
          const row = values[t]?.[i]
          if (row !== undefined) statement.run(row)
        }
        if (updates) update.run(i, i, i, jobs[i % jobs.length]?.id)
      }
    })
    const [perSecond] = yield* rate(
      count,
      Effect.sync(() => {
        for (let start = 0; start < count; start += batch) write(start)
      })
    )
    db.close()
    return perSecond
  })

/** `effect/Cron` asked for the next instant of as many expressions, in the same zone. */
const bareNext = (count: number) =>
  Effect.gen(function* () {
    const now = new Date(yield* Clock.currentTimeMillis)
    const lines = Array.from({ length: 60 }, (_, n) => Cron.unsafeParse(`${n} * * * *`, "Europe/Berlin"))
    const [perSecond] = yield* rate(
      count,
      Effect.sync(() => {
        for (let n = 0; n < count; n++) Cron.next(lines[n % 60] as Cron.Cron, now)
      })
    )
    return perSecond
  })

const addAll = (count: number) =>
  Effect.flatMap(Scheduler, (scheduler) =>
    Effect.forEach(
      Array.from({ length: count }, (_, n) => n),
      (n) => scheduler.add(job(n)),
      { concurrency: ADDERS, discard: true }
    )
  )

/** So many jobs: added, asked when they are due next, and, an hour later, all overdue at a start. */
const withJobs = (count: number) =>
  Effect.gen(function* () {
    const folder = mkdtempSync(join(tmpdir(), "postilion-bench-"))
    const file = join(folder, "ours.sqlite")
    const { clock, move } = yield* settable
    const rows: Array<Row> = []
    const row = (what: string, ours: number, bare: number) =>
      rows.push({ name: `${what}, ${count.toLocaleString("en-US")} jobs`, unit: "jobs/s", ours, bare })
    yield* Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const [added] = yield* rate(count, addAll(count))
      row("add", added, yield* bare(file, join(folder, "added.sqlite"), ["jobs", "audit"], count, ADDERS, false))
      const ids = scheduler.list().map(({ id }) => id)
      const [asked] = yield* rate(
        count,
        Effect.forEach(ids, (id) => scheduler.next(id, 1), { discard: true })
      )
      row("next (bare: effect/Cron)", asked, yield* bareNext(count))
    }).pipe(Effect.provide(on(file)), Effect.scoped, Effect.withClock(clock))
    move(HOUR)
    const [started, fired] = yield* rate(
      count,
      Effect.map(rate(count, allFired), ([perSecond]) => perSecond).pipe(
        Effect.provide(on(file)),
        Effect.scoped,
        Effect.withClock(clock)
      )
    )
    const bareFired = yield* bare(file, join(folder, "fired.sqlite"), ["events", "audit", "slots"], count, BATCH, true)
    row("fire", fired, bareFired)
    row("start with all overdue, and fire", started, bareFired)
    rmSync(folder, { recursive: true })
    return rows
  })

/** Jobs added, asked and fired; beside bare better-sqlite3 writing the same rows, and `effect/Cron`. */
export const schedules = Effect.gen(function* () {
  const rows: Array<Row> = []
  for (const count of JOBS) rows.push(...(yield* withJobs(count)))
  return rows
})
