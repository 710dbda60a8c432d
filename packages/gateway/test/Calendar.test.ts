import { describe, expect, it } from "@effect/vitest"
import { Moment, parseZone } from "@postilion/gateway/domain/Calendar"
import { DateTime, FastCheck as fc } from "effect"

const ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "+05:30"]

describe("a moment", () => {
  it("shows what the calendar of its zone does, also about a change of the clock", () => {
    const near = fc
      .tuple(
        fc.constantFrom(Date.UTC(2026, 2, 29, 1), Date.UTC(2026, 9, 25, 1), Date.UTC(2026, 3, 4, 15)),
        fc.integer()
      )
      .map(([change, away]) => change + (away % 5_400_000))
    const any = fc.integer({ min: Date.UTC(2020, 0), max: Date.UTC(2035, 0) })
    fc.assert(
      fc.property(fc.constantFrom(...ZONES), fc.array(fc.oneof(near, any), { minLength: 1 }), (name, instants) => {
        const zone = parseZone(name)
        if (zone === undefined) throw new Error(`no zone ${name}`)
        for (const at of instants) {
          const moment = new Moment(at, zone)
          const shown = DateTime.toParts(DateTime.unsafeMakeZoned(at, { timeZone: zone }))
          expect([moment.dayOfMonth, moment.hour, moment.minute, moment.weekdayIn(0)]).toEqual([
            shown.day,
            shown.hours,
            shown.minutes,
            ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"][shown.weekDay]
          ])
          expect(moment.daysInMonth).toBe(new Date(Date.UTC(shown.year, shown.month, 0)).getUTCDate())
        }
      })
    )
  })
})
