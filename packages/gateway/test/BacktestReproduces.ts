import { Backtest, Store } from "@postilion/gateway"
import { Effect } from "effect"
import { expect } from "vitest"
import { decisionsIn, dice, live as liveThrough, ManualClock, policiesOf, randomConfig } from "./BacktestHistory.ts"
import { sqlite, tempFile } from "./TestGateway.ts"

/** A gateway lives through random events, and its own policies decide them again: exactly as it did. */
export const reproduces = (seed: number, events: number, restarts: number, pace?: number) =>
  Effect.gen(function* () {
    const clock = new ManualClock(Date.UTC(2026, 2, 27, 20))
    const roll = dice(seed)
    const config = randomConfig(roll)
    const file = yield* tempFile
    yield* liveThrough(clock, file, config, roll, events, restarts, pace)
    yield* Effect.gen(function* () {
      const store = yield* Store
      const report = yield* Backtest.run({ policies: yield* policiesOf(config), config })
      expect(report.examples).toEqual([])
      expect(report).toMatchObject({ changed: 0, reworded: 0, notCaused: 0, stillHeld: 0, changes: [] })
      expect(report.replayed).toEqual(report.recorded)
      expect(report.events).toBe((yield* store.find("events", { columns: ["id"] })).length)
      expect(report.decisions).toBe(yield* decisionsIn)
      // A part of it, whatever came before and was still held.
      const rows = yield* store.find("events", { columns: ["received_at"], orderBy: ["seq", "asc"] })
      const [from = 0, to = 0] = [0.4, 0.7].map((part) => rows[Math.floor(rows.length * part)]?.received_at)
      const part = yield* Backtest.run({ policies: yield* policiesOf(config), config, from, to })
      expect(part).toMatchObject({ changed: 0, reworded: 0, notCaused: 0, examples: [] })
      expect(part.events).toBe(rows.filter(({ received_at: at }) => at >= from && at < to).length)
    }).pipe(Effect.provide(sqlite(file)))
  })
