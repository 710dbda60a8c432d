import { CronExpressionParser } from "cron-parser"
import { DateTime, Either } from "effect"
import { parseZone } from "../domain/Calendar.ts"
import { fromFields, nextWall, type WallCalendar } from "./WallCalendar.ts"

/** Five cron fields in an IANA zone, checked and ready to be asked for instants. Made by {@link parse}. */
export interface CronExpression {
  readonly expression: string
  readonly timezone: string
  /** @internal The expression on a wall clock that never changes; `zone` says when a wall shows a time. */
  readonly calendar: WallCalendar
  /** @internal */
  readonly zone: DateTime.TimeZone
  /** @internal Whether every hour is allowed: such a schedule follows elapsed time through a clock change. */
  readonly everyHour: boolean
}

const FIELDS = [
  { name: "minute", max: 59, takes: "0-59" },
  { name: "hour", max: 23, takes: "0-23" },
  { name: "day-of-month", max: 31, takes: "1-31" },
  { name: "month", max: 12, takes: "1-12 or JAN-DEC" },
  { name: "day-of-week", max: 7, takes: "0-7 or SUN-SAT, 0 and 7 both being Sunday" }
] as const

// Narrower than the library, whose `H` draws another minute at each start, and whose `L`, `#` and `?` crontab lacks.
const ITEM = /^(?:\*|(?:\d+|[a-z]{3})(?:-(?:\d+|[a-z]{3}))?)(?:\/(\d+))?$/i

// Reading one takes as long as a hundred instants of it, and many jobs say the same.
const calendars = new Map<string, WallCalendar>()
const CALENDARS_LIMIT = 1_000

const readCalendar = (fields: ReadonlyArray<string>): Either.Either<WallCalendar, string> => {
  const text = fields.join(" ")
  const read = calendars.get(text)
  if (read !== undefined) return Either.right(read)
  return Either.try({
    try: () => {
      // Read by the library, asked here: its answers around clock changes depend on the instant it is asked from, and take long.
      const calendar = fromFields(CronExpressionParser.parse(text, { tz: "UTC", currentDate: 0 }))
      if (calendars.size >= CALENDARS_LIMIT) calendars.clear()
      calendars.set(text, calendar)
      return calendar
    },
    catch: (cause) => (cause instanceof Error ? cause.message : String(cause))
  })
}

/** What is wrong with how a field is written. */
const formProblem = (text: string, max: number): string | undefined => {
  for (const item of text.split(",")) {
    const match = ITEM.exec(item)
    if (match === null) return `"${item}" is not a value, a range or a step`
    // `*/90` would run on the hour, not every 90 minutes.
    if (Number(match[1] ?? 1) > max) return `a step of ${match[1]} never gets to a second value`
  }
  return undefined
}

/** What the library has against a field by itself, of which a whole expression's error does not say which it was. */
const valueProblem = (text: string, index: number): string | undefined => {
  const alone = readCalendar(["*", "*", "*", "*", "*"].with(index, text))
  return Either.isLeft(alone) ? alone.left : undefined
}

/**
 * Reads `minute hour day-of-month month day-of-week`: values, names (`MON`, `jan`), ranges, steps and lists; `7` is
 * Sunday. When both days are restricted, either one is enough.
 *
 * Refused, with what to write instead: another number of fields (no seconds, no `@daily`), ranges that wrap
 * (`FRI-MON`), values given twice, steps longer than the field, and dates that never come (`0 0 31 2 *`).
 *
 * @param timezone IANA name, such as `Europe/Berlin`
 */
export const parse = (expression: string, timezone: string): Either.Either<CronExpression, string> => {
  const zone = parseZone(timezone)
  if (zone === undefined) {
    return Either.left(`"${timezone}" is not an IANA time zone; try "UTC" or "Europe/Berlin"`)
  }
  const fail = (problem: string) => Either.left(`cron expression "${expression}": ${problem}`)
  // `*/1` restricts nothing, so it must not turn "weekdays" into "any day or weekdays".
  const texts = expression
    .trim()
    .split(/\s+/)
    .map((text) => (text === "*/1" ? "*" : text))
  if (texts.length !== FIELDS.length) {
    return fail('it must have 5 fields: minute hour day-of-month month day-of-week, such as "0 9 * * 1-5"')
  }
  const failAt = (find: (text: string, max: number, index: number) => string | undefined) => {
    for (const [index, { name, max, takes }] of FIELDS.entries()) {
      const text = texts[index] ?? "*"
      const problem = find(text, max, index)
      if (problem === undefined) continue
      return fail(
        `${name} "${text}": ${problem}; write * or values from ${takes}, each once: ` +
          "alone, as lists (1,3), upward ranges (1-5) or steps (*/2)"
      )
    }
    return undefined
  }
  const never = () => fail("no such date ever comes; write a day that one of its months has")
  const malformed = failAt(formProblem)
  if (malformed !== undefined) return malformed
  const calendar = readCalendar(texts)
  if (Either.isLeft(calendar)) return failAt((text, _, index) => valueProblem(text, index)) ?? never()
  const everyHour = calendar.right.hours.length === 24
  const cron: CronExpression = { expression, timezone, calendar: calendar.right, zone, everyHour }
  // Only a day of the month can miss every month, and only when no weekday stands in for it.
  const mayMiss = texts[2] !== "*" && texts[4] === "*"
  return mayMiss && next(cron, 0) === undefined ? never() : Either.right(cron)
}

const DAY = 86_400_000
/** A `Date` reaches 8.64e15; the neighbouring days are looked at too. */
const LAST_INSTANT = 8.64e15 - 4 * DAY

/** The offsets from UTC around a day, milliseconds, and the instant the first gave way to the second. */
interface Offsets {
  readonly before: number
  readonly after: number
  readonly change: number
}

const offsetAt = (zone: DateTime.TimeZone, instant: number): number =>
  DateTime.zonedOffset(DateTime.unsafeMakeZoned(instant, { timeZone: zone }))

const measureOffsets = (zone: DateTime.TimeZone, day: number): Offsets => {
  let low = (day - 1) * DAY
  let high = (day + 2) * DAY
  const before = offsetAt(zone, low)
  const after = offsetAt(zone, high)
  if (before === after) return { before, after, change: high }
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (offsetAt(zone, middle) === before) low = middle
    else high = middle
  }
  return { before, after, change: high }
}

// Asking Intl costs more than all the rest, and jobs of one zone ask about the same few days.
const known = new Map<string, Offsets>()
const KNOWN_LIMIT = 10_000

/** The offsets within a day and more of `time`, an instant or a wall clock read as UTC. */
const offsetsAround = ({ timezone, zone }: CronExpression, time: number): Offsets => {
  const day = Math.floor(time / DAY)
  const key = `${day} ${timezone}`
  let offsets = known.get(key)
  if (offsets === undefined) {
    if (known.size >= KNOWN_LIMIT) known.clear()
    offsets = measureOffsets(zone, day)
    known.set(key, offsets)
  }
  return offsets
}

/**
 * The instant after `after` at which `wall` is due. A named hour is due once a day: in the hour autumn repeats at its
 * first pass, and in the hour spring skips as much later as the clock jumped. With every hour allowed, whatever the
 * clock really shows is due: both passes, and nothing for an hour that never was.
 */
const dueAfter = (wall: number, { before, after: behind, change }: Offsets, everyHour: boolean, after: number) => {
  const first = wall - before
  const second = wall - behind
  const firstShown = before === behind || first < change
  const secondShown = before !== behind && second >= change
  if (everyHour) return firstShown && first > after ? first : secondShown && second > after ? second : undefined
  const due = secondShown && !firstShown ? second : first
  return due > after ? due : undefined
}

/** A wall below which, itself included, nothing is due after `after`. */
const wallBefore = ({ before, after: behind, change }: Offsets, after: number): number => {
  if (after < change) return Math.min(after + before, change + behind - 1)
  // Shortly after a jump forward the walls it skipped are still coming due.
  return after + before < change + behind ? after + before : after + behind
}

/** An instant before which no wall later than `wall` is due. */
const laterWallsFrom = (wall: number, { before, after: behind, change }: Offsets): number =>
  Math.min(wall - before, Math.max(wall - behind, change))

/**
 * The first instant strictly after `after`, both Unix milliseconds; `undefined` when there is none, or when `after` is
 * not an instant a `Date` can hold.
 *
 * - A time that spring skips runs once, as much later as the clock jumped: 02:30 at 03:30.
 * - A time that autumn repeats runs once, at its first pass.
 * - With every hour allowed (`* * * * *`, `30 * * * *`), both passes run, and nothing is made up for the skipped hour.
 *
 * Plain code, as jobs by the hundred thousand ask for it.
 */
export const next = (cron: CronExpression, after: number): number | undefined => {
  if (!(Math.abs(after) < LAST_INSTANT)) return undefined
  // Around a change, walls do not come due in their own order: start low enough, and stop when none can be earlier.
  let wall: number | undefined = wallBefore(offsetsAround(cron, after), Math.floor(after))
  let best: number | undefined
  for (;;) {
    wall = nextWall(cron.calendar, wall)
    if (wall === undefined || wall > LAST_INSTANT) return best
    const offsets = offsetsAround(cron, wall)
    const due = dueAfter(wall, offsets, cron.everyHour, after)
    if (due !== undefined && (best === undefined || due < best)) best = due
    if (best !== undefined && laterWallsFrom(wall, offsets) >= best) return best
  }
}
