import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Backtest, decodeConfig, Gateway, Policy } from "@postilion/gateway"
import {
  APPROVAL_COLUMNS,
  DECISION_COLUMNS,
  EVENT_COLUMNS,
  RUN_COLUMNS
} from "@postilion/gateway/harness/backtest/Subject"
import * as StoreSql from "@postilion/gateway/records/StoreSql"
import Database from "better-sqlite3"
import { Effect, Layer, Schedule } from "effect"
import { writeHistory } from "./History.ts"
import { rate } from "./Report.ts"

const SIZES = [100_000, 1_000_000]
const CONFIG = { policies: { dailyTokenBudget: "unlimited", maxActionsPerHour: 1_000 } } as const

const freeze = Policy.make("Freeze", {
  priority: 15,
  evaluate: ({ metadata }, { now }) =>
    metadata.type === "pull_request.opened" && now.weekday === "Friday" ? Policy.skip("not on Fridays") : Policy.pass
})

/** Reads the same columns of the same rows, one after the other and without names, and parses what policies saw. No more. */
const bare = (filename: string): number => {
  const db = new Database(filename, { readonly: true })
  let seen = 0
  const read = (table: string, columns: ReadonlyArray<string>, order: string): void => {
    const evidence = columns.indexOf("evidence")
    const rows = db
      .prepare(`SELECT ${columns.join(", ")} FROM ${table} ORDER BY ${order}`)
      .raw()
      .iterate()
    for (const row of rows as IterableIterator<ReadonlyArray<unknown>>) {
      const text = evidence === -1 ? null : row[evidence]
      if (typeof text === "string") seen += (JSON.parse(text) as ReadonlyArray<unknown>).length
    }
  }
  // Of an event that was held, the evidence is parsed once more here than there: its row repeats that of its last decision.
  read("events", EVENT_COLUMNS, "seq")
  read("runs", RUN_COLUMNS, "event_id")
  read("approvals", APPROVAL_COLUMNS, "event_id")
  read("decisions", DECISION_COLUMNS, "seq")
  db.close()
  return seen
}

const megabytes = (bytes: number): string => `${(bytes / 1_048_576).toFixed(0)} MB`
const perSecond = (events: number): string => `${Math.round(events).toLocaleString("en-US")} events/s`

/** The most the heap comes to while `work` is done: looked at between its pages, before anything of them is collected. */
const peakHeap = <A, E, R>(work: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    let peak = 0
    const look = Effect.sync(() => {
      peak = Math.max(peak, process.memoryUsage().heapUsed)
    })
    const looking = yield* Effect.fork(Effect.repeat(look, Schedule.spaced("10 millis")))
    const result = yield* work
    yield* look
    yield* looking.interruptAsFork(looking.id())
    return [result, peak] as const
  })

/** Events a second and the peak of the heap, of the policies that were live and of another beside them. */
export const backtest = Effect.gen(function* () {
  const lines: Array<string> = []
  const config = yield* decodeConfig(CONFIG)
  const live = Gateway.builtInPolicies(config)
  for (const size of SIZES) {
    const folder = mkdtempSync(join(tmpdir(), "postilion-bench-"))
    const filename = join(folder, "history.sqlite")
    yield* writeHistory(filename, config, size)
    const [reading] = yield* rate(
      size,
      Effect.sync(() => bare(filename))
    )
    const measured = (policies: typeof live) =>
      peakHeap(rate(size, Backtest.run({ policies, config: CONFIG }))).pipe(
        Effect.provide(StoreSql.layer.pipe(Layer.provide(SqliteClient.layer({ filename }))))
      )
    const [[same, report], heap] = yield* measured(live)
    if (report.events !== size || report.changed + report.reworded > 0) return yield* Effect.dieMessage(report.render())
    const [[other, changed], otherHeap] = yield* measured([...live, freeze])
    const ratio = Math.round((same / reading) * 100)
    lines.push(
      `backtest of ${size.toLocaleString("en-US")} events: ${perSecond(same)} by the live policies, heap at most ${megabytes(heap)}; reading and parsing alone ${perSecond(reading)} (${ratio} %)`,
      `  and with another policy, ${changed.changed.toLocaleString("en-US")} of them decided otherwise: ${perSecond(other)}, heap at most ${megabytes(otherHeap)}`
    )
    rmSync(folder, { recursive: true })
  }
  return lines.join("\n")
})
