import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService, Scheduler, SessionStore } from "@postilion/gateway"
import { Effect, TestClock } from "effect"
import { ADA, as, deliver, eventually, request, say, server, tempDir } from "./Support.ts"

const idOf = (answer: { readonly body: Record<string, unknown> }): string => String(answer.body.eventId)

const audited = Effect.gen(function* () {
  expect(yield* (yield* AuditLog).verify).toMatchObject({ valid: true })
})

describe("what a restart on the same file finds", () => {
  it.scoped("queued: judged again at its time", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const life = server({ storage, policies: { businessHours: { from: "00:10", to: "17:00" } } })
      const id = yield* Effect.gen(function* () {
        const answer = yield* deliver("deployment", "d1")
        expect(answer.body).toMatchObject({ decision: "queue" })
        return idOf(answer)
      }).pipe(Effect.provide(life))
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        expect((yield* gateway.status()).pending.queued).toBe(1)
        yield* TestClock.adjust("10 minutes")
        expect(yield* gateway.outcome(id)).toMatchObject({ state: "executed", run: { state: "completed" } })
        yield* audited
      }).pipe(Effect.provide(life))
    })
  )

  it.scoped("N19: awaiting approval: resumes once it is approved", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const life = server({ storage, policies: { requireApprovalFor: ["deploy"] } })
      const id = yield* Effect.map(deliver("deployment", "d1"), idOf).pipe(Effect.provide(life))
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const [approval] = yield* gateway.approvals
        expect(approval).toMatchObject({ eventId: id, state: "pending" })
        const answer = yield* request(`/approvals/${approval?.id}/approve`, { ...as(ADA), method: "POST" })
        expect(answer.status).toBe(200)
        expect(yield* gateway.outcome(id)).toMatchObject({
          run: { state: "completed" },
          approval: { decidedBy: "ada" }
        })
        yield* audited
      }).pipe(Effect.provide(life))
    })
  )

  it.scoped("an open merge window: one run for what came before and after", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const life = server({ storage })
      const first = yield* Effect.gen(function* () {
        const answer = yield* deliver("pull_request", "d1")
        expect(answer.body).toMatchObject({ decision: "merge" })
        yield* deliver("pull_request", "d2")
        return idOf(answer)
      }).pipe(Effect.provide(life))
      yield* Effect.gen(function* () {
        yield* TestClock.adjust("1 minute")
        yield* deliver("pull_request", "d3")
        yield* TestClock.adjust("4 minutes")
        const gateway = yield* GatewayService
        const outcome = yield* gateway.outcome(first)
        expect(outcome.run?.text).toContain("Handle these 3 events together")
        expect((yield* gateway.status()).stats.totalTokensUsed).toBe(15)
        yield* audited
      }).pipe(Effect.provide(life))
    })
  )

  it.scoped("a run that waits for its turn: begins, and the switch that held it back is as it was", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const life = server({ storage })
      const id = yield* Effect.gen(function* () {
        yield* (yield* GatewayService).pause({ by: "ada" })
        return idOf(yield* deliver("deployment", "d1"))
      }).pipe(Effect.provide(life))
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        expect(yield* gateway.status()).toMatchObject({
          switches: { "*": "paused" },
          pending: { waiting: 1, running: 0 }
        })
        yield* gateway.resume()
        expect(yield* gateway.outcome(id)).toMatchObject({ run: { state: "completed", attempt: 1 } })
        yield* audited
      }).pipe(Effect.provide(life))
    })
  )

  it.scoped("jobs: keep what they were due at, and fire then", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const life = server({ storage, crons: [{ name: "standup", schedule: "0 9 * * *", instruction: "Summarize" }] })
      const dueOf = Effect.map(Scheduler, (scheduler) =>
        scheduler.list().map(({ name, nextAt }) => ({ name, nextAt: nextAt?.toISOString() }))
      )
      const before = yield* Effect.gen(function* () {
        yield* (yield* Scheduler).add({
          name: "hourly",
          schedule: { kind: "every", everyMs: 3_600_000 },
          instruction: "Look around"
        })
        return yield* dueOf
      }).pipe(Effect.provide(life))
      expect(before).toMatchObject([{ name: "hourly" }, { name: "standup", nextAt: "1970-01-01T09:00:00.000Z" }])
      yield* TestClock.adjust("30 minutes")
      yield* Effect.gen(function* () {
        expect(yield* dueOf).toEqual(before)
        const gateway = yield* GatewayService
        yield* TestClock.adjust("30 minutes")
        yield* eventually(gateway.status(), ({ stats }) => stats.cronsExecuted === 1)
      }).pipe(Effect.provide(life))
    })
  )

  it.scoped("conversations, and which deliveries were known", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const life = server({ storage })
      const id = yield* Effect.gen(function* () {
        yield* say({ text: "remember 42" })
        return idOf(yield* deliver("push", "d1"))
      }).pipe(Effect.provide(life))
      yield* Effect.gen(function* () {
        expect((yield* deliver("push", "d1")).body).toMatchObject({ status: "duplicate", eventId: id })
        expect(yield* (yield* SessionStore).history('http:["ada","default"]')).toMatchObject([
          { role: "user", content: "remember 42" },
          { role: "assistant" }
        ])
      }).pipe(Effect.provide(life))
    })
  )

  it.scoped("a run that was cut off: tried again, as its second attempt", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const id = yield* Effect.gen(function* () {
        const answer = yield* deliver("deployment", "d1")
        const gateway = yield* GatewayService
        yield* eventually(gateway.status(), ({ pending }) => pending.running === 1)
        return idOf(answer)
      }).pipe(Effect.provide(server({ storage, drainDeadlineMs: 0 }, () => Effect.never)))
      yield* Effect.gen(function* () {
        expect(yield* (yield* GatewayService).outcome(id)).toMatchObject({ run: { state: "completed", attempt: 2 } })
        yield* audited
      }).pipe(Effect.provide(server({ storage })))
    })
  )
})
