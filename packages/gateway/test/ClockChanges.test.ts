import { describe, expect, it } from "@effect/vitest"
import { Gateway, type GatewayConfigInput, GatewayService, Scheduler, Store } from "@postilion/gateway"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import * as AgentRunner from "@postilion/gateway/runs/AgentRunner"
import { Clock, type Duration, Effect, Layer, type Scope, TestClock } from "effect"
import { LongestSleep } from "../src/internal/Alarm.ts"
import { channel, refusal, taken } from "./TestChannel.ts"
import { answerOf, gateway, gatewayOn, type Respond, tempFile, turn, watch } from "./TestGateway.ts"

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const config: GatewayConfigInput = {
  policies: { maxActionsPerHour: "unlimited", dailyTokenBudget: "unlimited" },
  crons: [{ name: "hourly", schedule: "0 * * * *", instruction: "look" }]
}
const id = "job_cron-hourly"

/** A clock that can be set, while what sleeps goes by another that cannot: as on a real machine. */
const settable = Effect.map(Effect.clock, (clock) => {
  let offset = 0
  const shifted: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    currentTimeNanos: clock.currentTimeNanos,
    unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos(),
    currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + offset),
    unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + offset,
    sleep: (duration) => clock.sleep(duration)
  }
  return {
    clock: shifted,
    /** Time passes. */
    pass: (duration: Duration.DurationInput) => Effect.withClock(TestClock.adjust(duration), clock),
    /** Without anything that sleeps having been woken. */
    move: (millis: number): void => {
      offset += millis
    }
  }
})
/** A gateway that looks at the clock at least once a minute. */
const watching = (
  config: GatewayConfigInput,
  respond: Respond = () => Effect.succeed(answerOf("done")),
  options: Gateway.GatewayOptions = {}
) =>
  Gateway.layer(config, options).pipe(
    Layer.provide(AgentRunner.layerScripted(respond, () => 100)),
    Layer.provide(Layer.succeed(LongestSleep, MINUTE)),
    Layer.provideMerge(StoreMemory.layer)
  )
const watchful = watching(config)

/** Oldest first, once what is due is seen to and has ended. */
const history = Effect.gen(function* () {
  const scheduler = yield* Scheduler
  const now = yield* Clock.currentTimeMillis
  while (true) {
    const isDue = scheduler.list().some(({ nextAt }) => nextAt !== undefined && nextAt.getTime() <= now)
    const slots = yield* scheduler.history(id)
    if (!isDue && slots.every(({ state }) => state !== "running")) {
      const time = (at: Date) => at.toISOString().slice(0, 16).replace("1970-01-01T", "")
      return slots
        .map(({ at, count, state, until }) => `${time(at)}${count === 1 ? "" : `-${time(until)}`} ${state}`)
        .reverse()
    }
    yield* turn
  }
})
const dueAt = Effect.map(Scheduler, (scheduler) => scheduler.list()[0]?.nextAt?.toISOString())
const made = Effect.flatMap(Store, (store) => Effect.map(store.find("events", {}), (rows) => rows.length))

describe("N8: the clock jumps forward, or the host slept", () => {
  it.effect("what passed is caught up within a minute, as the job says", () =>
    Effect.gen(function* () {
      const { clock, move, pass } = yield* settable
      yield* Effect.gen(function* () {
        yield* pass("30 minutes")
        move(5 * HOUR)
        yield* pass("1 minute")
        expect(yield* history).toEqual(["01:00-04:00 skipped", "05:00 caught-up"])
        expect(yield* dueAt).toBe("1970-01-01T06:00:00.000Z")
        yield* pass("29 minutes")
        expect((yield* history).at(-1)).toBe("06:00 ran")
      }).pipe(Effect.provide(watchful), Effect.withClock(clock))
    })
  )
})

describe("the clock is set back", () => {
  it.effect("a job is due again at its next instant, and makes no second event for those it has had", () =>
    Effect.gen(function* () {
      const { clock, move, pass } = yield* settable
      yield* Effect.gen(function* () {
        yield* pass("190 minutes")
        const had = ["01:00 ran", "02:00 ran", "03:00 ran"]
        expect(yield* history).toEqual(had)
        move(-2 * HOUR)
        yield* pass("1 minute")
        while ((yield* dueAt) !== "1970-01-01T02:00:00.000Z") yield* turn
        // 01:11 to 03:30.
        yield* pass("139 minutes")
        expect(yield* history).toEqual(had)
        expect(yield* made).toBe(3)
        yield* pass("30 minutes")
        expect(yield* history).toEqual([...had, "04:00 ran"])
      }).pipe(Effect.provide(watchful), Effect.withClock(clock))
    })
  )

  it.effect("a clock that was years ahead does not keep a job from its instants", () =>
    Effect.gen(function* () {
      const { clock, move, pass } = yield* settable
      yield* Effect.gen(function* () {
        yield* pass("30 minutes")
        const years = 10 * 365 * 24 * HOUR
        move(years)
        yield* pass("1 minute")
        const ahead = "1979-12-30T00:00 caught-up"
        expect(yield* history).toEqual(["01:00-1979-12-29T23:00 skipped", ahead])
        move(-years)
        yield* pass("1 minute")
        while ((yield* dueAt) !== "1970-01-01T01:00:00.000Z") yield* turn
        // What was skipped is still to come after all.
        expect(yield* history).toEqual([ahead])
        yield* pass("2 hours")
        expect(yield* history).toEqual(["01:00 ran", "02:00 ran", ahead])
      }).pipe(Effect.provide(watchful), Effect.withClock(clock))
    })
  )

  it.scoped("nor does one that is found to have been ahead at a start", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      yield* TestClock.setTime(30 * MINUTE)
      yield* Effect.provide(Scheduler, gatewayOn(file, config))
      yield* TestClock.setTime(100 * HOUR + 30 * MINUTE)
      const ahead = yield* Effect.provide(history, gatewayOn(file, config))
      expect(ahead).toEqual(["01:00-1970-01-05T03:00 skipped", "1970-01-05T04:00 caught-up"])
      yield* TestClock.setTime(2 * HOUR + 30 * MINUTE)
      yield* Effect.gen(function* () {
        // 01:00 and 02:00 are past, and were skipped: what follows is still to come.
        expect(yield* history).toEqual(["01:00-02:00 skipped", "1970-01-05T04:00 caught-up"])
        expect(yield* dueAt).toBe("1970-01-01T03:00:00.000Z")
        yield* TestClock.adjust("1 hour")
        expect((yield* history)[1]).toBe("03:00 ran")
      }).pipe(Effect.provide(gatewayOn(file, config)))
    })
  )
})

describe("the clock is set back, and nothing waits until it is again where it was", () => {
  const DAY = 24 * HOUR
  const note = (change: Partial<RawInput> = {}): RawInput => ({
    source: "webhook",
    payload: { text: "look" },
    ...change
  })
  /** With a clock that is a day ahead until `move` has put it right. */
  const ahead = <A, E>(
    layer: ReturnType<typeof watching>,
    body: (clock: Effect.Effect.Success<typeof settable>) => Effect.Effect<A, E, Gateway.Services | Store | Scope.Scope>
  ) =>
    Effect.gen(function* () {
      const changing = yield* settable
      changing.move(10 * DAY)
      yield* Effect.scoped(body(changing)).pipe(Effect.provide(layer), Effect.withClock(changing.clock))
    })

  it.effect("an event that was queued until a time is judged again, and so is what is merged", () =>
    ahead(
      watching({
        policies: { businessHours: { from: "09:00", to: "17:00" }, mergeWindowMs: HOUR }
      }),
      ({ move, pass }) =>
        Effect.gen(function* () {
          const gw = yield* GatewayService
          const told = yield* watch
          // A Sunday: until Monday at nine.
          const queued = yield* gw.submit(note())
          expect((yield* gw.find(queued.eventId))?.state).toBe("deferred")
          // Thursday, the first of January, at ten.
          move(-10 * DAY + 10 * HOUR)
          yield* pass("1 minute")
          yield* told.until("ProactiveActionCompleted", 1)
          const merged = yield* gw.submit(note({ metadata: { mergeKey: "k" } }))
          move(-30 * MINUTE)
          yield* pass("1 minute")
          expect(yield* gw.outcome(merged.eventId)).toMatchObject({ state: "executed" })
        })
    )
  )
  it.effect("what was queued is judged again where a start finds it so", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const policies = { businessHours: { from: "09:00", to: "17:00" } }
      yield* TestClock.setTime(10 * DAY)
      const { eventId } = yield* Effect.provide(
        Effect.flatMap(GatewayService, (gw) => gw.submit(note())),
        gatewayOn(file, { policies })
      )
      yield* TestClock.setTime(10 * HOUR)
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        expect(yield* gw.outcome(eventId)).toMatchObject({ state: "executed", run: { state: "completed" } })
      }).pipe(Effect.provide(gatewayOn(file, { policies })))
    }).pipe(Effect.scoped)
  )
  it.effect("an agent's rest is over", () =>
    ahead(
      watching({ policies: { circuitBreaker: { maxFailures: 1, cooldownMs: MINUTE } } }, ({ taskDescription }) =>
        taskDescription === "bad"
          ? Effect.fail(new AgentRunError({ message: "no", retryable: false }))
          : Effect.succeed(answerOf("done"))
      ),
      ({ move, pass }) =>
        Effect.gen(function* () {
          const gw = yield* GatewayService
          const bad = yield* gw.submit(note({ payload: { text: "bad" } }))
          yield* gw.outcome(bad.eventId)
          const waits = yield* gw.submit(note())
          expect(waits.decision).toBe("queue")
          move(-10 * DAY)
          yield* pass("1 minute")
          expect(yield* gw.outcome(waits.eventId)).toMatchObject({ run: { state: "completed" } })
        })
    )
  )
  it.effect("a minute's events are those of a minute, of a sender and of a chain", () =>
    ahead(watching({ policies: { maxPerSenderPerMinute: 2, maxActionsPerHour: "unlimited" } }), ({ move, pass }) =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const say = Effect.map(gw.submit(note({ sender: "ada" })), ({ decision }) => decision)
        expect([yield* say, yield* say, yield* say]).toEqual(["execute", "execute", "skip"])
        move(-DAY)
        expect([yield* say, yield* say, yield* say]).toEqual(["execute", "execute", "skip"])
        yield* pass("61 seconds")
        expect(yield* say).toBe("execute")
      })
    )
  )
  it.effect("a delivery is tried again", () => {
    const terminal = channel((_, before) => (before === 0 ? refusal("not-sent", HOUR) : taken))
    return ahead(watching({}, undefined, { channels: [terminal] }), ({ move, pass }) =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        yield* gw.submit(note({ replyTo: { channel: "test", target: "ada" } }))
        yield* told.until("DeliveryPostponed", 1)
        move(-DAY)
        yield* pass("1 minute")
        yield* told.until("DeliverySent", 1)
        expect(terminal.messages).toHaveLength(2)
      })
    )
  })
  for (const [way, by] of [
    ["back", -DAY],
    ["on", DAY]
  ] as const) {
    it.effect(`N17: set ${way}, it makes a run neither longer nor shorter`, () =>
      ahead(
        watching({ limits: { runTimeoutMs: 10 * MINUTE, maxAttempts: 1 } }, () => Effect.never),
        ({ move, pass }) =>
          Effect.gen(function* () {
            const gw = yield* GatewayService
            const told = yield* watch
            const { eventId } = yield* gw.submit(note())
            yield* told.until("ProactiveActionInitiated", 1)
            yield* pass("5 minutes")
            move(by)
            yield* pass("4 minutes")
            expect((yield* gw.find(eventId))?.run?.state).toBe("running")
            yield* pass("1 minute")
            expect(yield* gw.outcome(eventId)).toMatchObject({
              run: { error: "the run took longer than 600000 ms and was interrupted (limits.runTimeoutMs)" }
            })
          })
      )
    )
  }
})

describe("the calendar", () => {
  const cron = (schedule: string, start: string) =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.parse(`${start}T00:00:00Z`))
      return yield* Effect.gen(function* () {
        yield* TestClock.adjust("3 days")
        const ran = yield* history
        const next = yield* (yield* Scheduler).next(id)
        return { ran, next: next.map((at) => at.toISOString().slice(0, 10)) }
      }).pipe(
        Effect.provide(
          gateway({ ...config, crons: [{ name: "hourly", schedule, instruction: "look" }] }).pipe(
            Layer.provideMerge(StoreMemory.layer)
          )
        )
      )
    })

  it.effect("the 29th of February: in leap years alone", () =>
    Effect.gen(function* () {
      const leap = yield* cron("0 12 29 2 *", "2024-02-27")
      expect(leap.ran).toEqual(["2024-02-29T12:00 ran"])
      expect(leap.next.slice(0, 2)).toEqual(["2028-02-29", "2032-02-29"])
    })
  )
  it.effect("and not in others", () =>
    Effect.gen(function* () {
      const { next, ran } = yield* cron("0 12 29 2 *", "2023-02-27")
      expect(ran).toEqual([])
      expect(next[0]).toBe("2024-02-29")
    })
  )
  it.effect("the end of a month: the 31st, in months that have one", () =>
    Effect.gen(function* () {
      const { next, ran } = yield* cron("0 12 31 * *", "2024-04-29")
      expect(ran).toEqual([])
      expect(next).toEqual(["2024-05-31", "2024-07-31", "2024-08-31", "2024-10-31", "2024-12-31"])
    })
  )
})
