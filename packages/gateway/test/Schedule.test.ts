import { Either, FastCheck as fc, Schema } from "effect"
import { describe, expect, it } from "vitest"
import { Schedule } from "../src/domain/Schedule.ts"
import { compile, nextAfter } from "../src/sources/ScheduleClock.ts"

const compiled = (schedule: Schedule) => Either.getOrThrow(compile(schedule))
const refusal = (schedule: Schedule) => Either.getOrThrow(Either.flip(compile(schedule)))
const NOON = Date.parse("2024-06-01T12:00:00Z")

describe("at", () => {
  const once = compiled({ kind: "at", at: new Date(NOON) })

  it("is due once", () => {
    expect(nextAfter(once, NOON - 1)).toBe(NOON)
    expect(nextAfter(once, NOON)).toBeUndefined()
  })

  it("N10: past one-shot: decided at creation, as it is never due again", () => {
    expect(nextAfter(once, NOON + 1)).toBeUndefined()
    expect(nextAfter(once, NOON + 86_400_000)).toBeUndefined()
  })

  it("refuses what is not a date", () => {
    expect(refusal({ kind: "at", at: new Date("tomorrow") })).toMatch(/^schedule: at: /)
  })
})

describe("every", () => {
  it("ticks at anchor + k * everyMs, the anchor first", () => {
    const minutely = compiled({ kind: "every", everyMs: 60_000, anchor: NOON + 7 })
    expect(nextAfter(minutely, 0)).toBe(NOON + 7)
    expect(nextAfter(minutely, NOON + 6)).toBe(NOON + 7)
    expect(nextAfter(minutely, NOON + 7)).toBe(NOON + 60_007)
    expect(nextAfter(minutely, NOON + 60_006.5)).toBe(NOON + 60_007)
  })

  it("is anchored at 0 unless told otherwise", () => {
    const hourly = compiled({ kind: "every", everyMs: 3_600_000 })
    expect(nextAfter(hourly, NOON)).toBe(NOON + 3_600_000)
    expect(nextAfter(hourly, NOON + 1)).toBe(NOON + 3_600_000)
  })

  it("stops where dates do", () => {
    const far = compiled({ kind: "every", everyMs: Number.MAX_SAFE_INTEGER, anchor: NOON })
    expect(nextAfter(far, NOON)).toBeUndefined()
    expect(nextAfter(far, Number.NaN)).toBeUndefined()
    expect(nextAfter(far, Number.POSITIVE_INFINITY)).toBeUndefined()
  })

  for (const everyMs of [0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    it(`refuses ${everyMs} ms`, () => {
      expect(refusal({ kind: "every", everyMs })).toBe(
        `schedule: everyMs: must be a whole number greater than 0, got ${everyMs}`
      )
    })
  }

  it("is the first tick after now, whatever now is", () => {
    const millis = fc.integer({ min: -4e12, max: 4e12 })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e10 }), millis, millis, (everyMs, anchor, after) => {
        const tick = nextAfter(compiled({ kind: "every", everyMs, anchor }), after) ?? Number.NaN
        expect(tick).toBeGreaterThan(after)
        expect(Math.abs((tick - anchor) % everyMs)).toBe(0)
        expect(tick === anchor || tick - everyMs <= after).toBe(true)
      })
    )
  })
})

describe("cron", () => {
  it("is due by the clock of its zone", () => {
    const daily = compiled({ kind: "cron", expression: "0 9 * * *", timezone: "Europe/Berlin" })
    expect(nextAfter(daily, NOON)).toBe(Date.parse("2024-06-02T07:00:00Z"))
  })

  it("N9: DST: 02:30 of a spring night is due at 03:30", () => {
    const nightly = compiled({ kind: "cron", expression: "30 2 * * *", timezone: "Europe/Berlin" })
    expect(nextAfter(nightly, Date.parse("2024-03-30T23:00:00Z"))).toBe(Date.parse("2024-03-31T01:30:00Z"))
  })

  it("is refused with what is wrong", () => {
    expect(refusal({ kind: "cron", expression: "0 25 * * *", timezone: "UTC" })).toMatch(/hour "25"/)
    expect(refusal({ kind: "cron", expression: "0 9 * * *", timezone: "Mars/Olympus" })).toMatch(
      /not an IANA time zone/
    )
  })
})

describe("Schedule", () => {
  it("goes to JSON and back", () => {
    const schedules: ReadonlyArray<Schedule> = [
      { kind: "at", at: new Date(NOON) },
      { kind: "every", everyMs: 60_000 },
      { kind: "every", everyMs: 60_000, anchor: NOON },
      { kind: "cron", expression: "0 9 * * 1-5", timezone: "Europe/Berlin" }
    ]
    for (const schedule of schedules) {
      const text = JSON.stringify(Schema.encodeSync(Schedule)(schedule))
      expect(Schema.decodeUnknownSync(Schedule)(JSON.parse(text))).toEqual(schedule)
    }
    expect(Schema.encodeSync(Schedule)({ kind: "at", at: new Date(NOON) })).toEqual({
      kind: "at",
      at: "2024-06-01T12:00:00.000Z"
    })
  })
})
