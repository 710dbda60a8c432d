import { describe, expect, it } from "@effect/vitest"
import {
  AuditLog,
  EventBus,
  type GatewayConfigInput,
  GatewayService,
  type NewJob,
  Policy,
  PolicyEngine,
  Scheduler,
  type Slot,
  Store
} from "@postilion/gateway"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import type { RunResult } from "@postilion/gateway/domain/Run"
import * as Bus from "@postilion/gateway/records/EventBus"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Clock, Deferred, Effect, Layer, TestClock } from "effect"
import { answerOf, gateway, gatewayOn, type Respond, tempFile, turn, watch } from "./TestGateway.ts"

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const many: GatewayConfigInput = { policies: { maxActionsPerHour: "unlimited", dailyTokenBudget: "unlimited" } }
const memory = (config: GatewayConfigInput = {}, respond?: Respond) =>
  gateway({ ...many, ...config }, respond).pipe(Layer.provideMerge(StoreMemory.layer))
const every = (everyMs: number, change: Partial<NewJob> = {}): NewJob => ({
  name: "every",
  schedule: { kind: "every", everyMs },
  instruction: "look",
  ...change
})
const failing: Respond = () => Effect.fail(new AgentRunError({ message: "no luck", retryable: false }))
/** An agent whose runs go on until they are told how to end, one after the other. */
const held = Effect.map(
  Effect.sync(() => [] as Array<Deferred.Deferred<RunResult, AgentRunError>>),
  (runs) => {
    const respond: Respond = () =>
      Effect.flatMap(Deferred.make<RunResult, AgentRunError>(), (end) => {
        runs.push(end)
        return Deferred.await(end)
      })
    return {
      runs,
      respond,
      finish: (n: number) => Deferred.succeed(runs[n] as (typeof runs)[number], answerOf("done"))
    }
  }
)

/** `01:00 ran`, `02:00-05:00 ×4 skipped (missed)`: oldest first. */
const show = ({ at, count, reason, state, until }: Slot): string => {
  const time = (date: Date) => date.toISOString().slice(11, 16)
  const range = count === 1 ? time(at) : `${time(at)}-${time(until)} ×${count ?? "many"}`
  return `${range} ${state}${reason === undefined ? "" : ` (${reason})`}`
}
const historyOf = (id: string) =>
  Effect.gen(function* () {
    const slots = yield* (yield* Scheduler).history(id)
    return [...slots].reverse().map(show)
  })
/** A job's history, once it has no open slot but so many, and its instants until now are seen to. */
const settled = (id: string, running = 0) =>
  Effect.gen(function* () {
    const scheduler = yield* Scheduler
    const now = yield* Clock.currentTimeMillis
    while (true) {
      const job = scheduler.list({ includeDisabled: true }).find((job) => job.id === id)
      const isDue = job?.enabled === true && job.nextAt !== undefined && job.nextAt.getTime() + job.delayMs <= now
      const open = (yield* scheduler.history(id)).filter(({ state }) => state === "running").length
      if (!isDue && open <= running) return yield* historyOf(id)
      yield* turn
    }
  })
const cronJob = "job_cron-hourly"
const hourly = (change: object = {}): GatewayConfigInput => ({
  ...many,
  crons: [{ name: "hourly", schedule: "0 * * * *", instruction: "look", ...change }]
})

describe("every instant of the past has a slot", () => {
  it.scoped("ran: with its event, and when it began and ended", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("2 hours")
      expect(yield* settled(cronJob)).toEqual(["01:00 ran", "02:00 ran"])
      const scheduler = yield* Scheduler
      const [last] = yield* scheduler.history(cronJob, { limit: 1 })
      expect(last).toMatchObject({
        at: new Date(2 * HOUR),
        until: new Date(2 * HOUR),
        count: 1,
        startedAt: new Date(2 * HOUR),
        endedAt: new Date(2 * HOUR)
      })
      expect(yield* (yield* GatewayService).find(last?.eventId ?? "")).toMatchObject({
        event: { metadata: { jobId: cronJob, scheduledAt: "1970-01-01T02:00:00.000Z" } }
      })
      const page = yield* scheduler.history(cronJob, { limit: 5, before: last?.at ?? new Date(0) })
      expect(page.map(show)).toEqual(["01:00 ran"])
      expect(yield* scheduler.history("job_nobody")).toEqual([])
    }).pipe(Effect.provide(memory(hourly())))
  )

  it.scoped("ran, and failed: with what of", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 hour")
      expect(yield* settled(cronJob)).toEqual(["01:00 ran (no luck)"])
    }).pipe(Effect.provide(memory(hourly(), failing)))
  )

  it.scoped("skipped by a policy, denied by a person, and waiting for one", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const engine = yield* PolicyEngine
      const hour = (n: number, policy: ReturnType<typeof Policy.skip>) =>
        Policy.make(`Hour${n}`, {
          priority: 1,
          evaluate: (event, { approval }) =>
            event.timestamp.getTime() === n * HOUR && approval === null ? policy : Policy.pass
        })
      yield* engine.addPolicy(hour(1, Policy.skip("not at one")))
      yield* engine.addPolicy(hour(2, Policy.escalate("at two?")))
      yield* engine.addPolicy(hour(3, Policy.escalate("at three?")))
      yield* TestClock.adjust("3 hours")
      expect(yield* settled(cronJob, 2)).toEqual(["01:00 skipped (not at one)", "02:00 running", "03:00 running"])
      const [two, three] = yield* gw.approvals
      yield* gw.deny(two?.id ?? "", "ada")
      yield* gw.approve(three?.id ?? "", "ada")
      expect((yield* settled(cronJob)).slice(1)).toEqual(["02:00 skipped (denied by ada)", "03:00 ran"])
    }).pipe(Effect.provide(memory(hourly())))
  )

  it.scoped("skipped while the agent is stopped: one row for all of them, until something else becomes of one", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      yield* gw.stop()
      yield* TestClock.adjust("4 hours")
      yield* settled(cronJob)
      yield* gw.resume()
      yield* TestClock.adjust("1 hour")
      yield* settled(cronJob)
      yield* gw.stop()
      yield* TestClock.adjust("2 hours")
      expect(yield* settled(cronJob)).toEqual([
        "01:00-04:00 ×4 skipped (the agent is stopped)",
        "05:00 ran",
        "06:00-07:00 ×2 skipped (the agent is stopped)"
      ])
      expect(yield* (yield* Store).find("slots", {})).toHaveLength(3)
      const audit = yield* (yield* AuditLog).query({ kind: "job.skipped" })
      expect(audit.map(({ data }) => data)).toEqual(
        [1, 6].map((hour) => ({
          jobId: cronJob,
          name: "hourly",
          at: hour * HOUR,
          until: hour * HOUR,
          reason: "the agent is stopped"
        }))
      )
    }).pipe(Effect.provide(memory(hourly())))
  )

  it.scoped("a heartbeat: outside its active hours, and paused", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const id = "job_heartbeat-1-agent"
      yield* TestClock.adjust("5 hours")
      yield* settled(id)
      yield* gw.pause()
      yield* TestClock.adjust("1 hour")
      expect(yield* settled(id)).toEqual([
        "01:00-02:00 ×2 skipped (outside its active hours)",
        "03:00 ran",
        "04:00 ran",
        "05:00 ran",
        "06:00 skipped (the agent is paused)"
      ])
    }).pipe(
      Effect.provide(
        memory({
          heartbeat: {
            intervalMs: HOUR,
            policy: "always",
            activeHours: { from: "03:00", to: "24:00", days: ["Thursday"] }
          }
        })
      )
    )
  )

  it.scoped("skipped while it is disabled: seen at once, recorded when it is enabled", () =>
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      yield* TestClock.adjust("1 hour")
      yield* settled(cronJob)
      yield* scheduler.enable(cronJob, false)
      yield* TestClock.adjust("3 hours")
      const seen = ["01:00 ran", "02:00-04:00 ×3 skipped (disabled)"]
      expect(yield* historyOf(cronJob)).toEqual(seen)
      expect(yield* (yield* Store).find("slots", {})).toHaveLength(1)
      expect(yield* scheduler.enable(cronJob, true)).toMatchObject({ nextAt: new Date(5 * HOUR) })
      expect(yield* historyOf(cronJob)).toEqual(seen)
      yield* TestClock.adjust("1 hour")
      expect(yield* settled(cronJob)).toEqual([...seen, "05:00 ran"])
    }).pipe(Effect.provide(memory(hourly())))
  )

  it.scoped("a run by hand uses none", () =>
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const { eventId } = yield* scheduler.run(cronJob)
      expect(yield* (yield* GatewayService).outcome(eventId)).toMatchObject({ state: "executed" })
      expect(yield* historyOf(cronJob)).toEqual([])
      yield* TestClock.adjust("1 hour")
      expect(yield* settled(cronJob)).toEqual(["01:00 ran"])
    }).pipe(Effect.provide(memory(hourly())))
  )

  it.scoped("they go with the events of their job, and those of a removed job stay until then", () =>
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const job = yield* scheduler.add(every(HOUR, { catchUp: "skip" }))
      yield* TestClock.adjust("2 hours")
      yield* settled(job.id)
      yield* scheduler.remove(job.id)
      expect(yield* historyOf(job.id)).toEqual(["01:00 ran", "02:00 ran"])
      yield* TestClock.adjust("6 days")
      const store = yield* Store
      // The last event of an agent stays.
      while ((yield* store.find("events", {})).length > 1) yield* turn
      expect(yield* historyOf(job.id)).toEqual(["02:00 ran"])
    }).pipe(Effect.provide(memory({ retention: { events: { maxAgeDays: 4 } } })))
  )
})

describe("overlap", () => {
  const run = (
    overlap: "skip" | "queue" | "allow",
    body: (
      runs: Effect.Effect.Success<typeof held>,
      id: string
    ) => Effect.Effect<void, never, Scheduler | GatewayService>
  ) =>
    Effect.flatMap(held, (runs) =>
      Effect.gen(function* () {
        const scheduler = yield* Scheduler
        const { id } = yield* Effect.orDie(scheduler.add(every(HOUR, { overlap })))
        yield* body(runs, id)
      }).pipe(Effect.provide(memory({ limits: { runTimeoutMs: 24 * HOUR } }, runs.respond)))
    )
  const isRunning = Effect.flatMap(GatewayService, (gw) => Effect.map(gw.status(), ({ pending }) => pending.running))

  it.scoped("skip: no other while one is open", () =>
    run("skip", ({ finish, runs }, id) =>
      Effect.gen(function* () {
        yield* TestClock.adjust("3 hours")
        const skipped = "02:00-03:00 ×2 skipped (the event before it has not ended)"
        expect(yield* Effect.orDie(settled(id, 1))).toEqual(["01:00 running", skipped])
        yield* finish(0)
        expect(yield* Effect.orDie(settled(id))).toEqual(["01:00 ran", skipped])
        yield* TestClock.adjust("1 hour")
        expect(yield* Effect.orDie(settled(id, 1))).toEqual(["01:00 ran", skipped, "04:00 running"])
        expect(runs).toHaveLength(2)
      })
    )
  )
  it.scoped("queue: one waits, and runs when the one before it has ended", () =>
    run("queue", ({ finish, runs }, id) =>
      Effect.gen(function* () {
        yield* TestClock.adjust("4 hours")
        const skipped = "03:00-04:00 ×2 skipped (the event before it has not ended)"
        expect(yield* Effect.orDie(settled(id, 2))).toEqual(["01:00 running", "02:00 running", skipped])
        expect([runs.length, yield* isRunning]).toEqual([1, 1])
        yield* finish(0)
        while (runs.length < 2) yield* turn
        expect(yield* Effect.orDie(settled(id, 1))).toEqual(["01:00 ran", "02:00 running", skipped])
        yield* finish(1)
        expect(yield* Effect.orDie(settled(id))).toEqual(["01:00 ran", "02:00 ran", skipped])
      })
    )
  )
  it.scoped("allow: they run side by side", () =>
    run("allow", ({ runs }, id) =>
      Effect.gen(function* () {
        yield* TestClock.adjust("3 hours")
        expect(yield* Effect.orDie(settled(id, 3))).toEqual(["01:00 running", "02:00 running", "03:00 running"])
        expect([runs.length, yield* isRunning]).toEqual([3, 3])
      })
    )
  )
})

describe("a job whose runs fail", () => {
  it.scoped("is disabled after so many in a row, and a person is asked, who has it go on", () => {
    let works = false
    const respond: Respond = (task) => (works ? Effect.succeed(answerOf("well")) : failing(task))
    return Effect.gen(function* () {
      const gw = yield* GatewayService
      const scheduler = yield* Scheduler
      const told = yield* watch
      yield* TestClock.adjust("5 hours")
      yield* told.until("ApprovalRequested", 1)
      expect(told.all("JobDisabled")).toMatchObject([
        { jobId: cronJob, name: "hourly", agentId: "agent", failures: 3, error: "no luck" }
      ])
      const seen = ["01:00 ran (no luck)", "02:00 ran (no luck)", "03:00 ran (no luck)"]
      const disabled = "04:00-05:00 ×2 skipped (disabled after 3 failures in a row)"
      expect(yield* historyOf(cronJob)).toEqual([...seen, disabled])
      const [approval] = yield* gw.approvals
      expect(approval).toMatchObject({
        policy: "disableAfterFailures",
        reason:
          'job "hourly" failed 3 times in a row and is disabled; no luck; approve to try this again and to enable the job, deny to leave it disabled'
      })
      expect(scheduler.list({ includeDisabled: true })).toMatchObject([
        { enabled: false, failures: 3, disabledFor: approval?.eventId }
      ])
      works = true
      yield* gw.approve(approval?.id ?? "", "ada")
      expect(yield* gw.outcome(approval?.eventId ?? "")).toMatchObject({ run: { state: "completed" } })
      while (scheduler.list().length === 0) yield* turn
      yield* TestClock.adjust("1 hour")
      expect(yield* settled(cronJob)).toEqual([...seen, disabled, "06:00 ran"])
      expect(scheduler.list()).toMatchObject([{ enabled: true, failures: 0, disabledFor: undefined }])
      const changes = yield* (yield* AuditLog).query({ kind: "job.changed" })
      expect(changes.slice(1).map(({ data }) => data)).toEqual([
        { jobId: cronJob, name: "hourly", change: "disabled", failures: 3, error: "no luck" },
        { jobId: cronJob, name: "hourly", change: "enabled" }
      ])
    }).pipe(Effect.provide(memory(hourly({ disableAfterFailures: 3 }), respond)))
  })

  it.scoped("is not, when one in between does not, or it is never to be", () => {
    let n = 0
    const respond: Respond = (task) => (++n % 3 === 0 ? Effect.succeed(answerOf("well")) : failing(task))
    return Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const job = yield* scheduler.add(every(HOUR, { disableAfterFailures: 3 }))
      yield* TestClock.adjust("7 hours")
      yield* settled(job.id)
      expect(scheduler.list()).toMatchObject([{ enabled: true, failures: 1 }])
    }).pipe(Effect.provide(memory({}, respond)))
  })
})

describe("a restart", () => {
  const session = <A, E, R>(
    file: string,
    config: GatewayConfigInput,
    body: Effect.Effect<A, E, R>,
    respond?: Respond
  ) => body.pipe(Effect.provide(gatewayOn(file, { ...many, ...config }, respond)), Effect.scoped)

  for (const [catchUp, after] of [
    ["skip", ["02:00-06:00 ×5 skipped (missed)"]],
    ["once", ["02:00-05:00 ×4 skipped (missed)", "06:00 caught-up"]],
    ["all", ["02:00 caught-up", "03:00 caught-up", "04:00 caught-up", "05:00 caught-up", "06:00 caught-up"]]
  ] as const) {
    it.scoped(`N7: what it missed while it was down is accounted for: ${catchUp}`, () =>
      Effect.gen(function* () {
        const file = yield* tempFile
        const config = hourly({ catchUp })
        yield* session(file, config, Effect.zipRight(TestClock.adjust("1 hour"), settled(cronJob)))
        yield* TestClock.adjust("330 minutes")
        const seen = yield* session(
          file,
          config,
          Effect.gen(function* () {
            yield* settled(cronJob)
            yield* TestClock.adjust("30 minutes")
            const store = yield* Store
            const history = yield* settled(cronJob)
            // Caught up one after the other, and each once.
            const keys = (yield* store.find("events", { orderBy: ["seq", "asc"] })).map((row) => row.dedupe_key)
            expect(new Set(keys).size).toBe(keys.length)
            return history
          })
        )
        expect(seen).toEqual(["01:00 ran", ...after, "07:00 ran"])
      })
    )
  }

  it.scoped("within its grace an instant that passed while it was down is on time", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = hourly({ catchUp: "skip", graceMs: 10 * MINUTE })
      yield* session(file, config, Effect.void)
      yield* TestClock.adjust("70 minutes")
      expect(yield* session(file, config, settled(cronJob))).toEqual(["01:00 ran"])
    })
  )

  it.scoped("an event that was still running: its slot is open, and ends with it", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const { respond, runs } = yield* held
      yield* session(
        file,
        hourly(),
        Effect.gen(function* () {
          yield* TestClock.adjust("1 hour")
          while (runs.length === 0) yield* turn
          expect(yield* historyOf(cronJob)).toEqual(["01:00 running"])
        }),
        respond
      )
      yield* session(
        file,
        hourly(),
        Effect.gen(function* () {
          expect(yield* settled(cronJob)).toEqual(["01:00 ran"])
        })
      )
    })
  )

  it.scoped("an end that was not recorded before a crash is found in the records", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      // Nobody tells the scheduler of the first life what ended.
      const deaf = yield* Effect.map(Bus.make, (bus) => ({ ...bus, listen: () => Effect.void }))
      yield* Effect.gen(function* () {
        const store = yield* Store
        yield* TestClock.adjust("1 hour")
        while ((yield* store.find("runs", { where: { state: "completed" } })).length === 0) yield* turn
        expect(yield* historyOf(cronJob)).toEqual(["01:00 running"])
      }).pipe(
        Effect.provide(gatewayOn(file, hourly()).pipe(Layer.provide(Layer.succeed(EventBus, deaf)))),
        Effect.scoped
      )
      expect(yield* session(file, hourly(), settled(cronJob))).toEqual(["01:00 ran"])
    })
  )

  it.scoped("a run that is given up: abandoned, and it counts as a failure", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = { ...hourly({ disableAfterFailures: 1 }), limits: { onCrash: "escalate" } } as const
      const { respond, runs } = yield* held
      yield* session(
        file,
        config,
        Effect.gen(function* () {
          yield* TestClock.adjust("1 hour")
          while (runs.length === 0) yield* turn
        }),
        respond
      )
      yield* session(
        file,
        config,
        Effect.gen(function* () {
          const gw = yield* GatewayService
          expect(yield* settled(cronJob)).toEqual([
            "01:00 abandoned (cut off in attempt 1, and not tried again (limits.onCrash))"
          ])
          const scheduler = yield* Scheduler
          expect(scheduler.list({ includeDisabled: true })).toMatchObject([{ enabled: false, failures: 1 }])
          // Asked about once, as the run that was given up.
          const approvals = yield* gw.approvals
          expect(approvals).toMatchObject([{ policy: "onCrash" }])
          yield* gw.approve(approvals[0]?.id ?? "", "ada")
          while (scheduler.list().length === 0) yield* turn
        })
      )
    })
  )

  it.scoped("disabled by its failures it stays so, whatever the configuration says, until the approval", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = hourly({ disableAfterFailures: 1 })
      const all = Effect.map(Scheduler, (scheduler) => scheduler.list({ includeDisabled: true }))
      const approval = yield* session(
        file,
        config,
        Effect.gen(function* () {
          const told = yield* watch
          yield* TestClock.adjust("1 hour")
          yield* told.until("ApprovalRequested", 1)
          return (yield* (yield* GatewayService).approvals)[0]
        }),
        failing
      )
      yield* TestClock.adjust("2 hours")
      yield* session(
        file,
        config,
        Effect.gen(function* () {
          expect(yield* all).toMatchObject([{ enabled: false, failures: 1 }])
          yield* (yield* GatewayService).approve(approval?.id ?? "", "ada")
          while (!(yield* all)[0]?.enabled) yield* turn
          expect(yield* settled(cronJob)).toEqual([
            "01:00 ran (no luck)",
            "02:00-03:00 ×2 skipped (disabled after 1 failures in a row)"
          ])
        })
      )
    })
  )

  it.scoped("deleteAfterRun: a job of the configuration does not come back; one added at run time is gone", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = hourly({ deleteAfterRun: true })
      yield* session(
        file,
        config,
        Effect.gen(function* () {
          yield* TestClock.adjust("2 hours")
          expect(yield* settled(cronJob)).toEqual(["01:00 ran"])
        })
      )
      yield* TestClock.adjust("2 hours")
      yield* session(
        file,
        config,
        Effect.gen(function* () {
          yield* TestClock.adjust("2 hours")
          expect(yield* settled(cronJob)).toEqual(["01:00 ran"])
          expect((yield* Scheduler).list()).toMatchObject([{ name: "hourly", nextAt: undefined }])
        })
      )
    })
  )
})
