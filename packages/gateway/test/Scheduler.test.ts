import { describe, expect, it } from "@effect/vitest"
import {
  AuditLog,
  EventBus,
  type GatewayConfigInput,
  GatewayService,
  type NewJob,
  Scheduler,
  Store
} from "@postilion/gateway"
import * as Bus from "@postilion/gateway/records/EventBus"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Deferred, Effect, Layer, TestClock } from "effect"
import { answerOf, gateway, gatewayOn, type Respond, tempFile, watch, wrapStore } from "./TestGateway.ts"

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const many: GatewayConfigInput = { policies: { maxActionsPerHour: "unlimited", dailyTokenBudget: "unlimited" } }

const every = (everyMs: number, change: Partial<NewJob> = {}): NewJob => ({
  name: "every",
  schedule: { kind: "every", everyMs },
  instruction: "look",
  ...change
})
const at = (millis: number, change: Partial<NewJob> = {}): NewJob => ({
  name: "once",
  schedule: { kind: "at", at: new Date(millis) },
  instruction: "look",
  ...change
})

/** The events there are, as (job, instant), in order. */
const fires = Effect.flatMap(Store, (store) =>
  Effect.map(store.find("events", { orderBy: ["seq", "asc"] }), (rows) =>
    rows.map((row) => {
      const { scheduledAt, type } = JSON.parse(row.metadata) as { readonly type: string; readonly scheduledAt: string }
      return `${type} ${scheduledAt.slice(0, 16)}`
    })
  )
)

const memory = (config: GatewayConfigInput, respond?: Respond) =>
  gateway({ ...many, ...config }, respond).pipe(Layer.provideMerge(StoreMemory.layer))

describe("what is due", () => {
  it.scoped("a cron fires once at each instant, with its instruction, agent and priority", () =>
    Effect.gen(function* () {
      const told = yield* watch
      yield* TestClock.adjust("1 hour")
      yield* told.until("ProactiveActionCompleted", 4)
      expect(yield* fires).toEqual([
        "checks 1970-01-01T00:15",
        "checks 1970-01-01T00:30",
        "checks 1970-01-01T00:45",
        "checks 1970-01-01T01:00"
      ])
      const [event] = yield* (yield* Store).find("events", {})
      expect(event).toMatchObject({ source: "cron", agent_id: "ops", priority: "high" })
      expect(JSON.parse(event?.payload ?? "")).toEqual({ instruction: "check the deployment" })
      expect((yield* (yield* GatewayService).status()).stats).toMatchObject({ cronsExecuted: 4 })
    }).pipe(
      Effect.provide(
        memory({
          agents: { chat: {}, ops: {} },
          crons: [
            {
              name: "checks",
              schedule: "*/15 * * * *",
              instruction: "check the deployment",
              agentId: "ops",
              priority: "high"
            },
            { name: "off", schedule: "* * * * *", instruction: "never", enabled: false }
          ]
        })
      )
    )
  )

  it.scoped("heartbeats tick at their interval, and skip while nothing has changed", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const told = yield* watch
      // The first tick fires, since the agent has seen nothing yet; six skips; then one is forced.
      yield* TestClock.adjust("80 minutes")
      yield* told.until("PolicyDecisionMade", 8)
      expect(told.all("PolicyDecisionMade").map(({ decision }) => decision)).toEqual([
        "execute",
        ...Array.from({ length: 6 }, () => "skip"),
        "execute"
      ])
      expect(told.all("HeartbeatSkipped").map(({ consecutiveSkips }) => consecutiveSkips)).toEqual([1, 2, 3, 4, 5, 6])
      const { eventId } = yield* gw.submit({ source: "state-change", payload: null })
      yield* gw.outcome(eventId)
      yield* TestClock.adjust("10 minutes")
      yield* told.until("PolicyDecisionMade", 10)
      expect(told.all("PolicyDecisionMade").at(-1)).toMatchObject({ source: "heartbeat", decision: "execute" })
      expect((yield* gw.status()).stats).toMatchObject({ heartbeatsFired: 3, heartbeatsSkipped: 6 })
    }).pipe(Effect.provide(memory({ heartbeat: { intervalMs: 10 * MINUTE } })))
  )

  it.scoped("a heartbeat stays within its active hours, in the gateway's zone", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.parse("2024-06-03T00:00:00Z"))
      yield* Effect.gen(function* () {
        const told = yield* watch
        yield* TestClock.adjust("1 day")
        yield* told.until("GatewayEventReceived", 3)
        expect(yield* fires).toEqual([
          // 09:00 to 12:00 in Berlin.
          "heartbeat agent 2024-06-03T07:00",
          "heartbeat agent 2024-06-03T08:00",
          "heartbeat agent 2024-06-03T09:00"
        ])
      }).pipe(
        Effect.scoped,
        Effect.provide(
          memory({
            timezone: "Europe/Berlin",
            heartbeat: { intervalMs: HOUR, policy: "always", activeHours: { from: "09:00", to: "12:00" } }
          })
        )
      )
    })
  )

  it.scoped("`at` fires once and is gone, unless it is to be kept; `every` goes on", () =>
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const told = yield* watch
      yield* scheduler.add(at(5 * MINUTE))
      const kept = yield* scheduler.add(at(6 * MINUTE, { name: "kept", deleteAfterRun: false }))
      const often = yield* scheduler.add(every(4 * MINUTE))
      expect(often).toMatchObject({ enabled: true, deleteAfterRun: false, catchUp: "once", priority: "normal" })
      yield* TestClock.adjust("12 minutes")
      yield* told.until("GatewayEventReceived", 5)
      expect(yield* fires).toEqual([
        "every 1970-01-01T00:04",
        "once 1970-01-01T00:05",
        "kept 1970-01-01T00:06",
        "every 1970-01-01T00:08",
        "every 1970-01-01T00:12"
      ])
      const jobs = scheduler.list()
      expect(jobs.map(({ id }) => id)).toEqual([often.id, kept.id])
      expect(jobs[0]).toMatchObject({ lastAt: new Date(12 * MINUTE), nextAt: new Date(16 * MINUTE) })
      expect(jobs[1]).toMatchObject({ lastAt: new Date(6 * MINUTE), nextAt: undefined })
    }).pipe(Effect.provide(memory({})))
  )

  it.scoped("deleteAfterRun takes a job once it has fired, also one that would be due again", () =>
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const told = yield* watch
      const job = yield* scheduler.add(every(MINUTE, { deleteAfterRun: true }))
      yield* TestClock.adjust("1 minute")
      yield* told.until("GatewayEventReceived", 1)
      expect(job.deleteAfterRun).toBe(true)
      expect(scheduler.list()).toEqual([])
      expect(yield* (yield* Store).find("jobs", {})).toEqual([])
    }).pipe(Effect.provide(memory({})))
  )

  for (const [zone, expected, schedule = "30 2 * * *"] of [
    // 02:30 does not exist on the 31st of March, and comes twice on the 27th of October.
    ["Europe/Berlin", ["2024-03-30T01:30", "2024-03-31T01:30", "2024-04-01T00:30"]],
    ["Europe/Berlin", ["2024-10-26T00:30", "2024-10-27T00:30", "2024-10-28T01:30"]],
    ["America/New_York", ["2024-03-09T07:30", "2024-03-10T07:30", "2024-03-11T06:30"]],
    ["America/New_York", ["2024-11-02T06:30", "2024-11-03T07:30", "2024-11-04T07:30"]],
    // Here the clock changes by half an hour, at 02:00: there is no 02:15 in spring, and autumn has 01:45 twice.
    ["Australia/Lord_Howe", ["2024-10-04T15:45", "2024-10-05T15:45", "2024-10-06T15:15"], "15 2 * * *"],
    ["Australia/Lord_Howe", ["2024-04-05T14:45", "2024-04-06T14:45", "2024-04-07T15:15"], "45 1 * * *"]
  ] as const) {
    it.scoped(`N9: DST: a nightly job in ${zone} fires once each night around ${expected[1].slice(0, 10)}`, () =>
      Effect.gen(function* () {
        const start = Date.parse(`${expected[0].slice(0, 10)}T00:00:00Z`)
        yield* TestClock.setTime(start)
        yield* Effect.gen(function* () {
          const told = yield* watch
          yield* TestClock.adjust("3 days")
          yield* told.until("GatewayEventReceived", 3)
          expect(yield* fires).toEqual(expected.map((instant) => `nightly ${instant}`))
        }).pipe(
          Effect.scoped,
          Effect.provide(memory({ timezone: zone, crons: [{ name: "nightly", schedule, instruction: "tidy up" }] }))
        )
      })
    )
  }

  it.scoped("N9: DST: an hourly job goes through both of the hours that autumn repeats", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.parse("2024-10-26T22:30:00Z"))
      yield* Effect.gen(function* () {
        const told = yield* watch
        yield* TestClock.adjust("4 hours")
        yield* told.until("GatewayEventReceived", 4)
        expect(yield* fires).toEqual(
          ["23:00", "00:00", "01:00", "02:00"].map((hour, i) => `hourly 2024-10-2${i === 0 ? 6 : 7}T${hour}`)
        )
      }).pipe(
        Effect.scoped,
        Effect.provide(
          memory({ timezone: "Europe/Berlin", crons: [{ name: "hourly", schedule: "0 * * * *", instruction: "look" }] })
        )
      )
    })
  )

  it.scoped("1,000 jobs: each fires at its own instant, by one sleeping fiber", () =>
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const told = yield* watch
      yield* Effect.forEach(
        Array.from({ length: 1_000 }, (_, n) => n),
        (n) => scheduler.add(at((1 + (n % 5)) * MINUTE, { name: `job ${n}` })),
        { concurrency: "unbounded" }
      )
      expect(scheduler.status()).toEqual({ running: true, jobs: 1_000, nextWake: new Date(MINUTE), stalled: false })
      for (let minute = 1; minute <= 5; minute++) {
        yield* TestClock.adjust("1 minute")
        yield* told.until("GatewayEventReceived", minute * 200)
        expect(told.all("GatewayEventReceived")).toHaveLength(minute * 200)
      }
      expect(new Set(yield* fires).size).toBe(1_000)
      expect(scheduler.status()).toEqual({ running: true, jobs: 0, nextWake: undefined, stalled: false })
    }).pipe(Effect.provide(memory({})))
  )
})

describe("changing jobs", () => {
  it.scoped("they are listed by when they are due, disabled ones only when asked for", () =>
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const late = yield* scheduler.add(every(30 * MINUTE, { name: "late" }))
      const soon = yield* scheduler.add(every(5 * MINUTE, { name: "soon" }))
      const off = yield* scheduler.add(every(MINUTE, { name: "off", enabled: false }))
      expect(scheduler.list().map(({ id }) => id)).toEqual([soon.id, late.id])
      expect(scheduler.list({ includeDisabled: true }).map(({ id }) => id)).toEqual([off.id, soon.id, late.id])
      expect(scheduler.status()).toEqual({ running: true, jobs: 3, nextWake: new Date(5 * MINUTE), stalled: false })
    }).pipe(Effect.provide(memory({})))
  )

  it.scoped("add answers with the next five instants, and next with as many as are asked for", () =>
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const times = (dates: ReadonlyArray<Date>) => dates.map((at) => at.toISOString().slice(0, 16))
      const daily = yield* scheduler.add({
        name: "daily",
        schedule: { kind: "cron", expression: ["0 9 * * *", "30 17 * * 5"], timezone: "Europe/Berlin" },
        instruction: "look"
      })
      const five = ["1970-01-01T08:00", "1970-01-02T08:00", "1970-01-02T16:30", "1970-01-03T08:00", "1970-01-04T08:00"]
      expect(times(daily.next)).toEqual(five)
      expect(times(yield* scheduler.next(daily.id))).toEqual(five)
      expect(times(yield* scheduler.next(daily.id, 2))).toEqual(five.slice(0, 2))
      expect(times((yield* scheduler.add(at(HOUR))).next)).toEqual(["1970-01-01T01:00"])
      expect((yield* Effect.flip(scheduler.next("job_x"))).message).toBe('there is no job "job_x"')
    }).pipe(Effect.provide(memory({})))
  )

  it.scoped("jitter puts each instant off by the job's own part, which a restart does not change", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const jitterMs = 10 * MINUTE
      const delays = Effect.map(Scheduler, (scheduler) => scheduler.list().map(({ delayMs }) => delayMs))
      const first = yield* Effect.gen(function* () {
        const scheduler = yield* Scheduler
        for (let n = 0; n < 20; n++) yield* scheduler.add(every(HOUR, { jitterMs }))
        return yield* delays
      }).pipe(Effect.provide(gatewayOn(file, many)))
      expect(new Set(first).size).toBeGreaterThan(10)
      for (const delay of first) expect(delay >= 0 && delay <= jitterMs).toBe(true)
      yield* Effect.gen(function* () {
        expect(yield* delays).toEqual(first)
        const told = yield* watch
        yield* TestClock.adjust("1 hour")
        yield* TestClock.adjust(jitterMs)
        const received = yield* told.until("GatewayEventReceived", 20)
        expect(received.map(({ at }) => at - HOUR)).toEqual([...first].sort((a, b) => a - b))
        // The instants themselves are the schedule's.
        expect(new Set(yield* fires)).toEqual(new Set(["every 1970-01-01T01:00"]))
      }).pipe(Effect.provide(gatewayOn(file, many)))
    })
  )

  it.scoped("a rule that is wrong is refused, with what to write", () =>
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const refusals: ReadonlyArray<readonly [object, RegExp]> = [
        [{ catchUp: "some" }, /catchUp: must be one of "skip", "once", "all", got "some"$/],
        [{ graceMs: -1 }, /graceMs: must be a whole number, 0 or more, got -1$/],
        [{ disableAfterFailures: 0 }, /disableAfterFailures/],
        [{ instruction: "x".repeat(8_001) }, /instruction: must have 8000 characters or fewer, got 8001$/],
        [{ schedule: { kind: "cron", expression: [], timezone: "UTC" } }, /^job "every": schedule: expression/]
      ]
      for (const [change, message] of refusals) {
        expect((yield* Effect.flip(scheduler.add(every(MINUTE, change as Partial<NewJob>)))).message).toMatch(message)
      }
      expect(scheduler.status().jobs).toBe(0)
    }).pipe(Effect.provide(memory({})))
  )

  it.scoped("a removed or disabled job does not fire; enabled again it is due next, not for what has passed", () =>
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const told = yield* watch
      const gone = yield* scheduler.add(every(MINUTE, { name: "gone" }), "ada")
      const off = yield* scheduler.add(every(2 * MINUTE, { name: "off" }))
      yield* scheduler.remove(gone.id)
      expect(yield* scheduler.enable(off.id, false)).toMatchObject({ enabled: false })
      yield* TestClock.adjust("5 minutes")
      expect(yield* scheduler.enable(off.id, true)).toMatchObject({ enabled: true, nextAt: new Date(6 * MINUTE) })
      yield* TestClock.adjust("1 minute")
      yield* told.until("GatewayEventReceived", 1)
      expect(yield* fires).toEqual(["off 1970-01-01T00:06"])
      const changes = yield* (yield* AuditLog).query({ kind: "job.changed" })
      expect(changes.map(({ data }) => `${String(data.name)} ${String(data.change)}`)).toEqual([
        "gone added",
        "off added",
        "gone removed",
        "off disabled",
        "off enabled"
      ])
      expect(changes.map(({ data }) => data.by)).toEqual(["ada", ...Array(4).fill("program")])
    }).pipe(Effect.provide(memory({})))
  )

  it.scoped("fires by hand as often as it is told to, besides its schedule", () =>
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const job = yield* scheduler.add(every(10 * MINUTE, { enabled: false }))
      const receipts = [yield* scheduler.run(job.id), yield* scheduler.run(job.id)]
      expect(receipts.map(({ duplicate }) => duplicate)).toEqual([false, false])
      expect(scheduler.list({ includeDisabled: true })[0]).toMatchObject({ nextAt: new Date(10 * MINUTE) })
      expect(yield* fires).toHaveLength(2)
    }).pipe(Effect.provide(memory({})))
  )

  it.scoped("N10: past one-shot, and what else can never be: refused when it is added, with what is wrong", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(HOUR)
      yield* Effect.gen(function* () {
        const scheduler = yield* Scheduler
        const cron = (expression: string, timezone = "UTC") =>
          ({ name: "j", schedule: { kind: "cron", expression, timezone }, instruction: "x" }) as const
        const refusals: ReadonlyArray<readonly [NewJob, RegExp]> = [
          [at(HOUR - 1), /^job "once": it would never be due: its time has passed$/],
          [at(HOUR), /its time has passed/],
          [at(Number.NaN), /^job "once": schedule: at: /],
          [every(0), /^job "every": schedule: everyMs: must be a whole number greater than 0, got 0$/],
          [every(-5), /got -5/],
          [every(1.5), /got 1.5/],
          [cron("0 25 * * *"), /^job "j": cron expression "0 25 \* \* \*": hour "25"/],
          [cron("0 0 31 2 *"), /no such date ever comes/],
          [cron("@daily"), /must have 5 fields/],
          [cron("0 9 * * *", "Mars/Olympus"), /"Mars\/Olympus" is not an IANA time zone/],
          [every(MINUTE, { agentId: "nobody" }), /^job "every": there is no agent "nobody"; agents: agent$/],
          [every(MINUTE, { agentId: "constructor" }), /there is no agent "constructor"/]
        ]
        for (const [job, message] of refusals) {
          const error = yield* Effect.flip(scheduler.add(job))
          expect(error._tag).toBe("SchedulerError")
          expect(error.message).toMatch(message)
        }
        expect(scheduler.status()).toMatchObject({ jobs: 0, nextWake: undefined, stalled: false })
        expect(yield* (yield* Store).find("jobs", {})).toEqual([])
      }).pipe(Effect.provide(memory({})))
    })
  )

  it.scoped("a job that is not there is named", () =>
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      for (const attempt of [scheduler.remove("job_x"), scheduler.enable("job_x", true), scheduler.run("job_x")]) {
        const error = yield* Effect.flip(Effect.asVoid(attempt))
        expect(error).toMatchObject({ _tag: "SchedulerError", message: 'there is no job "job_x"' })
      }
    }).pipe(Effect.provide(memory({})))
  )

  it.effect("N28: adding a job cancelled and re-ran the running one: here a run in progress stays single", () =>
    Effect.gen(function* () {
      const running = yield* Deferred.make<void>()
      const finish = yield* Deferred.make<void>()
      const calls = { started: 0, ended: 0, interrupted: 0 }
      const slow: Respond = () =>
        Effect.gen(function* () {
          calls.started += 1
          yield* Deferred.succeed(running, undefined)
          yield* Deferred.await(finish)
          calls.ended += 1
          return answerOf("done")
        }).pipe(
          Effect.onInterrupt(() =>
            Effect.sync(() => {
              calls.interrupted += 1
            })
          )
        )
      yield* Effect.gen(function* () {
        const scheduler = yield* Scheduler
        const told = yield* watch
        const first = yield* scheduler.add(every(10 * MINUTE, { name: "slow" }))
        yield* TestClock.adjust("10 minutes")
        yield* Deferred.await(running)
        const others = yield* Effect.forEach(Array.from({ length: 58 }), (_, n) =>
          scheduler.add(at(2 * HOUR + n, { name: `other ${n}` }))
        )
        yield* scheduler.enable(others[0]?.id ?? "", false)
        yield* scheduler.remove(others[1]?.id ?? "")
        yield* scheduler.enable(first.id, false)
        yield* scheduler.enable(first.id, true)
        expect(calls).toEqual({ started: 1, ended: 0, interrupted: 0 })
        yield* Deferred.succeed(finish, undefined)
        yield* told.until("ProactiveActionCompleted", 1)
        expect(calls).toEqual({ started: 1, ended: 1, interrupted: 0 })
        expect(yield* fires).toEqual(["slow 1970-01-01T00:10"])
      }).pipe(Effect.scoped, Effect.provide(memory({}, slow)))
    })
  )
})

describe("agents that are paused or stopped", () => {
  const config: GatewayConfigInput = {
    heartbeat: { intervalMs: 10 * MINUTE, policy: "always" },
    crons: [{ name: "cron", schedule: "*/10 * * * *", instruction: "look" }]
  }

  it.scoped("paused: heartbeats rest, crons are kept and run on resume", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const told = yield* watch
      yield* gw.pause()
      yield* TestClock.adjust("20 minutes")
      yield* told.until("GatewayEventReceived", 2)
      expect(yield* fires).toEqual(["cron 1970-01-01T00:10", "cron 1970-01-01T00:20"])
      expect(told.all("ProactiveActionInitiated")).toEqual([])
      yield* gw.resume()
      yield* told.until("ProactiveActionCompleted", 2)
      yield* TestClock.adjust("10 minutes")
      yield* told.until("ProactiveActionCompleted", 4)
      expect((yield* fires).slice(2).sort()).toEqual(["cron 1970-01-01T00:30", "heartbeat agent 1970-01-01T00:30"])
    }).pipe(Effect.provide(memory(config)))
  )

  it.scoped("stopped: instants pass, and none is made up for", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const scheduler = yield* Scheduler
      const told = yield* watch
      yield* gw.stop()
      yield* TestClock.adjust("20 minutes")
      expect(yield* fires).toEqual([])
      expect(scheduler.list().map(({ nextAt }) => nextAt)).toEqual([new Date(30 * MINUTE), new Date(30 * MINUTE)])
      yield* gw.resume()
      yield* TestClock.adjust("10 minutes")
      yield* told.until("GatewayEventReceived", 2)
      expect((yield* fires).sort()).toEqual(["cron 1970-01-01T00:30", "heartbeat agent 1970-01-01T00:30"])
    }).pipe(Effect.provide(memory(config)))
  )
})

describe("a restart", () => {
  const config = (change: GatewayConfigInput = {}): GatewayConfigInput => ({
    ...many,
    heartbeat: { intervalMs: HOUR, policy: "always" },
    crons: [{ name: "hourly", schedule: "0 * * * *", instruction: "look" }],
    ...change
  })
  /** A gateway on the file, whose bus is listened to from before it starts. */
  const session = <A, E, R>(
    file: string,
    input: GatewayConfigInput,
    body: (told: Effect.Effect.Success<typeof watch>) => Effect.Effect<A, E, R>,
    respond?: Respond
  ) =>
    Effect.gen(function* () {
      const bus = yield* Bus.make
      const told = yield* Effect.provideService(watch, EventBus, bus)
      return yield* body(told).pipe(
        Effect.provide(gatewayOn(file, input, respond).pipe(Layer.provide(Layer.succeed(EventBus, bus))))
      )
    }).pipe(Effect.scoped)

  it.scoped("N7: of the instants it missed a cron makes one event; a heartbeat none; and then on as ever", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      yield* session(file, config(), (told) =>
        Effect.gen(function* () {
          yield* TestClock.adjust("90 minutes")
          yield* told.until("ProactiveActionCompleted", 2)
        })
      )
      yield* TestClock.adjust("5 hours")
      yield* session(file, config(), (told) =>
        Effect.gen(function* () {
          yield* told.until("ProactiveActionCompleted", 1)
          yield* TestClock.adjust("30 minutes")
          yield* told.until("ProactiveActionCompleted", 3)
          const all = yield* fires
          expect(all.slice(0, 2).sort()).toEqual(["heartbeat agent 1970-01-01T01:00", "hourly 1970-01-01T01:00"])
          expect(all[2]).toBe("hourly 1970-01-01T06:00")
          expect(all.slice(3).sort()).toEqual(["heartbeat agent 1970-01-01T07:00", "hourly 1970-01-01T07:00"])
        })
      )
    })
  )

  it.scoped("jobs added at run time are still there: caught up, skipped as they ask, or fired once late", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      yield* session(file, many, () =>
        Effect.gen(function* () {
          const scheduler = yield* Scheduler
          yield* scheduler.add(at(HOUR, { name: "late" }))
          yield* scheduler.add(at(HOUR, { name: "too late", catchUp: "skip" }))
          yield* scheduler.add(every(10 * MINUTE, { name: "skips", catchUp: "skip" }))
          yield* scheduler.add(every(10 * MINUTE, { name: "off", enabled: false }))
        })
      )
      yield* TestClock.adjust("125 minutes")
      yield* session(file, many, (told) =>
        Effect.gen(function* () {
          const scheduler = yield* Scheduler
          yield* told.until("GatewayEventReceived", 1)
          yield* TestClock.adjust("5 minutes")
          yield* told.until("GatewayEventReceived", 2)
          expect(yield* fires).toEqual(["late 1970-01-01T01:00", "skips 1970-01-01T02:10"])
          expect(
            scheduler
              .list({ includeDisabled: true })
              .map(({ name }) => name)
              .sort()
          ).toEqual(["off", "skips"])
        })
      )
    })
  )

  it.scoped("the same instant is never used twice, however often it restarts within it", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      yield* session(file, config(), (told) =>
        Effect.zipRight(TestClock.adjust("1 hour"), told.until("ProactiveActionCompleted", 2))
      )
      for (let i = 0; i < 3; i++) {
        yield* session(file, config(), () =>
          Effect.gen(function* () {
            yield* TestClock.adjust("1 second")
            expect(yield* fires).toHaveLength(2)
          })
        )
      }
      const keys = yield* session(file, config(), () =>
        Effect.flatMap(Store, (store) =>
          Effect.map(store.find("events", {}), (rows) => rows.map((row) => row.dedupe_key))
        )
      )
      expect(keys.sort()).toEqual([`job:job_cron-hourly@${HOUR}`, `job:job_heartbeat-1-agent@${HOUR}`])
    })
  )

  it.scoped(
    "what the configuration no longer names disappears, a changed schedule counts from now, the rest is kept",
    () =>
      Effect.gen(function* () {
        const file = yield* tempFile
        const cron = (name: string, schedule: string) => ({ name, schedule, instruction: "look" })
        const jobs = Effect.map(Scheduler, (scheduler) =>
          scheduler
            .list({ includeDisabled: true })
            .map(({ name, nextAt }) => `${name} ${nextAt?.toISOString().slice(0, 16) ?? "never"}`)
            .sort()
        )
        const before = {
          ...many,
          crons: [cron("gone", "0 * * * *"), cron("changed", "0 1 * * *"), cron("same", "0 2 * * *")]
        }
        expect(
          yield* session(file, before, () =>
            Effect.gen(function* () {
              yield* (yield* Scheduler).add(at(9 * HOUR, { name: "own" }))
              return yield* jobs
            })
          )
        ).toEqual([
          "changed 1970-01-01T01:00",
          "gone 1970-01-01T01:00",
          "own 1970-01-01T09:00",
          "same 1970-01-01T02:00"
        ])
        yield* TestClock.adjust("30 minutes")
        const after = { ...many, crons: [cron("changed", "15 * * * *"), cron("same", "0 2 * * *")] }
        yield* session(file, after, () =>
          Effect.gen(function* () {
            expect(yield* jobs).toEqual(["changed 1970-01-01T01:15", "own 1970-01-01T09:00", "same 1970-01-01T02:00"])
            const changes = yield* (yield* AuditLog).query({ kind: "job.changed" })
            expect(changes.at(-1)?.data).toMatchObject({ name: "gone", change: "removed" })
          })
        )
      })
  )

  it.scoped("a fire that could not be stored is tried again, and makes one event", () =>
    Effect.gen(function* () {
      let failures = 3
      const failing = wrapStore((store) => ({
        ...store,
        commit: (writes) =>
          Effect.suspend(() => {
            const isFire = writes.some((write) => write.table === "events" && write.op === "insert")
            if (!isFire || failures === 0) return store.commit(writes)
            failures -= 1
            return store.commit([...writes, ...writes])
          })
      }))
      yield* Effect.gen(function* () {
        const told = yield* watch
        yield* TestClock.adjust("1 hour")
        for (let i = 0; i < 4; i++) yield* TestClock.adjust("1 second")
        yield* told.until("ProactiveActionCompleted", 1)
        expect(failures).toBe(0)
        expect(yield* fires).toEqual(["hourly 1970-01-01T01:00"])
        expect(yield* (yield* AuditLog).verify).toMatchObject({ valid: true })
      }).pipe(
        Effect.scoped,
        Effect.provide(
          gateway({ ...many, crons: [{ name: "hourly", schedule: "0 * * * *", instruction: "look" }] }).pipe(
            Layer.provideMerge(failing),
            Layer.provide(StoreMemory.layer)
          )
        )
      )
    })
  )

  it.effect("a configuration whose crons cannot be is refused at start, with what is wrong", () =>
    Effect.gen(function* () {
      const cron = { schedule: "0 9 * * *", instruction: "look" }
      const refused: ReadonlyArray<readonly [GatewayConfigInput, RegExp]> = [
        [
          { crons: [{ ...cron, schedule: "61 * * * *" }] },
          /job "cron-1": cron expression "61 \* \* \* \*": minute "61"/
        ],
        [{ crons: [cron, { ...cron, name: "feb", schedule: "0 0 30 2 *" }] }, /job "feb": .*no such date ever comes/],
        [{ crons: [{ ...cron, timezone: "Nowhere" }] }, /crons\[0\]\.timezone: "Nowhere" is not an IANA time zone/],
        [{ crons: [{ ...cron, agentId: "nobody" }] }, /crons\[0\]\.agentId: there is no agent "nobody"/],
        [
          {
            crons: [
              { ...cron, name: "a" },
              { ...cron, name: "a" }
            ]
          },
          /crons\[1\]\.name: "a" is already taken/
        ],
        [{ crons: [{ ...cron, name: "cron-2" }, cron] }, /crons\[1\]\.name: "cron-2" is already taken/]
      ]
      for (const [input, message] of refused) {
        const error = yield* Effect.flip(Effect.provide(Scheduler, memory(input)))
        expect(error.message).toMatch(message)
      }
    })
  )
})
