import { DateTime } from "effect"

const WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"] as const
export type Weekday = (typeof WEEKDAYS)[number]

/** An IANA time zone, or `undefined` when there is none of that name. */
export const parseZone = (name: string): DateTime.TimeZone | undefined => {
  const zone = DateTime.zoneFromString(name)
  return zone._tag === "Some" ? zone.value : undefined
}

const QUARTER = 900_000
/** What a zone was last found to be off by, for a quarter of an hour in which that does not change. */
const offsets = new WeakMap<DateTime.TimeZone, { readonly quarter: number; readonly offset: number }>()

/** How far the wall clock of a zone is ahead at an instant, in milliseconds. Asking the calendar costs more than a decision does. */
const offsetAt = (at: number, zone: DateTime.TimeZone): number => {
  const quarter = Math.floor(at / QUARTER)
  const last = offsets.get(zone)
  if (last?.quarter === quarter) return last.offset
  const of = (instant: number): number => DateTime.zonedOffset(DateTime.unsafeMakeZoned(instant, { timeZone: zone }))
  const offset = of(quarter * QUARTER)
  if (offset !== of(quarter * QUARTER + QUARTER - 1)) return of(at)
  offsets.set(zone, { quarter, offset })
  return offset
}

/** An instant as a wall clock in a zone shows it. The calendar fields are worked out when first asked for. */
export class Moment {
  readonly epochMillis: number
  readonly zone: DateTime.TimeZone
  #wall: Date | undefined

  constructor(epochMillis: number, zone: DateTime.TimeZone) {
    this.epochMillis = epochMillis
    this.zone = zone
  }
  /** What the wall clock shows, as UTC. */
  private get wall(): Date {
    this.#wall ??= new Date(this.epochMillis + offsetAt(this.epochMillis, this.zone))
    return this.#wall
  }
  get dateTime(): DateTime.Zoned {
    return DateTime.unsafeMakeZoned(this.epochMillis, { timeZone: this.zone })
  }
  get date(): Date {
    return new Date(this.epochMillis)
  }
  get weekday(): Weekday {
    return WEEKDAYS[this.wall.getUTCDay()] as Weekday
  }
  /** The weekday `days` days from this one. */
  weekdayIn(days: number): Weekday {
    return WEEKDAYS[(((this.wall.getUTCDay() + days) % 7) + 7) % 7] as Weekday
  }
  /** 0–23. */
  get hour(): number {
    return this.wall.getUTCHours()
  }
  /** 0–59. */
  get minute(): number {
    return this.wall.getUTCMinutes()
  }
  /** 1–31. */
  get dayOfMonth(): number {
    return this.wall.getUTCDate()
  }
  /** 28–31. */
  get daysInMonth(): number {
    return new Date(Date.UTC(this.wall.getUTCFullYear(), this.wall.getUTCMonth() + 1, 0)).getUTCDate()
  }
  /** Minutes since midnight on the wall clock. */
  get minuteOfDay(): number {
    return this.hour * 60 + this.minute
  }
  /** The wall clock `minuteOfDay` minutes after midnight, `days` days from this one. */
  at(days: number, minuteOfDay: number): Date {
    const day = DateTime.add(this.dateTime, { days })
    return DateTime.toDateUtc(
      DateTime.setParts(day, { hours: Math.floor(minuteOfDay / 60), minutes: minuteOfDay % 60, seconds: 0, millis: 0 })
    )
  }
  toJSON(): string {
    return this.date.toISOString()
  }
}

/** Midnight in `zone` of a day written as `2026-01-31`, Unix milliseconds; `undefined` when there is no such day. */
export const startOfDay = (day: string, zone: DateTime.TimeZone): number | undefined => {
  const utc = /^\d{4}-\d\d-\d\d$/.test(day) ? Date.parse(day) : Number.NaN
  if (Number.isNaN(utc) || new Date(utc).toISOString().slice(0, 10) !== day) return undefined
  const midnight = DateTime.unsafeMakeZoned(utc, { timeZone: zone, adjustForTimeZone: true })
  return windowOf(midnight.epochMillis, "day", zone).start
}

/** The day that contains `at` in `zone`, as `2026-01-31`. */
export const dayOf = (at: number, zone: DateTime.TimeZone): string =>
  DateTime.formatIsoDate(DateTime.unsafeMakeZoned(at, { timeZone: zone }))

/** A calendar hour, day or month: `start` inclusive, `end` exclusive, Unix milliseconds. */
export interface CalendarWindow {
  readonly start: number
  readonly end: number
}

/**
 * The calendar `unit` that contains `at` in `zone`. A day that a clock change makes 23 or 25 hours long is one window; an
 * hour is 60 minutes of elapsed time, so the hour that autumn repeats is two windows.
 */
export const windowOf = (at: number, unit: "hour" | "day" | "month", zone: DateTime.TimeZone): CalendarWindow => {
  const moment = new Moment(at, zone)
  if (unit === "day") return { start: moment.at(0, 0).getTime(), end: moment.at(1, 0).getTime() }
  if (unit === "month") {
    const first = new Moment(moment.at(1 - moment.dayOfMonth, 0).getTime(), zone)
    return { start: first.epochMillis, end: first.at(first.daysInMonth, 0).getTime() }
  }
  const offset = DateTime.zonedOffset(moment.dateTime)
  const hour = 3_600_000
  const start = Math.floor((at + offset) / hour) * hour - offset
  return { start, end: start + hour }
}
