import type { CronExpression } from "cron-parser"

/** The times on a wall clock that never changes at which five cron fields are due. */
export interface WallCalendar {
  /** Upwards. */
  readonly minutes: ReadonlyArray<number>
  readonly hours: ReadonlyArray<number>
  /** By their number: day of the month, month from 0, day of the week from Sunday. */
  readonly days: ReadonlySet<number>
  readonly months: ReadonlySet<number>
  readonly weekdays: ReadonlySet<number>
  /** When both days are restricted, either one is enough. */
  readonly eitherDay: boolean
}

const numbers = ({ values }: { readonly values: ReadonlyArray<unknown> }): ReadonlyArray<number> =>
  values.filter((value) => typeof value === "number").sort((a, b) => a - b)

export const fromFields = ({ fields }: CronExpression): WallCalendar => ({
  minutes: numbers(fields.minute),
  hours: numbers(fields.hour),
  days: new Set(numbers(fields.dayOfMonth)),
  months: new Set(numbers(fields.month).map((month) => month - 1)),
  weekdays: new Set(numbers(fields.dayOfWeek).map((day) => day % 7)),
  eitherDay: !fields.dayOfMonth.isWildcard && !fields.dayOfWeek.isWildcard
})

const MINUTE = 60_000
const DAY = 86_400_000
/** The 29th of February may be eight years away. */
const FURTHEST = 20 * 12

const hasDay = ({ days, eitherDay, weekdays }: WallCalendar, day: number, weekday: number): boolean =>
  eitherDay ? days.has(day) || weekdays.has(weekday) : days.has(day) && weekdays.has(weekday)

/** The first due minute of a day at or after `from`, both counted from midnight. */
const minuteOf = ({ hours, minutes }: WallCalendar, from: number): number | undefined => {
  const first = Math.floor(from / 60)
  for (const hour of hours) {
    if (hour < first) continue
    const earliest = hour === first ? from % 60 : 0
    for (const minute of minutes) if (minute >= earliest) return hour * 60 + minute
  }
  return undefined
}

/**
 * The first due time strictly after `after`, both a wall clock read as UTC in milliseconds. `undefined`: there is none, or
 * none that a `Date` holds. Plain code: every job's next instant is looked for here.
 */
export const nextWall = (calendar: WallCalendar, after: number): number | undefined => {
  const start = (Math.floor(after / MINUTE) + 1) * MINUTE
  const date = new Date(start)
  let year = date.getUTCFullYear()
  let month = date.getUTCMonth()
  let day = date.getUTCDate()
  let minute = Math.floor((start - Math.floor(start / DAY) * DAY) / MINUTE)
  for (let looked = 0; looked <= FURTHEST; looked++) {
    if (calendar.months.has(month)) {
      const first = Date.UTC(year, month, 1)
      const weekday = new Date(first).getUTCDay()
      const length = new Date(Date.UTC(year, month + 1, 0)).getUTCDate()
      for (; day <= length; day++) {
        if (hasDay(calendar, day, (weekday + day - 1) % 7)) {
          const due = minuteOf(calendar, minute)
          if (due !== undefined) return first + (day - 1) * DAY + due * MINUTE
        }
        minute = 0
      }
    }
    day = 1
    minute = 0
    month = (month + 1) % 12
    if (month === 0) year += 1
  }
  return undefined
}
