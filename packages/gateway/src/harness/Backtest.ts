import { Clock, DateTime, Duration, Effect, Option } from "effect"
import { BacktestReport } from "../domain/BacktestReport.ts"
import { parseZone, windowOf } from "../domain/Calendar.ts"
import type { GatewayConfigInput } from "../domain/Config.ts"
import { decodeConfig } from "../domain/ConfigProblems.ts"
import { GatewayConfigError } from "../domain/Errors.ts"
import { nextTurn } from "../internal/NextTurn.ts"
import { Store, StoreError } from "../records/Store.ts"
import * as History from "./backtest/History.ts"
import { Replay } from "./backtest/Replay.ts"
import { factsOf, type Occasion } from "./backtest/Subject.ts"
import type { Steps } from "./backtest/Timers.ts"
import { Chain, makeAsk } from "./Chain.ts"
import type { SchedulingPolicy } from "./Policy.ts"

/** A date, Unix milliseconds, or how long before now, such as `"-30 days"`. */
export type Instant = Date | number | string

export interface BacktestOptions {
  /** The policies to judge by, in any order. */
  readonly policies: ReadonlyArray<SchedulingPolicy>
  /** Events received from here on. Default: all there are. */
  readonly from?: Instant
  /** Events received before. Default: all there are. */
  readonly to?: Instant
  /**
   * What the gateway is configured with: its time zone, budgets, merge window and how long approvals are waited for. Limits are as
   * they were recorded. Default: the defaults.
   */
  readonly config?: GatewayConfigInput
  /** Events that were decided otherwise to name in the report. Default: 20. */
  readonly examples?: number
  /** Told now and then how many events have been read. */
  readonly onProgress?: (events: number) => void
}

const wrong = (path: string, message: string) =>
  new GatewayConfigError({ path, message: `backtest: ${path}: ${message}` })

const instantOf = (
  range: { readonly [path: string]: Instant },
  now: number
): Effect.Effect<number, GatewayConfigError> => {
  const [[path, given] = ["", 0]] = Object.entries(range)
  if (typeof given === "string") {
    const ago = Option.getOrUndefined(Duration.decodeUnknown(given.replace(/^\s*-\s*/, "")))
    if (/^\s*-/.test(given) && ago !== undefined) return Effect.succeed(now - Duration.toMillis(ago))
    return wrong(path, `"${given}" is no time before now; write it as "-30 days", or give a Date`)
  }
  const millis = typeof given === "number" ? given : given.getTime()
  return Number.isFinite(millis) ? Effect.succeed(millis) : wrong(path, "is no instant")
}

/** Goes on with `steps` whenever a policy that takes its time has answered. Most answer at once, and cost no effect. */
const drive = (steps: Steps): Effect.Effect<void> | undefined => {
  const go = (next: ReturnType<Steps["next"]>): Effect.Effect<void> | undefined =>
    next.done === true
      ? undefined
      : Effect.flatMap(next.value.answer, (answer) => go(steps.next(answer)) ?? Effect.void)
  return go(steps.next())
}

/** A day of the record does not end at midnight in the zone: it is another's. */
const checkZone = (occasion: Occasion, zone: DateTime.TimeZone): Effect.Effect<void, GatewayConfigError> => {
  const { resetsAt } = factsOf(occasion).budget
  return windowOf(resetsAt.getTime() - 1, "day", zone).end === resetsAt.getTime()
    ? Effect.void
    : wrong(
        "config.timezone",
        `in it, no day ends at ${resetsAt.toISOString()}, as one does in the record; give the gateway's config`
      )
}

/**
 * Judges recorded events again, by other policies, at the time and on the state they were judged on. What the new decisions change
 * of that state, later ones see: budgets, rates, merge windows, heartbeats, chains, what is pending. Nothing is written or run, and
 * the gateway may go on meanwhile.
 *
 * - Runs cost what they were recorded to; where one was not run, what the agent's runs used on average, which the report says.
 * - Who was asked about an event in the record answers the same after as long; of others that are escalated, nobody answers.
 * - What is queued without a time is judged again once a minute. What a runner, a clock or a person was the cause of is as it
 *   was recorded: estimates, limits, failures of agents, senders' rates.
 *
 * The policies that decided the record decide it again, to the letter. Fails with a `GatewayConfigError` where an option is
 * wrong, or the zone is not the record's.
 */
export const run = (options: BacktestOptions): Effect.Effect<BacktestReport, StoreError | GatewayConfigError, Store> =>
  Effect.gen(function* () {
    const store = yield* Store
    const config = yield* decodeConfig(options.config ?? {})
    const zone = parseZone(config.timezone) ?? DateTime.zoneMakeOffset(0)
    const tags = options.policies.map(({ _tag }) => _tag)
    const twice = tags.find((tag, i) => tags.indexOf(tag) !== i)
    if (twice !== undefined) yield* wrong("policies", `there are two of the name "${twice}"; leave one out`)
    const now = yield* Clock.currentTimeMillis
    const from = options.from === undefined ? 0 : yield* instantOf({ from: options.from }, now)
    const to = options.to === undefined ? Number.POSITIVE_INFINITY : yield* instantOf({ to: options.to }, now)
    const replay = new Replay(config, zone, {
      chain: new Chain(options.policies),
      ask: makeAsk(yield* Effect.runtime<never>(), config.limits.policyTimeoutMs),
      examples: options.examples ?? 20
    })
    const history = History.make(store, { from, to, known: (id) => replay.known(id) })
    let events = 0
    let checked = false
    let end = from
    const judge = Effect.fnUntraced(function* (part: History.Part) {
      events += part.events
      for (const run of part.runs) replay.costs.ran(run)
      for (const occasion of part.occasions) {
        if (!checked) yield* checkZone(occasion, zone)
        checked = true
        const waiting = drive(replay.occasion(occasion))
        if (waiting !== undefined) yield* waiting
        end = occasion.at
      }
      options.onProgress?.(events)
      yield* nextTurn
    })
    // What cannot be read is thrown, in the middle of plain code.
    yield* Effect.catchSomeDefect(history(judge), (defect) =>
      defect instanceof StoreError ? Option.some(Effect.fail(defect)) : Option.none()
    )
    yield* drive(replay.advance(Math.max(end, Math.min(to, now)))) ?? Effect.void
    return new BacktestReport({ events, ...replay.report() })
  })
