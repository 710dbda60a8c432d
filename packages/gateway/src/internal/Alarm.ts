import { Clock, Context, Effect, type Scope } from "effect"
import { DueHeap } from "./DueHeap.ts"
import { supervise } from "./Supervisor.ts"

/**
 * Milliseconds no sleep is longer than, so that a host that slept or a clock that jumped is noticed. Default: 60,000. A
 * `TestClock` does not sleep; tests that move it by days need no looks in between.
 */
export class LongestSleep extends Context.Reference<LongestSleep>()("@postilion/gateway/LongestSleep", {
  defaultValue: () => 60_000
}) {}

/** Set back by less, a clock was only put right. Milliseconds. */
export const SET_BACK = 60_000

export interface Alarm {
  /** Has `key` go off at `at` (Unix milliseconds), in place of when it would have. */
  readonly set: (key: string, at: number) => void
  readonly clear: (key: string) => void
  readonly reset: () => void
  /** When the next key goes off, or the first of those that are going off. */
  readonly next: () => number | undefined
}

/**
 * One sleeping fiber for any number of instants; every change costs O(log n). `onDue` is given the keys that are due, at
 * most `maxDue` at a time, in order; they are no longer set. When it fails, those of them that it has not set itself are due
 * again. When the clock has been set back by more than a minute, `onSetBack` runs before any other key goes off. Supervised as
 * `name`.
 */
export const make = (
  name: string,
  onDue: (keys: ReadonlyArray<string>) => Effect.Effect<void>,
  maxDue = 500,
  onSetBack: Effect.Effect<void> = Effect.void
): Effect.Effect<Alarm, never, Scope.Scope> =>
  Effect.gen(function* () {
    const longestSleep = yield* LongestSleep
    const heap = new DueHeap()
    let wake: (() => void) | undefined
    /** Whether another key has become the first since the alarm last looked; it may be on its way to sleep. */
    let stale = false
    /** What the clock showed at the last look. */
    let seen = Number.NEGATIVE_INFINITY
    /** When the first of the keys that are going off was due. */
    let going: number | undefined

    const set = (key: string, at: number): void => {
      heap.set(key, at)
      if (heap.first()?.key !== key) return
      stale = true
      wake?.()
    }
    const changed = Effect.async<void>((resume) => {
      if (stale) return resume(Effect.void)
      wake = () => resume(Effect.void)
      return Effect.sync(() => {
        wake = undefined
      })
    })
    const takeDue = (now: number): ReadonlyArray<{ readonly key: string; readonly at: number }> => {
      const due: Array<{ readonly key: string; readonly at: number }> = []
      for (
        let first = heap.first();
        first !== undefined && first.at <= now && due.length < maxDue;
        first = heap.first()
      ) {
        due.push({ ...first })
        heap.delete(first.key)
      }
      return due
    }
    const goOff = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      stale = false
      if (now < seen - SET_BACK) yield* onSetBack
      seen = now
      const due = takeDue(now)
      if (due.length > 0) {
        going = due[0]?.at
        const putBack = Effect.sync(() => {
          for (const { at, key } of due) if (!heap.has(key)) heap.set(key, at)
        })
        const ended = Effect.sync(() => {
          going = undefined
        })
        return yield* onDue(due.map(({ key }) => key)).pipe(
          Effect.onError(() => putBack),
          Effect.ensuring(ended)
        )
      }
      const delay = Math.min(Math.max((heap.first()?.at ?? Number.POSITIVE_INFINITY) - now, 0), longestSleep)
      yield* Effect.raceFirst(Effect.sleep(delay), changed)
    })
    yield* supervise(name, Effect.forever(goOff))

    return {
      set,
      clear: (key) => heap.delete(key),
      reset: () => heap.clear(),
      next: () => going ?? heap.first()?.at
    }
  })
