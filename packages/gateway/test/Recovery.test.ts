import { describe, expect, it } from "@effect/vitest"
import {
  AuditLog,
  GatewayService,
  Policy,
  PolicyEngine,
  type SchedulingPolicy,
  Store,
  StoreError
} from "@postilion/gateway"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Scope, TestClock } from "effect"
import { answerOf, gateway, gatewayOn, sqlite, tempFile, watch, wrapStore } from "./TestGateway.ts"

const input = (change: Partial<RawInput> = {}): RawInput => ({ source: "webhook", payload: { n: 1 }, ...change })

/** The chain is whole, and every event was decided for good exactly once: again only where a person let it run again. */
const checkRecords = Effect.gen(function* () {
  const audit = yield* AuditLog
  const store = yield* Store
  expect(yield* audit.verify).toMatchObject({ valid: true })
  const decided = yield* audit.query({ kind: "event.decided", limit: 10_000 })
  for (const event of yield* store.find("events", {})) {
    const final = decided.filter(
      ({ data, eventId }) => eventId === event.id && !["queue", "merge", "escalate"].includes(String(data.action))
    )
    const approved = yield* store.find("approvals", { where: { event_id: event.id, state: "approved" } })
    const again = approved.filter((approval) => approval.run_id !== null).length
    const ends = event.state === "executed" || event.state === "suppressed" || event.run_id !== null ? 1 : 0
    expect({ id: event.id, final: final.length }).toEqual({ id: event.id, final: ends + again })
    const runs = yield* store.find("runs", { where: { event_id: event.id } })
    expect(runs).toHaveLength(event.run_id === null ? 0 : 1 + again)
  }
})

describe("a gateway that is closed and opened again", () => {
  it.scoped("decides what a policy was still thinking about, once", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const ids = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        yield* (yield* PolicyEngine).addPolicy({ _tag: "Silent", priority: 60, evaluate: () => Effect.never })
        return yield* Effect.forEach([1, 2, 3], (n) => gateway.submit(input({ payload: { n } })), {
          concurrency: "unbounded"
        })
      }).pipe(Effect.provide(gatewayOn(file)))

      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        for (const { decision, eventId } of ids) {
          expect(decision).toBeUndefined()
          expect(yield* gateway.outcome(eventId)).toMatchObject({ state: "executed", run: { state: "completed" } })
        }
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file)))
    })
  )

  it.scoped("judges at its time what is queued until then, also when that passed meanwhile", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const until = (millis: number): SchedulingPolicy =>
        Policy.make("Until", {
          priority: 1,
          evaluate: (_, { now }) =>
            now.epochMillis < millis ? Policy.queue({ reason: "not yet", until: new Date(millis) }) : Policy.pass
        })
      const withPolicy = <A, E, R>(millis: number, body: Effect.Effect<A, E, R>) =>
        Effect.zipRight(
          Effect.flatMap(PolicyEngine, (engine) => engine.addPolicy(until(millis))),
          body
        )
      const first = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        return yield* withPolicy(600_000, gateway.submit(input()))
      }).pipe(Effect.provide(gatewayOn(file)))
      expect(first.decision).toBe("queue")

      const second = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        expect(yield* gateway.find(first.eventId)).toMatchObject({ state: "deferred", reason: "not yet" })
        expect((yield* gateway.status()).pending.queued).toBe(1)
        yield* TestClock.adjust("10 minutes")
        expect(yield* gateway.outcome(first.eventId)).toMatchObject({ state: "executed" })
        return yield* withPolicy(1_200_000, gateway.submit(input({ payload: { n: 2 } })))
      }).pipe(Effect.provide(gatewayOn(file)))

      yield* TestClock.adjust("1 hour")
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        expect(yield* gateway.outcome(second.eventId)).toMatchObject({ state: "executed" })
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file)))
    })
  )

  it.scoped("judges again, within a minute, what is queued until something changes", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const { eventId } = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const never = Policy.make("Never", { priority: 1, evaluate: () => Policy.queue({ reason: "no" }) })
        yield* (yield* PolicyEngine).addPolicy(never)
        return yield* gateway.submit(input())
      }).pipe(Effect.provide(gatewayOn(file)))

      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        expect((yield* gateway.find(eventId))?.state).toBe("deferred")
        yield* TestClock.adjust("1 minute")
        expect(yield* gateway.outcome(eventId)).toMatchObject({ state: "executed" })
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file)))
    })
  )

  it.scoped("keeps a merge window open, takes more into it, and closes it at its time", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const pr = (n: number) => input({ payload: { n }, metadata: { mergeKey: "prs", summary: `PR ${n}` } })
      const burst = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        return yield* Effect.forEach([1, 2, 3], (n) => gateway.submit(pr(n)))
      }).pipe(Effect.provide(gatewayOn(file)))
      yield* TestClock.adjust("4 minutes")

      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const told = yield* watch
        const late = yield* gateway.submit(pr(4))
        expect(late.decision).toBe("merge")
        expect((yield* gateway.find(late.eventId))?.mergedInto).toBe(burst[0]?.eventId)
        yield* TestClock.adjust("1 minute")
        const done = yield* gateway.outcome(burst[0]?.eventId ?? "")
        expect(done.run?.text).toBe(
          "done: Handle these 4 events together (prs):\n1. webhook: PR 1\n2. webhook: PR 2\n3. webhook: PR 3\n4. webhook: PR 4"
        )
        expect(told.all("EventsMerged")).toMatchObject([
          { count: 4, eventIds: [...burst.map(({ eventId }) => eventId), late.eventId] }
        ])
        // The window is closed: the next one begins another.
        expect((yield* gateway.find((yield* gateway.submit(pr(5))).eventId))?.state).toBe("merging")
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file)))
    })
  )

  it.scoped("N13: runs what became due while it was down once", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const until = Policy.make("Until", {
        priority: 1,
        evaluate: ({ source }, { now }) =>
          source === "cron" && now.epochMillis < 600_000
            ? Policy.queue({ reason: "not yet", until: new Date(600_000) })
            : Policy.pass
      })
      const ids = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        yield* (yield* PolicyEngine).addPolicy(until)
        const merging = yield* gateway.submit(input({ metadata: { mergeKey: "prs" } }))
        const queued = yield* gateway.submit(input({ source: "cron" }))
        return [merging.eventId, queued.eventId]
      }).pipe(Effect.provide(gatewayOn(file)))

      yield* TestClock.adjust("1 hour")
      const calls: Array<string> = []
      const respond = ({ event }: { readonly event: { readonly id: string } }) =>
        Effect.sync(() => {
          calls.push(event.id)
          return answerOf("done")
        })
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        for (const id of ids) expect(yield* gateway.outcome(id)).toMatchObject({ run: { attempt: 1 } })
        yield* gateway.drain(1_000)
        expect(calls).toEqual(ids)
        expect(yield* (yield* AuditLog).query({ kind: "run.ended" })).toHaveLength(2)
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file, {}, respond)))
    })
  )

  it.scoped("N19: approvals lost on restart: they wait on, are answered, and expire at their time", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = { policies: { requireApprovalFor: ["deploy"] } }
      const deploy = (n: number) => input({ payload: { n }, metadata: { category: "deploy" } })
      const asked = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        return yield* Effect.forEach([1, 2, 3], (n) => gateway.submit(deploy(n)))
      }).pipe(Effect.provide(gatewayOn(file, config)))
      const [yes = "", no = "", silent = ""] = asked.map(({ eventId }) => eventId)

      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const approvals = new Map((yield* gateway.approvals).map(({ eventId, id }) => [eventId, id]))
        expect([...approvals.keys()]).toEqual([yes, no, silent])
        yield* gateway.approve(approvals.get(yes) ?? "", "ada")
        yield* gateway.deny(approvals.get(no) ?? "", "bob")
        expect(yield* gateway.outcome(yes)).toMatchObject({ state: "executed", approval: { decidedBy: "ada" } })
        expect(yield* gateway.outcome(no)).toMatchObject({ state: "denied", reason: "denied by bob", run: undefined })
      }).pipe(Effect.provide(gatewayOn(file, config)))

      yield* TestClock.adjust("24 hours")
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        expect(yield* gateway.outcome(silent)).toMatchObject({ state: "denied", approval: { state: "expired" } })
        const [approval] = yield* (yield* Store).find("approvals", { where: { event_id: silent } })
        const late = yield* Effect.flip(gateway.approve(approval?.id ?? "", "ada"))
        expect(late).toMatchObject({ reason: "conflict", message: expect.stringContaining("was expired by the clock") })
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file, config)))
    })
  )

  it.scoped("an approved event that its policies then queue keeps its approval", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = { policies: { requireApprovalFor: ["deploy"] } }
      const hold = (): SchedulingPolicy => {
        return Policy.make("Hold", { priority: 45, evaluate: () => Policy.queue({ reason: "hold" }) })
      }
      const { eventId } = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        yield* (yield* PolicyEngine).addPolicy(hold())
        const receipt = yield* gateway.submit(input({ metadata: { category: "deploy" } }))
        const [approval] = yield* gateway.approvals
        yield* gateway.approve(approval?.id ?? "", "ada")
        expect((yield* gateway.find(receipt.eventId))?.state).toBe("deferred")
        return receipt
      }).pipe(Effect.provide(gatewayOn(file, config)))

      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        yield* TestClock.adjust("1 minute")
        expect(yield* gateway.outcome(eventId)).toMatchObject({ state: "executed", approval: { decidedBy: "ada" } })
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file, config)))
    })
  )

  it.scoped("runs what was decided and had not begun", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const ids = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        yield* gateway.pause()
        return yield* Effect.forEach([1, 2, 3], (n) => gateway.submit(input({ payload: { n } })))
      }).pipe(Effect.provide(gatewayOn(file)))

      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        // The switch is as it was left.
        const { budget, pending, switches } = yield* gateway.status()
        expect(switches).toEqual({ "*": "paused" })
        expect(pending).toMatchObject({ waiting: 3, running: 0 })
        expect(budget).toMatchObject({ used: 0, reserved: 300 })
        yield* gateway.resume()
        for (const { eventId } of ids) {
          expect(yield* gateway.outcome(eventId)).toMatchObject({ run: { state: "completed", attempt: 1 } })
        }
        expect((yield* gateway.status()).budget).toMatchObject({ used: 300, reserved: 0 })
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file)))
    })
  )

  it.scoped("keeps the order of a session's runs, also when the clock was set back between them", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const say = (text: string) => input({ payload: { text }, sessionKey: "s" })
      yield* TestClock.setTime(7_200_000)
      const ids = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        yield* gateway.pause()
        const first = yield* gateway.submit(say("first"))
        yield* TestClock.setTime(3_600_000)
        const second = yield* gateway.submit(say("second"))
        return [first.eventId, second.eventId]
      }).pipe(Effect.provide(gatewayOn(file)))
      // Again, and this time a restart comes first.
      yield* TestClock.setTime(1_800_000)
      const submitted = Effect.flatMap(GatewayService, (gateway) => gateway.submit(say("third")))
      const third = yield* Effect.provide(submitted, gatewayOn(file))
      ids.push(third.eventId)

      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        yield* gateway.resume()
        yield* Effect.forEach(ids, (id) => gateway.outcome(id))
        const ends = yield* (yield* AuditLog).query({ kind: "run.ended" })
        expect(ends.map(({ eventId }) => eventId)).toEqual(ids)
      }).pipe(Effect.provide(gatewayOn(file)))
    })
  )

  it.scoped("closing it begins no run that was waiting", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = { limits: { maxConcurrentRuns: 1 } }
      const calls: Array<string> = []
      const never = ({ taskDescription }: { readonly taskDescription: string }) =>
        Effect.zipRight(
          Effect.sync(() => calls.push(taskDescription)),
          Effect.never
        )
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const told = yield* watch
        yield* Effect.forEach(["a", "b", "c"], (text) => gateway.submit(input({ payload: { text } })))
        yield* told.until("ProactiveActionInitiated", 1)
      }).pipe(Effect.scoped, Effect.provide(gatewayOn(file, config, never)))
      expect(calls).toEqual(["a"])

      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const runs = yield* Effect.forEach(
          yield* (yield* Store).find("events", { orderBy: ["seq", "asc"] }),
          ({ id }) => Effect.map(gateway.outcome(id), ({ run }) => [run?.state, run?.attempt])
        )
        expect(runs).toEqual([
          ["completed", 2],
          ["completed", 1],
          ["completed", 1]
        ])
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file, config)))
    })
  )

  it.scoped("closing it does not wait for a disk that stays full; the next start takes the run up again", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const refused = yield* Deferred.make<void>()
      let full = false
      const onDisk = wrapStore((store) => ({
        ...store,
        commit: (writes) =>
          full
            ? Effect.zipRight(Deferred.succeed(refused, undefined), new StoreError({ message: "the disk is full" }))
            : store.commit(writes)
      })).pipe(Layer.provide(sqlite(file)))
      const respond = () =>
        Effect.sync(() => {
          full = true
          return answerOf("done")
        })
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(gateway({}, respond).pipe(Layer.provideMerge(onDisk)), scope)
      const { eventId } = yield* Context.get(context, GatewayService).submit(input())
      yield* Deferred.await(refused)
      const closed = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closed)

      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        expect(yield* gateway.outcome(eventId)).toMatchObject({ run: { state: "completed", attempt: 2 } })
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file)))
    })
  )

  it.scoped("tries again a run it was cut off in, so often and no oftener, and then asks a person", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const attempts: Array<number> = []
      const begun = (task: { readonly attempt: number }) =>
        Effect.zipRight(
          Effect.sync(() => attempts.push(task.attempt)),
          Effect.never
        )
      const { eventId } = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const told = yield* watch
        const receipt = yield* gateway.submit(input())
        yield* told.until("ProactiveActionInitiated", 1)
        return receipt
      }).pipe(Effect.scoped, Effect.provide(gatewayOn(file, {}, begun)))

      for (const attempt of [2, 3]) {
        const called = yield* Deferred.make<void>()
        yield* Effect.gen(function* () {
          const gateway = yield* GatewayService
          yield* Deferred.await(called)
          expect(yield* gateway.find(eventId)).toMatchObject({ run: { state: "running", attempt } })
          expect((yield* gateway.status()).budget).toMatchObject({ used: 0, reserved: 100 })
        }).pipe(
          Effect.provide(
            gatewayOn(file, {}, (task) => Effect.zipRight(Deferred.succeed(called, undefined), begun(task)))
          )
        )
      }
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        expect(yield* gateway.find(eventId)).toMatchObject({
          state: "awaiting-approval",
          run: { state: "abandoned", attempt: 3, error: "cut off in its last attempt of 3" }
        })
        expect(yield* gateway.approvals).toMatchObject([
          { eventId, reason: expect.stringContaining("was cut off in attempt 3; approve to try it again") }
        ])
        // N3: three times an agent was called, and nobody knows what for: all that was held is charged each time.
        expect((yield* gateway.status()).budget).toMatchObject({ used: 300, reserved: 0 })
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file, {}, begun)))
      expect(attempts).toEqual([1, 2, 3])
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const [approval] = yield* gateway.approvals
        yield* gateway.approve(approval?.id ?? "", "ada")
        expect(yield* gateway.outcome(eventId)).toMatchObject({ run: { state: "completed", attempt: 1 } })
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file)))
    })
  )

  it.scoped("a run that was waiting for its next attempt has it once, at once, after a restart", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const busy = () => Effect.fail(new AgentRunError({ message: "overloaded", retryable: true }))
      const { eventId } = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const told = yield* watch
        const receipt = yield* gateway.submit(input())
        yield* told.until("ProactiveActionInitiated", 1)
        return receipt
      }).pipe(Effect.scoped, Effect.provide(gatewayOn(file, {}, busy)))

      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        expect(yield* gateway.outcome(eventId)).toMatchObject({ run: { state: "completed", attempt: 2 } })
        yield* TestClock.adjust("10 minutes")
        const ends = yield* (yield* AuditLog).query({ kind: "run.ended" })
        expect(ends.map(({ data }) => [data.state, data.attempt])).toEqual([["completed", 2]])
        yield* checkRecords
      }).pipe(Effect.scoped, Effect.provide(gatewayOn(file)))
    })
  )

  it.scoped("knows an input it has seen before, at once and after a restart", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const once = input({ idempotencyKey: "delivery-1" })
      const ids = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const receipts = yield* Effect.forEach(Array.from({ length: 20 }), () => gateway.submit(once), {
          concurrency: "unbounded"
        })
        expect(receipts.filter(({ duplicate }) => !duplicate)).toHaveLength(1)
        return receipts.map(({ eventId }) => eventId)
      }).pipe(Effect.provide(gatewayOn(file)))
      expect(new Set(ids).size).toBe(1)

      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        expect(yield* gateway.submit(once)).toEqual({ eventId: ids[0], duplicate: true, decision: undefined })
        yield* gateway.outcome(ids[0] ?? "")
        expect(yield* (yield* Store).find("events", {})).toHaveLength(1)
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file)))
    })
  )

  it.scoped("many open events at once, over many restarts, all end, each decided once", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = { policies: { dailyTokenBudget: 2_500, maxActionsPerHour: "unlimited" as const } }
      const batch = (round: number) =>
        Effect.gen(function* () {
          const gateway = yield* GatewayService
          const never: SchedulingPolicy = {
            _tag: "Now and then",
            priority: 60,
            evaluate: (event) => (event.metadata.slow === true ? Effect.never : Effect.succeed(null))
          }
          yield* (yield* PolicyEngine).addPolicy(never)
          yield* Effect.forEach(
            Array.from({ length: 20 }, (_, n) => n),
            (n) => gateway.submit(input({ payload: { round, n }, metadata: { slow: n % 3 === 0 } })),
            { concurrency: "unbounded" }
          )
        })
      for (const round of [1, 2, 3]) yield* batch(round).pipe(Effect.provide(gatewayOn(file, config)))
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const events = yield* (yield* Store).find("events", {})
        expect(events).toHaveLength(60)
        const records = yield* Effect.forEach(events, ({ id }) => gateway.outcome(id), { concurrency: "unbounded" })
        expect(records.filter(({ state }) => state === "executed")).toHaveLength(25)
        expect(records.filter(({ state }) => state === "suppressed")).toHaveLength(35)
        expect((yield* gateway.status()).budget).toMatchObject({ used: 2_500, reserved: 0 })
        yield* checkRecords
      }).pipe(Effect.provide(gatewayOn(file, config)))
    })
  )

  it.scoped("a held event of an agent that is configured no more is still brought to its end", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const { eventId } = yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        return yield* gateway.submit(input({ agentId: "old", metadata: { mergeKey: "k" } }))
      }).pipe(Effect.provide(gatewayOn(file, { agents: { ops: {}, old: {} } })))
      yield* TestClock.adjust("5 minutes")
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        expect(yield* gateway.outcome(eventId)).toMatchObject({ state: "executed", run: { agentId: "old" } })
      }).pipe(Effect.provide(gatewayOn(file, { agents: { ops: {} } })))
    })
  )

  it.scoped("every start and stop is in the audit, and one chain goes through all of them", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      for (let i = 0; i < 3; i++) yield* Effect.provide(GatewayService, gatewayOn(file))
      yield* Effect.gen(function* () {
        const audit = yield* AuditLog
        expect((yield* audit.query()).map(({ kind }) => kind)).toEqual([
          ...Array.from({ length: 3 }, () => ["gateway.started", "gateway.stopped"]).flat(),
          "gateway.started"
        ])
        expect(yield* audit.verify).toMatchObject({ valid: true, records: 7 })
      }).pipe(Effect.provide(gatewayOn(file)))
    })
  )
})
