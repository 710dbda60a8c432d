import { describe, expect, it } from "@effect/vitest"
import {
  AgentRunError,
  AuditLog,
  EventBus,
  Gateway,
  GatewayService,
  KillSwitch,
  Policy,
  PolicyEngine
} from "@postilion/gateway"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"

import * as AgentRunner from "@postilion/gateway/runs/AgentRunner"
import { Chunk, Effect, Fiber, Layer, Stream, TestClock } from "effect"

/** Every run may use, and uses, exactly 100 tokens. */
const runnerOf100 = AgentRunner.layerScripted(
  () => Effect.succeed({ text: "ok", usage: { inputTokens: 60, outputTokens: 40 }, model: "scripted" }),
  () => 100
)
const submitted = { source: "state-change", payload: { disk: "91%" } } as const

describe("the road", () => {
  it.scoped("executes what no policy stops, and settles what it used", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const receipt = yield* gateway.submit(submitted)
      expect(receipt).toMatchObject({ duplicate: false, decision: "execute" })
      const outcome = yield* gateway.outcome(receipt.eventId)
      expect(outcome).toMatchObject({ state: "executed", policy: "default", run: { state: "completed", attempt: 1 } })
      const status = yield* gateway.status()
      expect(status.stats.totalTokensUsed).toBe(15)
      expect(status.budget).toMatchObject({ used: 15, reserved: 0 })
      const audit = yield* AuditLog
      expect(yield* audit.verify).toMatchObject({ valid: true })
      expect((yield* audit.query({ eventId: receipt.eventId })).map(({ kind }) => kind)).toEqual([
        "event.decided",
        "run.started",
        "run.ended"
      ])
    }).pipe(Effect.provide(Gateway.layerTest()))
  )

  it.scoped("merges a burst into one run whose task lists what was merged", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const receipts = yield* Effect.forEach([1, 2, 3, 4, 5], (n) =>
        gateway.submit({
          source: "webhook",
          payload: { n },
          metadata: { mergeKey: "prs", type: "pull_request.opened", summary: `PR ${n}` }
        })
      )
      expect(receipts.map((receipt) => receipt.decision)).toEqual(["merge", "merge", "merge", "merge", "merge"])
      yield* TestClock.adjust("5 minutes")
      const first = yield* gateway.outcome(receipts[0]?.eventId ?? "")
      expect(first.run?.text).toContain("Handle these 5 events together")
      expect(first.run?.text).toContain("5. pull_request.opened: PR 5")
      const last = yield* gateway.outcome(receipts[4]?.eventId ?? "")
      expect(last).toMatchObject({ state: "merged", mergedInto: receipts[0]?.eventId })
      expect((yield* gateway.status()).stats).toMatchObject({
        webhooksReceived: 5,
        webhooksProcessed: 1,
        webhooksMerged: 4
      })
    }).pipe(Effect.provide(Gateway.layerTest()))
  )

  it.scoped("N30: 1,000 concurrent submits against a budget for ten runs: ten runs, 990 suppressed, ledger exact", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const receipts = yield* Effect.forEach(
        Array.from({ length: 1000 }, (_, n) => n),
        (n) => gateway.submit({ source: "state-change", payload: { n } }),
        { concurrency: "unbounded" }
      )
      expect(receipts.filter(({ decision }) => decision === "execute")).toHaveLength(10)
      yield* Effect.forEach(receipts, ({ eventId }) => gateway.outcome(eventId), { concurrency: "unbounded" })
      const { budget, stats } = yield* gateway.status()
      expect(stats).toMatchObject({ actionsSuppressed: 990, totalTokensUsed: 1000 })
      expect(budget).toMatchObject({ limit: 1000, used: 1000, reserved: 0 })
    }).pipe(
      Effect.provide(
        Gateway.layer({ policies: { dailyTokenBudget: 1000, maxActionsPerHour: "unlimited" } }).pipe(
          Layer.provide(runnerOf100),
          Layer.provide(StoreMemory.layer)
        )
      )
    )
  )

  it.scoped("an escalated event waits, and runs once it is approved; the same answer again changes nothing", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const { decision, eventId } = yield* gateway.submit({ ...submitted, metadata: { category: "deploy" } })
      expect(decision).toBe("escalate")
      const [approval] = yield* gateway.approvals
      expect(approval).toMatchObject({ eventId, policy: "RequireApproval" })
      yield* gateway.approve(approval?.id ?? "", "ada")
      yield* gateway.approve(approval?.id ?? "", "ada")
      const late = yield* Effect.flip(gateway.deny(approval?.id ?? "", "bob"))
      expect(late.message).toContain("was approved by ada")
      expect(yield* gateway.outcome(eventId)).toMatchObject({ state: "executed", approval: { decidedBy: "ada" } })
    }).pipe(Effect.provide(Gateway.layerTest({ policies: { requireApprovalFor: ["deploy"] } })))
  )

  it.scoped("an approval nobody answers is denied when it expires", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const { eventId } = yield* gateway.submit({ ...submitted, metadata: { type: "deploy.production" } })
      const waiting = yield* Effect.fork(gateway.outcome(eventId))
      yield* TestClock.adjust("24 hours")
      expect(yield* Fiber.join(waiting)).toMatchObject({ state: "denied", approval: { state: "expired" } })
    }).pipe(Effect.provide(Gateway.layerTest({ policies: { requireApprovalFor: ["deploy"] } })))
  )

  it.scoped("a queued event is judged again at its time, and when the policies change", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const engine = yield* PolicyEngine
      yield* engine.addPolicy(
        Policy.make("Later", {
          priority: 12,
          evaluate: (event, state) =>
            event.metadata.later === true && state.now.epochMillis < 600_000
              ? Policy.queue({ reason: "not yet", until: new Date(600_000) })
              : Policy.pass
        })
      )
      yield* engine.addPolicy(Policy.make("Never", { priority: 13, evaluate: () => Policy.queue({ reason: "no" }) }))
      const timed = yield* gateway.submit({ ...submitted, metadata: { later: true } })
      const open = yield* gateway.submit(submitted)
      expect([timed.decision, open.decision]).toEqual(["queue", "queue"])
      yield* engine.removePolicy("Never")
      expect(yield* gateway.outcome(open.eventId)).toMatchObject({ state: "executed" })
      yield* TestClock.adjust("10 minutes")
      expect(yield* gateway.outcome(timed.eventId)).toMatchObject({ state: "executed" })
    }).pipe(Effect.provide(Gateway.layerTest()))
  )

  it.scoped("the kill switch holds what was decided, refuses what is stopped, and lets go on resume", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      yield* gateway.pause({ by: "ada" })
      const { eventId } = yield* gateway.submit(submitted)
      expect((yield* gateway.status()).pending).toMatchObject({ waiting: 1, running: 0 })
      yield* gateway.stop()
      const refused = yield* Effect.flip(gateway.submit({ ...submitted, priority: "critical" }))
      expect(refused).toMatchObject({ reason: "stopped" })
      expect((yield* gateway.status()).isRunning).toBe(false)
      yield* gateway.resume()
      expect(yield* gateway.outcome(eventId)).toMatchObject({ run: { state: "completed" } })
      expect((yield* KillSwitch).modes().size).toBe(0)
    }).pipe(Effect.provide(Gateway.layerTest()))
  )

  it.scoped("run gives the agent's answer, or says who kept the event from it, or why the agent failed", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      expect(yield* gateway.run(submitted)).toMatchObject({ state: "completed", text: "ok", inputTokens: 60 })
      const engine = yield* PolicyEngine
      yield* engine.addPolicy(
        Policy.make("No", {
          priority: 1,
          evaluate: (event) => (event.metadata.stop === true ? Policy.skip("not today") : Policy.pass)
        })
      )
      const stopped = yield* Effect.flip(gateway.run({ ...submitted, metadata: { stop: true } }))
      expect(stopped).toMatchObject({ _tag: "PolicyViolationError", policy: "No" })
      expect(stopped.message).toContain("suppressed by No: not today")
      const failed = yield* Effect.flip(gateway.run({ ...submitted, payload: "fail" }))
      expect(failed).toMatchObject({ _tag: "AgentRunError", message: "the model is down", retryable: false })
    }).pipe(
      Effect.provide(
        Gateway.layerTest({}, ({ event }) =>
          event.payload === "fail"
            ? new AgentRunError({ message: "the model is down", retryable: false })
            : Effect.succeed({ text: "ok", usage: { inputTokens: 60, outputTokens: 40 }, model: "scripted" })
        )
      )
    )
  )

  it.scoped("tells what happened, in order, after it is recorded", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const bus = yield* EventBus
      const events = yield* bus.subscribe()
      const { eventId } = yield* gateway.submit(submitted)
      const told = yield* events.pipe(Stream.take(4), Stream.runCollect)
      expect(Chunk.toReadonlyArray(told).map(({ _tag }) => _tag)).toEqual([
        "GatewayEventReceived",
        "PolicyDecisionMade",
        "ProactiveActionInitiated",
        "ProactiveActionCompleted"
      ])
      expect(Chunk.toReadonlyArray(told)).toSatisfy((all: ReadonlyArray<{ eventId?: string }>) =>
        all.every((event) => event.eventId === eventId)
      )
    }).pipe(Effect.provide(Gateway.layerTest()))
  )
})
