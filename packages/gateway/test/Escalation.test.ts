import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService, Store } from "@postilion/gateway"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Deferred, Effect, TestClock } from "effect"
import { answerOf, gateway, gatewayOn, type Respond, tempFile, watch } from "./TestGateway.ts"

const input = (change: Partial<RawInput> = {}): RawInput => ({ source: "webhook", payload: { text: "go" }, ...change })

/** Hands in an event, and closes the gateway while its run is under way. */
const cutOff = (file: string, config: Parameters<typeof gatewayOn>[1], event = input()) =>
  Effect.gen(function* () {
    const begun = yield* Deferred.make<void>()
    const respond: Respond = () => Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never)
    return yield* Effect.gen(function* () {
      const gw = yield* GatewayService
      const receipt = yield* gw.submit(event)
      if (receipt.decision === "merge") yield* TestClock.adjust("5 minutes")
      yield* Deferred.await(begun)
      return receipt.eventId
    }).pipe(Effect.provide(gatewayOn(file, config, respond)))
  })

const escalating = { limits: { onCrash: "escalate" } } as const

describe("a run that was abandoned is a person's to decide", () => {
  it.scoped("escalated at the first cut; approved, it has another set of attempts; the books add up", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const eventId = yield* cutOff(file, escalating)
      yield* TestClock.adjust("1 second")
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const [approval] = yield* gw.approvals
        const record = yield* gw.find(eventId)
        expect(record).toMatchObject({
          state: "awaiting-approval",
          run: { state: "abandoned", attempt: 1, error: "cut off in attempt 1, and not tried again (limits.onCrash)" }
        })
        expect(approval).toMatchObject({
          eventId,
          runId: record?.run?.id,
          policy: "onCrash",
          reason: `run ${record?.run?.id} was cut off in attempt 1; approve to try it again, deny to drop it`
        })
        expect((yield* gw.status()).pending).toMatchObject({ awaitingApproval: 1 })
        expect((yield* gw.status()).budget).toMatchObject({ reserved: 0, used: 100 })
      }).pipe(Effect.provide(gatewayOn(file, escalating)))

      // And after yet another start: approvals are durable.
      yield* TestClock.adjust("1 second")
      const attempts: Array<readonly [string, number]> = []
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const [approval] = yield* gw.approvals
        yield* gw.approve(approval?.id ?? "", "ada")
        yield* gw.approve(approval?.id ?? "", "ada")
        const done = yield* gw.outcome(eventId)
        expect(done).toMatchObject({ state: "executed", run: { state: "completed", attempt: 1, text: "did go" } })
        expect(done.run?.id).not.toBe(approval?.runId)
        expect(done.approval).toMatchObject({ state: "approved", decidedBy: "ada" })
        expect(attempts).toEqual([["go", 1]])
        expect((yield* gw.status()).budget).toMatchObject({ reserved: 0, used: 200 })
        const runs = yield* (yield* Store).find("runs", { where: { event_id: eventId } })
        expect(runs.map(({ state }) => state).sort()).toEqual(["abandoned", "completed"])
        const audit = yield* AuditLog
        expect(yield* audit.verify).toMatchObject({ valid: true })
        expect((yield* audit.query({ eventId })).map(({ kind }) => kind)).toEqual([
          "event.decided",
          "run.started",
          "run.ended",
          "run.escalated",
          "approval.voted",
          "approval.decided",
          "event.decided",
          "run.started",
          "run.ended"
        ])
      }).pipe(
        Effect.provide(
          gatewayOn(file, escalating, ({ attempt, taskDescription }) =>
            Effect.sync(() => {
              attempts.push([taskDescription, attempt])
              return answerOf(`did ${taskDescription}`)
            })
          )
        )
      )
    })
  )

  it.scoped("denied, or not answered in time, it is over", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const denied = yield* cutOff(file, escalating)
      const silent = yield* cutOff(file, escalating, input({ payload: { text: "also" } }))
      yield* TestClock.adjust("1 second")
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const approvals = yield* gw.approvals
        expect(approvals).toHaveLength(2)
        yield* gw.deny(approvals.find(({ eventId }) => eventId === denied)?.id ?? "", "bob")
        expect(yield* gw.outcome(denied)).toMatchObject({
          state: "denied",
          reason: "denied by bob",
          run: { state: "abandoned" }
        })
        yield* TestClock.adjust("24 hours")
        expect(yield* gw.outcome(silent)).toMatchObject({ state: "denied", run: { state: "abandoned" } })
        expect(yield* (yield* Store).find("runs", {})).toHaveLength(2)
      }).pipe(Effect.provide(gatewayOn(file, escalating)))
    })
  )

  it.scoped("a merged run is tried again with the task it had, and waits for no other window", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const metadata = { mergeKey: "prs", summary: "PR 1" }
      const eventId = yield* cutOff(file, escalating, input({ metadata }))
      yield* TestClock.adjust("1 second")
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const [approval] = yield* gw.approvals
        const before = (yield* (yield* Store).find("runs", {}))[0]?.task
        yield* gw.approve(approval?.id ?? "", "ada")
        expect((yield* gw.outcome(eventId)).run?.text).toBe(`done: ${before}`)
      }).pipe(Effect.provide(gatewayOn(file, escalating)))
    })
  )

  it.scoped("an event that was approved to begin with is asked about again, apart from its first approval", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = { limits: { onCrash: "escalate" as const }, policies: { requireApprovalFor: ["deploy"] } }
      const begun = yield* Deferred.make<void>()
      const eventId = yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const receipt = yield* gw.submit(input({ metadata: { category: "deploy" } }))
        const [approval] = yield* gw.approvals
        yield* gw.approve(approval?.id ?? "", "ada")
        yield* Deferred.await(begun)
        return receipt.eventId
      }).pipe(
        Effect.provide(gatewayOn(file, config, () => Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never)))
      )
      yield* TestClock.adjust("1 second")
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const [approval, ...others] = yield* gw.approvals
        expect(others).toEqual([])
        expect(yield* gw.find(eventId)).toMatchObject({ approval: { id: approval?.id, state: "pending" } })
        yield* gw.approve(approval?.id ?? "", "bob")
        expect(yield* gw.outcome(eventId)).toMatchObject({
          run: { state: "completed" },
          approval: { decidedBy: "bob" }
        })
      }).pipe(Effect.provide(gatewayOn(file, config)))
    })
  )

  it.effect("one that cannot be interrupted is escalated while the gateway runs, told and counted", () =>
    Effect.gen(function* () {
      const held = yield* Deferred.make<void>()
      let first = true
      const respond: Respond = () =>
        Effect.suspend(() => {
          if (!first) return Effect.succeed(answerOf("second time lucky"))
          first = false
          return Effect.uninterruptible(Effect.as(Deferred.await(held), answerOf("too late")))
        })
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const { eventId } = yield* gw.submit(input())
        yield* told.until("ProactiveActionInitiated", 1)
        yield* TestClock.adjust("1 second")
        yield* TestClock.adjust("10 seconds")
        const [asked] = yield* told.until("ApprovalRequested", 1)
        expect(asked).toMatchObject({ eventId, reason: expect.stringMatching(/could not be interrupted.*approve/) })
        expect((yield* gw.status()).stats.actionsEscalated).toBe(1)
        yield* gw.approve(asked?.approvalId ?? "", "ada")
        expect(yield* gw.outcome(eventId)).toMatchObject({ run: { text: "second time lucky" } })
        yield* Deferred.succeed(held, undefined)
      }).pipe(
        Effect.scoped,
        Effect.provide(gateway({ limits: { runTimeoutMs: 1_000 } }, respond)),
        Effect.provide(StoreMemory.layer)
      )
    })
  )
})
