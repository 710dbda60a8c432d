import { Either, FastCheck as fc, Schema } from "effect"
import { describe, expect, it } from "vitest"
import { JobRules } from "../src/domain/Job.ts"
import type { Schedule } from "../src/domain/Schedule.ts"
import { plan, rangeOf } from "../src/sources/Occurrences.ts"
import { compile, lastWithin, nextAfter } from "../src/sources/ScheduleClock.ts"

const compiled = (schedule: Schedule) => Either.getOrThrow(compile(schedule))
const rules = (change: Partial<typeof JobRules.Encoded>) => Schema.decodeSync(JobRules)(change)
const cron = (expression: string | readonly [string, ...ReadonlyArray<string>], timezone = "UTC") =>
  compiled({ kind: "cron", expression, timezone })
const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const NOON = Date.parse("2024-06-01T12:00:00Z")

/** By asking for one after the other. */
const scan = (schedule: ReturnType<typeof compiled>, after: number, until: number): ReadonlyArray<number> => {
  const instants: Array<number> = []
  for (let at = nextAfter(schedule, after); at !== undefined && at <= until; at = nextAfter(schedule, at)) {
    instants.push(at)
  }
  return instants
}

const someSchedule = fc.oneof(
  fc
    .constantFrom("* * * * *", "*/15 * * * *", "0 * * * *", "30 2 * * *", "0 9 * * 1-5", "0 0 1 * *", "5-7 1,13 * * *")
    .map((expression) => cron(expression, "Europe/Berlin")),
  fc.constant(cron(["0 9 * * *", "30 17 * * 5", "0 9 1 * *"], "America/New_York")),
  fc
    .tuple(fc.integer({ min: 1_000, max: 3 * DAY }), fc.integer({ min: 0, max: DAY }))
    .map(([everyMs, anchor]) => compiled({ kind: "every", everyMs, anchor }))
)
// Around a spring and an autumn.
const someInstant = fc.integer({ min: Date.parse("2024-03-28T00:00:00Z"), max: Date.parse("2024-11-05T00:00:00Z") })

describe("several cron lines", () => {
  it("are due when any of them is, once where two meet", () => {
    const both = cron(["0 12 * * *", "0 */6 * * *"])
    expect(scan(both, NOON - 1, NOON + 12 * HOUR)).toEqual([NOON, NOON + 6 * HOUR, NOON + 12 * HOUR])
  })
  it("are refused with what is wrong in any of them", () => {
    const schedule = { kind: "cron", expression: ["0 9 * * *", "0 25 * * *"], timezone: "UTC" } as const
    expect(Either.getOrThrow(Either.flip(compile(schedule)))).toMatch(/"0 25 \* \* \*": hour "25"/)
    const none = { kind: "cron", expression: [], timezone: "UTC" } as unknown as Schedule
    expect(Either.isLeft(compile(none))).toBe(true)
  })
})

describe("lastWithin", () => {
  it("finds what a scan finds", () => {
    fc.assert(
      fc.property(someSchedule, someInstant, fc.integer({ min: 0, max: 3 * DAY }), (schedule, after, length) => {
        fc.pre(schedule.kind !== "every" || schedule.everyMs > 30_000)
        expect(lastWithin(schedule, after, after + length)).toBe(scan(schedule, after, after + length).at(-1))
      })
    )
  })
})

describe("plan", () => {
  const hourly = compiled({ kind: "every", everyMs: HOUR, anchor: 0 })
  const first = 3 * HOUR

  it("one instant, on time: whatever the rule", () => {
    for (const catchUp of ["skip", "once", "all"] as const) {
      expect(plan(hourly, first, first + 60_000, rules({ catchUp }))).toEqual({
        missed: undefined,
        made: [{ at: first, late: false }],
        next: 4 * HOUR
      })
    }
  })
  it("one instant, past its grace: late, or missed", () => {
    const late = (catchUp: "skip" | "once" | "all", graceMs = 60_000) =>
      plan(hourly, first, first + 60_001, rules({ catchUp, graceMs }))
    const made = { missed: undefined, made: [{ at: first, late: true }], next: 4 * HOUR }
    expect(late("once")).toEqual(made)
    expect(late("all")).toEqual(made)
    expect(late("skip")).toEqual({ missed: { at: first, until: first, count: 1 }, made: [], next: 4 * HOUR })
    expect(late("skip", 60_001).made).toEqual([{ at: first, late: false }])
  })
  it("several: none, the last, each, or the last of them", () => {
    const now = 8 * HOUR + 30 * MINUTE
    const of = (change: Partial<typeof JobRules.Encoded>) => plan(hourly, first, now, rules(change))
    expect(of({ catchUp: "skip" })).toEqual({
      missed: { at: first, until: 8 * HOUR, count: 6 },
      made: [],
      next: 9 * HOUR
    })
    expect(of({})).toEqual({
      missed: { at: first, until: 7 * HOUR, count: 5 },
      made: [{ at: 8 * HOUR, late: true }],
      next: 9 * HOUR
    })
    const all = [3, 4, 5, 6, 7, 8].map((hour) => ({ at: hour * HOUR, late: true }))
    expect(of({ catchUp: "all" })).toEqual({ missed: undefined, made: all, next: 9 * HOUR })
    expect(of({ catchUp: "all", maxCatchUp: 6 }).made).toEqual(all)
    expect(of({ catchUp: "all", maxCatchUp: 2, graceMs: HOUR })).toEqual({
      missed: { at: first, until: 6 * HOUR, count: 4 },
      made: [
        { at: 7 * HOUR, late: true },
        { at: 8 * HOUR, late: false }
      ],
      next: 9 * HOUR
    })
  })
  it("a job of every second after a month: counted, in one range, at once", () => {
    const seconds = compiled({ kind: "every", everyMs: 1_000, anchor: 0 })
    const month = 30 * DAY
    expect(plan(seconds, 1_000, month, rules({})).missed).toEqual({ at: 1_000, until: month - 1_000, count: 2_591_999 })
    const minutes = cron("* * * * *")
    expect(plan(minutes, MINUTE, month, rules({})).missed).toEqual({
      at: MINUTE,
      until: month - MINUTE,
      count: undefined
    })
    expect(rangeOf(minutes, MINUTE, 100 * MINUTE).count).toBe(100)
    expect(rangeOf(minutes, MINUTE, 101 * MINUTE).count).toBeUndefined()
  })
  it("accounts for every instant once, whatever the schedule and the rules", () => {
    const someRules = fc.record({
      catchUp: fc.constantFrom("skip", "once", "all"),
      graceMs: fc.integer({ min: 0, max: 6 * HOUR }),
      maxCatchUp: fc.integer({ min: 1, max: 10 })
    })
    fc.assert(
      fc.property(
        someSchedule,
        someInstant,
        fc.integer({ min: 0, max: 2 * DAY }),
        someRules,
        (schedule, from, down, rule) => {
          fc.pre(schedule.kind !== "every" || schedule.everyMs > 60_000)
          const first = nextAfter(schedule, from) ?? Number.NaN
          const now = first + down
          const { made, missed, next } = plan(schedule, first, now, rules(rule as Partial<typeof JobRules.Encoded>))
          const all = scan(schedule, first - 1, now)
          const inRange = missed === undefined ? [] : scan(schedule, missed.at - 1, missed.until)
          expect([...inRange, ...made.map(({ at }) => at)]).toEqual(all)
          if (missed !== undefined) {
            expect([missed.at, missed.until]).toEqual([inRange[0], inRange.at(-1)])
            expect(missed.count ?? inRange.length).toBe(inRange.length)
          }
          expect(next).toBe(nextAfter(schedule, now))
          expect(made.length).toBeLessThanOrEqual(rule.catchUp === "all" ? rule.maxCatchUp : 1)
          for (const { at, late } of made) expect(late).toBe(now - at > rule.graceMs)
          if (rule.catchUp !== "skip") expect(made.at(-1)?.at).toBe(all.at(-1))
        }
      )
    )
  })
})
