import { describe, expect, it } from "@effect/vitest"
import { Gateway, type GatewayConfigInput, Scheduler, Store } from "@postilion/gateway"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import * as AgentRunner from "@postilion/gateway/runs/AgentRunner"
import { Clock, type Duration, Effect, Layer, TestClock } from "effect"
import { LongestSleep } from "../src/internal/Alarm.ts"
import { answerOf, gateway, gatewayOn, tempFile, turn } from "./TestGateway.ts"

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const config: GatewayConfigInput = {
  policies: { maxActionsPerHour: "unlimited", dailyTokenBudget: "unlimited" },
  crons: [{ name: "hourly", schedule: "0 * * * *", instruction: "look" }]
}
const id = "job_cron-hourly"

/** A clock that can be set, while what sleeps goes by another that cannot: as on a real machine. */
const settable = Effect.map(Effect.clock, (clock) => {
  let offset = 0
  const shifted = {
    ...clock,
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + offset),
    unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + offset,
    sleep: (duration) => clock.sleep(duration)
  } as Clock.Clock
  return {
    clock: shifted,
    /** Time passes. */
    pass: (duration: Duration.DurationInput) => Effect.withClock(TestClock.adjust(duration), clock),
    /** Without anything that sleeps having been woken. */
    move: (millis: number): void => {
      offset += millis
    }
  }
})
/** A gateway whose scheduler looks at the clock at least once a minute. */
const watchful = Gateway.layer(config).pipe(
  Layer.provide(
    AgentRunner.layerScripted(
      () => Effect.succeed(answerOf("done")),
      () => 100
    )
  ),
  Layer.provide(Layer.succeed(LongestSleep, MINUTE)),
  Layer.provideMerge(StoreMemory.layer)
)

/** Oldest first, once what is due is seen to and has ended. */
const history = Effect.gen(function* () {
  const scheduler = yield* Scheduler
  const now = yield* Clock.currentTimeMillis
  while (true) {
    const isDue = scheduler.list().some(({ nextAt }) => nextAt !== undefined && nextAt.getTime() <= now)
    const slots = yield* scheduler.history(id)
    if (!isDue && slots.every(({ state }) => state !== "running")) {
      const time = (at: Date) => at.toISOString().slice(0, 16).replace("1970-01-01T", "")
      return slots
        .map(({ at, count, state, until }) => `${time(at)}${count === 1 ? "" : `-${time(until)}`} ${state}`)
        .reverse()
    }
    yield* turn
  }
})
const dueAt = Effect.map(Scheduler, (scheduler) => scheduler.list()[0]?.nextAt?.toISOString())
const made = Effect.flatMap(Store, (store) => Effect.map(store.find("events", {}), (rows) => rows.length))

describe("N8: the clock jumps forward, or the host slept", () => {
  it.effect("what passed is caught up within a minute, as the job says", () =>
    Effect.gen(function* () {
      const { clock, move, pass } = yield* settable
      yield* Effect.gen(function* () {
        yield* pass("30 minutes")
        move(5 * HOUR)
        yield* pass("1 minute")
        expect(yield* history).toEqual(["01:00-04:00 skipped", "05:00 caught-up"])
        expect(yield* dueAt).toBe("1970-01-01T06:00:00.000Z")
        yield* pass("29 minutes")
        expect((yield* history).at(-1)).toBe("06:00 ran")
      }).pipe(Effect.provide(watchful), Effect.withClock(clock))
    })
  )
})

describe("the clock is set back", () => {
  it.effect("a job is due again at its next instant, and makes no second event for those it has had", () =>
    Effect.gen(function* () {
      const { clock, move, pass } = yield* settable
      yield* Effect.gen(function* () {
        yield* pass("190 minutes")
        const had = ["01:00 ran", "02:00 ran", "03:00 ran"]
        expect(yield* history).toEqual(had)
        move(-2 * HOUR)
        yield* pass("1 minute")
        while ((yield* dueAt) !== "1970-01-01T02:00:00.000Z") yield* turn
        // 01:11 to 03:30.
        yield* pass("139 minutes")
        expect(yield* history).toEqual(had)
        expect(yield* made).toBe(3)
        yield* pass("30 minutes")
        expect(yield* history).toEqual([...had, "04:00 ran"])
      }).pipe(Effect.provide(watchful), Effect.withClock(clock))
    })
  )

  it.effect("a clock that was years ahead does not keep a job from its instants", () =>
    Effect.gen(function* () {
      const { clock, move, pass } = yield* settable
      yield* Effect.gen(function* () {
        yield* pass("30 minutes")
        const years = 10 * 365 * 24 * HOUR
        move(years)
        yield* pass("1 minute")
        const ahead = "1979-12-30T00:00 caught-up"
        expect(yield* history).toEqual(["01:00-1979-12-29T23:00 skipped", ahead])
        move(-years)
        yield* pass("1 minute")
        while ((yield* dueAt) !== "1970-01-01T01:00:00.000Z") yield* turn
        // What was skipped is still to come after all.
        expect(yield* history).toEqual([ahead])
        yield* pass("2 hours")
        expect(yield* history).toEqual(["01:00 ran", "02:00 ran", ahead])
      }).pipe(Effect.provide(watchful), Effect.withClock(clock))
    })
  )

  it.scoped("nor does one that is found to have been ahead at a start", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      yield* TestClock.setTime(30 * MINUTE)
      yield* Effect.provide(Scheduler, gatewayOn(file, config))
      yield* TestClock.setTime(100 * HOUR + 30 * MINUTE)
      const ahead = yield* Effect.provide(history, gatewayOn(file, config))
      expect(ahead).toEqual(["01:00-1970-01-05T03:00 skipped", "1970-01-05T04:00 caught-up"])
      yield* TestClock.setTime(2 * HOUR + 30 * MINUTE)
      yield* Effect.gen(function* () {
        // 01:00 and 02:00 are past, and were skipped: what follows is still to come.
        expect(yield* history).toEqual(["01:00-02:00 skipped", "1970-01-05T04:00 caught-up"])
        expect(yield* dueAt).toBe("1970-01-01T03:00:00.000Z")
        yield* TestClock.adjust("1 hour")
        expect((yield* history)[1]).toBe("03:00 ran")
      }).pipe(Effect.provide(gatewayOn(file, config)))
    })
  )
})

describe("the calendar", () => {
  const cron = (schedule: string, start: string) =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.parse(`${start}T00:00:00Z`))
      return yield* Effect.gen(function* () {
        yield* TestClock.adjust("3 days")
        const ran = yield* history
        const next = yield* (yield* Scheduler).next(id)
        return { ran, next: next.map((at) => at.toISOString().slice(0, 10)) }
      }).pipe(
        Effect.provide(
          gateway({ ...config, crons: [{ name: "hourly", schedule, instruction: "look" }] }).pipe(
            Layer.provideMerge(StoreMemory.layer)
          )
        )
      )
    })

  it.effect("the 29th of February: in leap years alone", () =>
    Effect.gen(function* () {
      const leap = yield* cron("0 12 29 2 *", "2024-02-27")
      expect(leap.ran).toEqual(["2024-02-29T12:00 ran"])
      expect(leap.next.slice(0, 2)).toEqual(["2028-02-29", "2032-02-29"])
    })
  )
  it.effect("and not in others", () =>
    Effect.gen(function* () {
      const { next, ran } = yield* cron("0 12 29 2 *", "2023-02-27")
      expect(ran).toEqual([])
      expect(next[0]).toBe("2024-02-29")
    })
  )
  it.effect("the end of a month: the 31st, in months that have one", () =>
    Effect.gen(function* () {
      const { next, ran } = yield* cron("0 12 31 * *", "2024-04-29")
      expect(ran).toEqual([])
      expect(next).toEqual(["2024-05-31", "2024-07-31", "2024-08-31", "2024-10-31", "2024-12-31"])
    })
  )
})
