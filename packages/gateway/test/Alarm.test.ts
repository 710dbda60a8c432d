import { describe, expect, it } from "@effect/vitest"
import { Chunk, Clock, Effect, FastCheck as fc, Queue, TestClock } from "effect"
import * as Alarm from "../src/internal/Alarm.ts"
import { DueHeap } from "../src/internal/DueHeap.ts"

/** An alarm, and what went off when. */
const recording = (maxDue?: number) =>
  Effect.gen(function* () {
    const fired = yield* Queue.unbounded<string>()
    const alarm = yield* Alarm.make(
      "alarm",
      (keys) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => Queue.offerAll(fired, [`${keys.join("+")} at ${now}`])),
      maxDue
    )
    return { alarm, take: (count: number) => Effect.map(Queue.takeN(fired, count), Chunk.toReadonlyArray), fired }
  }).pipe(Effect.provideService(Alarm.LongestSleep, Number.MAX_SAFE_INTEGER))

const yields = (count: number) =>
  Effect.forEach(Array.from({ length: count }), () => Effect.yieldNow(), { discard: true })

describe("the alarm", () => {
  it.scoped("keys go off at their time, in order, those of one time together; moved and cleared ones do not", () =>
    Effect.gen(function* () {
      const { alarm, take } = yield* recording()
      alarm.set("late", 300)
      alarm.set("b", 100)
      alarm.set("a", 100)
      alarm.set("moved", 50)
      alarm.set("moved", 200)
      alarm.set("cleared", 60)
      alarm.clear("cleared")
      expect(alarm.next()).toBe(100)
      yield* TestClock.adjust(300)
      expect(yield* take(3)).toEqual(["a+b at 100", "moved at 200", "late at 300"])
      expect(alarm.next()).toBeUndefined()
      alarm.set("past", 1)
      expect(yield* take(1)).toEqual(["past at 300"])
      alarm.set("gone", 400)
      alarm.reset()
      alarm.set("last", 500)
      yield* TestClock.adjust(200)
      expect(yield* take(1)).toEqual(["last at 500"])
    })
  )

  it.scoped("gives so many keys at a time", () =>
    Effect.gen(function* () {
      const { alarm, take } = yield* recording(2)
      for (const key of ["a", "b", "c", "d", "e"]) alarm.set(key, 10)
      yield* TestClock.adjust(10)
      expect(yield* take(3)).toEqual(["a+b at 10", "c+d at 10", "e at 10"])
    })
  )

  it.scoped("N8: a key that is set just as the alarm goes to sleep still wakes it", () =>
    Effect.gen(function* () {
      for (let early = 0; early < 12; early++) {
        for (let between = 0; between < 12; between++) {
          const { alarm, fired } = yield* recording()
          yield* yields(early)
          alarm.set("far", 1_000_000)
          yield* yields(between)
          // Due at once: no clock has to move, the alarm has but to look.
          alarm.set("now", 0)
          yield* yields(50)
          expect({ early, between, fired: yield* Queue.size(fired) }).toEqual({ early, between, fired: 1 })
        }
      }
    })
  )

  it.scoped("sleeps no longer than it is told to, so that a clock that jumped is noticed", () =>
    Effect.gen(function* () {
      let looks = 0
      const clock = yield* Effect.clock
      const watched: Clock.Clock = {
        ...clock,
        [Clock.ClockTypeId]: Clock.ClockTypeId,
        currentTimeMillis: Effect.suspend(() => {
          looks += 1
          return clock.currentTimeMillis
        }),
        sleep: (duration) => clock.sleep(duration)
      } as Clock.Clock
      const alarm = yield* Alarm.make("alarm", () => Effect.void).pipe(Effect.withClock(watched))
      alarm.set("far", 86_400_000)
      yield* TestClock.adjust("5 minutes")
      expect(looks).toBeGreaterThanOrEqual(5)
    })
  )
})

describe("the heap of what is due", () => {
  it("is a sorted list, whatever is set, moved and deleted", () => {
    const key = fc.integer({ min: 0, max: 20 }).map((n) => `k${String(n).padStart(2, "0")}`)
    const operation = fc.oneof(
      { weight: 4, arbitrary: fc.record({ set: key, at: fc.integer({ min: 0, max: 9 }) }) },
      { weight: 2, arbitrary: fc.record({ remove: key }) },
      { weight: 1, arbitrary: fc.constant({ shift: true } as const) }
    )
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
        const heap = new DueHeap()
        const model = new Map<string, number>()
        const first = () => [...model].sort(([a, x], [b, y]) => x - y || (a < b ? -1 : 1))[0]
        for (const operation of operations) {
          if ("set" in operation) {
            heap.set(operation.set, operation.at)
            model.set(operation.set, operation.at)
          } else {
            const gone = "remove" in operation ? operation.remove : (heap.first()?.key ?? "")
            heap.delete(gone)
            model.delete(gone)
          }
          const [key, at] = first() ?? []
          expect(heap.size).toBe(model.size)
          expect(heap.first()).toEqual(key === undefined ? undefined : { key, at })
        }
        heap.clear()
        expect(heap.first()).toBeUndefined()
      })
    )
  })
})
