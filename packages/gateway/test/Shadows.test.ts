import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService, Policy, PolicyEngine, type SchedulingPolicy } from "@postilion/gateway"
import { Effect, TestClock } from "effect"
import { gateway, stores } from "./TestGateway.ts"

const [[, memory]] = stores as readonly [(typeof stores)[number]]
const submit = (metadata: Record<string, unknown> = {}) =>
  Effect.gen(function* () {
    const gw = yield* GatewayService
    const { eventId } = yield* gw.submit({ source: "webhook", payload: {}, metadata })
    return yield* gw.find(eventId)
  })
const freeze = (tag: string, priority = 15): SchedulingPolicy =>
  Policy.make(tag, { priority, evaluate: ({ metadata }) => (metadata.deploy === true ? Policy.skip("frozen") : null) })
const test = (
  name: string,
  body: Effect.Effect<void, unknown, GatewayService | PolicyEngine | AuditLog>,
  config = {}
) => it.scoped(name, () => body.pipe(Effect.provide(gateway(config)), Effect.provide(memory)))

describe("shadow policies", () => {
  test(
    "are asked in their place, recorded with the decision, and never acted upon",
    Effect.gen(function* () {
      const engine = yield* PolicyEngine
      yield* TestClock.adjust(5_000)
      yield* engine.addShadow(freeze("Freeze"))
      const deploy = yield* submit({ deploy: true })
      expect(deploy).toMatchObject({ decision: "execute", state: "executed" })
      expect(deploy?.evidence?.passed).not.toContain("Freeze")
      expect(deploy?.evidence?.shadows).toEqual([
        { policy: "Freeze", answer: "answered", decision: "skip", by: "Freeze", reason: "frozen", agrees: false }
      ])
      const other = yield* submit()
      expect(other?.evidence?.shadows).toEqual([
        { policy: "Freeze", answer: "passed", decision: "execute", by: "default", reason: undefined, agrees: true }
      ])
      expect(engine.shadowReport()).toEqual([
        {
          policy: "Freeze",
          priority: 15,
          since: new Date(5_000),
          agreed: 1,
          differed: 1,
          late: 0,
          changes: [{ from: "execute", to: "skip", count: 1 }]
        }
      ])
      yield* engine.removeShadow("Freeze")
      expect((yield* submit({ deploy: true }))?.evidence?.shadows).toEqual([])
      expect(engine.shadowReport()).toEqual([])
    })
  )

  test(
    "a shadow behind the policy that decides is not asked, and agrees",
    Effect.gen(function* () {
      const engine = yield* PolicyEngine
      yield* engine.addPolicy(freeze("Live", 12))
      yield* engine.addShadow(Policy.make("Late", { priority: 13, evaluate: () => Policy.escalate("would ask") }))
      expect((yield* submit({ deploy: true }))?.evidence?.shadows).toMatchObject([
        { answer: "not-asked", decision: "skip", by: "Live", agrees: true }
      ])
    })
  )

  test(
    "a shadow that has a live policy's name stands in its place: where it passes, the policies behind decide",
    Effect.gen(function* () {
      const engine = yield* PolicyEngine
      yield* engine.addPolicy(freeze("Freeze"))
      yield* engine.addPolicy(Policy.make("Behind", { priority: 16, evaluate: () => Policy.escalate("ask") }))
      yield* engine.addShadow(Policy.make("Freeze", { priority: 15, evaluate: () => Policy.pass }))
      expect(yield* submit({ deploy: true })).toMatchObject({
        decision: "skip",
        policy: "Freeze",
        evidence: {
          notAsked: ["Behind", "CircuitBreaker", "CostBudget", "SenderRate", "RateLimit", "EventMerging"],
          shadows: [{ policy: "Freeze", answer: "passed", decision: "escalate", by: "Behind", agrees: false }]
        }
      })
    })
  )

  test(
    "an approved event is not said to be asked about again",
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const engine = yield* PolicyEngine
      yield* engine.addShadow(Policy.make("Careful", { priority: 90, evaluate: () => Policy.escalate("careful") }))
      const asked = yield* submit({ category: "deploy" })
      yield* gw.approve(asked?.approval?.id ?? "", "ada")
      const done = yield* gw.outcome(asked?.event.id ?? "")
      expect(done.evidence?.shadows).toMatchObject([{ answer: "answered", decision: "execute", agrees: true }])
    }),
    { policies: { requireApprovalFor: ["deploy"] } }
  )

  test(
    "one that fails would have asked a person; one that takes its time is late; neither touches the decision",
    Effect.gen(function* () {
      const engine = yield* PolicyEngine
      let interrupted = 0
      yield* engine.addShadow({
        _tag: "Broken",
        priority: 15,
        evaluate: () => {
          throw new Error("no")
        }
      })
      yield* engine.addShadow({
        _tag: "Slow",
        priority: 15,
        evaluate: () =>
          Effect.never.pipe(
            Effect.onInterrupt(() =>
              Effect.sync(() => {
                interrupted += 1
              })
            )
          )
      })
      const found = yield* submit()
      expect(found).toMatchObject({ decision: "execute", policy: "default" })
      expect(found?.evidence?.shadows).toMatchObject([
        { policy: "Broken", answer: "failed", decision: "escalate", reason: "policy Broken failed: no", agrees: false },
        { policy: "Slow", answer: "late", by: "Slow" }
      ])
      expect(engine.shadowReport()).toMatchObject([
        { policy: "Broken", differed: 1 },
        { policy: "Slow", late: 1, agreed: 0, differed: 0 }
      ])
      yield* Effect.yieldNow()
      expect(interrupted).toBe(1)
    })
  )

  test(
    "promoted, one decides, in place of the live policy of its name; the audit says so",
    Effect.gen(function* () {
      const engine = yield* PolicyEngine
      const audit = yield* AuditLog
      yield* engine.addPolicy(Policy.make("Freeze", { priority: 5, evaluate: () => Policy.pass }))
      yield* engine.addShadow(freeze("Freeze"))
      yield* engine.promote("Freeze")
      expect(engine.policies.filter(({ _tag }) => _tag === "Freeze")).toMatchObject([{ priority: 15 }])
      expect(yield* submit({ deploy: true })).toMatchObject({
        decision: "skip",
        policy: "Freeze",
        evidence: { shadows: [] }
      })
      const changes = yield* audit.query({ kind: "policy.changed" })
      expect(changes.map(({ data }) => data.shadows)).toEqual([
        undefined,
        [{ policy: "Freeze", priority: 15 }],
        undefined
      ])
    })
  )

  test(
    "are refused when there is one of the name, or too many, and what is not there cannot be removed or promoted",
    Effect.gen(function* () {
      const engine = yield* PolicyEngine
      const message = (effect: Effect.Effect<void, { readonly message: string }>) =>
        Effect.map(Effect.flip(effect), (error) => error.message)
      yield* engine.addShadow(freeze("A"))
      expect(yield* message(engine.addShadow(freeze("A")))).toContain("is there already")
      expect(yield* message(engine.addShadow(freeze("B", Number.NaN)))).toContain("must be a number")
      expect(yield* message(engine.removeShadow("C"))).toBe('there is no shadow "C"; shadows: A')
      expect(yield* message(engine.promote("C"))).toBe('there is no shadow "C"; shadows: A')
      for (let i = 1; i < 16; i++) yield* engine.addShadow(freeze(`S${i}`))
      expect(yield* message(engine.addShadow(freeze("T")))).toContain("there are 16 already")
    })
  )
})
