import { Either, ParseResult, Schema } from "effect"
import { Schedule } from "../domain/Schedule.ts"
import * as CronExpression from "./CronExpression.ts"

/** A schedule that was found valid, in the form `nextAfter` reads. Instants and distances are milliseconds. */
export type CompiledSchedule =
  | { readonly kind: "at"; readonly at: number }
  | { readonly kind: "every"; readonly everyMs: number; readonly anchor: number }
  | { readonly kind: "cron"; readonly lines: ReadonlyArray<CronExpression.CronExpression> }

const validate = Schema.validateEither(Schedule)

const problem = (error: ParseResult.ParseError): string =>
  ParseResult.ArrayFormatter.formatErrorSync(error)
    .map(({ path, message }) => `schedule: ${path.length === 0 ? "" : `${path.join(".")}: `}${message}`)
    .join("; ")

/**
 * Checks a schedule once, to be asked often. A Left says what is wrong and what to write instead. An `at` in the past
 * is valid here: that its `nextAfter` is `undefined` is for whoever creates the job to decide on.
 */
export const compile = (schedule: Schedule): Either.Either<CompiledSchedule, string> => {
  const valid = validate(schedule)
  return Either.isLeft(valid) ? Either.left(problem(valid.left)) : compileDecoded(schedule)
}

/** `compile`, of a schedule that was just decoded: its shape is checked already, and checking it costs more than the rest. */
export const compileDecoded = (schedule: Schedule): Either.Either<CompiledSchedule, string> => {
  switch (schedule.kind) {
    case "at":
      return Either.right({ kind: "at", at: schedule.at.getTime() })
    case "every":
      return Either.right({ kind: "every", everyMs: schedule.everyMs, anchor: schedule.anchor ?? 0 })
    case "cron": {
      const { expression, timezone } = schedule
      const lines = typeof expression === "string" ? [expression] : expression
      const parsed = Either.all(lines.map((line) => CronExpression.parse(line, timezone)))
      return Either.map(parsed, (lines) => ({ kind: "cron", lines }))
    }
  }
}

/** The last instant a `Date` can hold. */
const LAST_INSTANT = 8.64e15

const nextTick = (everyMs: number, anchor: number, after: number): number =>
  after < anchor ? anchor : anchor + (Math.floor((after - anchor) / everyMs) + 1) * everyMs

/**
 * The first instant strictly after `after` at which the schedule is due, both Unix milliseconds. `undefined` when
 * there is none: an `at` that is not to come any more, or the end of what a `Date` can hold.
 */
export const nextAfter = (compiled: CompiledSchedule, after: number): number | undefined => {
  switch (compiled.kind) {
    case "at":
      return compiled.at > after ? compiled.at : undefined
    case "every": {
      const tick = nextTick(compiled.everyMs, compiled.anchor, after)
      return tick > after && tick <= LAST_INSTANT ? tick : undefined
    }
    case "cron": {
      let first: number | undefined
      for (const line of compiled.lines) {
        const next = CronExpression.next(line, after)
        if (next !== undefined && (first === undefined || next < first)) first = next
      }
      return first
    }
  }
}

/** The next `count` instants strictly after `after`; fewer where there are no more. */
export const upcoming = (compiled: CompiledSchedule, after: number, count: number): ReadonlyArray<number> => {
  const instants: Array<number> = []
  for (let next = nextAfter(compiled, after); next !== undefined && instants.length < count; ) {
    instants.push(next)
    next = nextAfter(compiled, next)
  }
  return instants
}

/** Instants are whole seconds at least. */
const CLOSEST = 1_000

/**
 * The last instant after `after` and not after `until`, found in as many steps as the distance has bits: `undefined` when
 * there is none.
 */
export const lastWithin = (compiled: CompiledSchedule, after: number, until: number): number | undefined => {
  if (compiled.kind === "at") return compiled.at > after && compiled.at <= until ? compiled.at : undefined
  if (compiled.kind === "every") {
    const { anchor, everyMs } = compiled
    const last = until < anchor ? undefined : anchor + Math.floor((until - anchor) / everyMs) * everyMs
    return last !== undefined && last > after ? last : undefined
  }
  // Windows that end at `until`, each twice as long, until one has an instant; then halves of what it has over the one before.
  let found: number | undefined
  let end = until
  for (let length = 60_000; found === undefined; length *= 2) {
    const start = Math.max(after, until - length)
    const next = nextAfter(compiled, start)
    if (next !== undefined && next <= until) found = next
    else if (start === after) return undefined
    else end = start
  }
  while (end - found >= CLOSEST) {
    const middle = Math.floor((found + end) / 2)
    const next = nextAfter(compiled, middle)
    if (next !== undefined && next <= end) found = next
    else end = middle
  }
  return found
}
