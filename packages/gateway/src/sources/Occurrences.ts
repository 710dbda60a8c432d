import type { JobRules } from "../domain/Job.ts"
import { type CompiledSchedule, lastWithin, nextAfter } from "./ScheduleClock.ts"

/** Instants on end that make no event. Unix milliseconds. */
export interface Range {
  readonly at: number
  /** The last of them. */
  readonly until: number
  /** How many; `undefined`: too many of a cron to be counted. */
  readonly count: number | undefined
}

/** What becomes of the instants that are due. */
export interface Plan {
  /** Those that make no event: before all those that do. */
  readonly missed: Range | undefined
  /** Those that make an event, in order. */
  readonly made: ReadonlyArray<{ readonly at: number; readonly late: boolean }>
  /** The first that is not due yet. */
  readonly next: number | undefined
}

/** Instants of a cron that are counted one by one. */
const COUNTED = 100

/** From `at`, an instant, to the last one not after `until`. */
export const rangeOf = (compiled: CompiledSchedule, at: number, until: number): Range => {
  const last = lastWithin(compiled, at, until) ?? at
  if (compiled.kind === "every") return { at, until: last, count: (last - at) / compiled.everyMs + 1 }
  let count = 1
  for (let next = at; next < last; count++) {
    if (count === COUNTED) return { at, until: last, count: undefined }
    next = nextAfter(compiled, next) ?? last
  }
  return { at, until: last, count }
}

/** The last `most` instants from `first`, an instant, to `last`, another. */
const lastOf = (
  compiled: CompiledSchedule,
  first: number,
  last: number,
  most: number
): readonly [number, ...ReadonlyArray<number>] => {
  const forward: [number, ...Array<number>] = [first]
  for (let at = first; at < last && forward.length <= most; ) {
    at = nextAfter(compiled, at) ?? last
    forward.push(at)
  }
  if (forward.length <= most) return forward
  const backward: [number, ...Array<number>] = [last]
  for (let at = last; backward.length < most; backward.unshift(at)) at = lastWithin(compiled, first, at - 1) ?? first
  return backward
}

/** What becomes of the instants from `first`, the first that is not accounted for, until `now`. */
export const plan = (compiled: CompiledSchedule, first: number, now: number, rules: JobRules): Plan => {
  const next = nextAfter(compiled, Math.max(first, now))
  const last = lastWithin(compiled, first, now) ?? first
  const late = (at: number): boolean => now - at > rules.graceMs
  if (rules.catchUp === "skip" && late(last)) return { missed: rangeOf(compiled, first, last), made: [], next }
  const instants = rules.catchUp === "all" ? lastOf(compiled, first, last, rules.maxCatchUp) : ([last] as const)
  const [earliest] = instants
  return {
    missed: earliest > first ? rangeOf(compiled, first, earliest - 1) : undefined,
    made: instants.map((at) => ({ at, late: late(at) })),
    next
  }
}
