import { Either, ParseResult, Schema } from "effect"
import { Schedule } from "../domain/Schedule.ts"
import * as CronExpression from "./CronExpression.ts"

/** A schedule that was found valid, in the form `nextAfter` reads. Instants and distances are milliseconds. */
export type CompiledSchedule =
  | { readonly kind: "at"; readonly at: number }
  | { readonly kind: "every"; readonly everyMs: number; readonly anchor: number }
  | { readonly kind: "cron"; readonly cron: CronExpression.CronExpression }

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
  if (Either.isLeft(valid)) return Either.left(problem(valid.left))
  switch (schedule.kind) {
    case "at":
      return Either.right({ kind: "at", at: schedule.at.getTime() })
    case "every":
      return Either.right({ kind: "every", everyMs: schedule.everyMs, anchor: schedule.anchor ?? 0 })
    case "cron":
      return Either.map(CronExpression.parse(schedule.expression, schedule.timezone), (cron) => ({
        kind: "cron",
        cron
      }))
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
    case "cron":
      return CronExpression.next(compiled.cron, after)
  }
}
