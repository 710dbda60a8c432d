import { describe, expect, it } from "@effect/vitest"
import { Backtest, Store } from "@postilion/gateway"
import { Effect } from "effect"
import { decisionsIn, dice, live, ManualClock, policiesOf, randomConfig } from "./BacktestHistory.ts"
import { sqlite, tempFile } from "./TestGateway.ts"

const reproduces = (seed: number, events: number, restarts: number, pace?: number) =>
  Effect.gen(function* () {
    const clock = new ManualClock(Date.UTC(2026, 2, 27, 20))
    const roll = dice(seed)
    const config = randomConfig(roll)
    const file = yield* tempFile
    yield* live(clock, file, config, roll, events, restarts, pace)
    yield* Effect.gen(function* () {
      const store = yield* Store
      const report = yield* Backtest.run({ policies: yield* policiesOf(config), config })
      expect(report.examples).toEqual([])
      expect(report).toMatchObject({ changed: 0, reworded: 0, notCaused: 0, stillHeld: 0, changes: [] })
      expect(report.replayed).toEqual(report.recorded)
      expect(report.events).toBe((yield* store.find("events", { columns: ["id"] })).length)
      expect(report.decisions).toBe(yield* decisionsIn)
    }).pipe(Effect.provide(sqlite(file)))
  })

describe("a backtest of the policies that were live", () => {
  it.scoped(
    "decides 10,000 random events as they were decided, over ten restarts",
    () => reproduces(7, 10_000, 10, 0.1),
    600_000
  )

  for (const seed of [1, 2, 3, 4, 5, 6]) {
    it.scoped(
      `decides 300 random events as they were decided, over three restarts (seed ${seed})`,
      () => reproduces(seed, 300, 3),
      60_000
    )
  }
})
