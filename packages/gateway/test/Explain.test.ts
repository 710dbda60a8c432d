import { describe, expect, it } from "@effect/vitest"
import { Explanation, GatewayService, Policy, PolicyEngine, type RawInput, Reconfiguration } from "@postilion/gateway"
import { Effect, Schema, TestClock } from "effect"
import { gateway, stores, watch } from "./TestGateway.ts"

const HOUR = 3_600_000
const submit = (input: Partial<RawInput> = {}) =>
  Effect.gen(function* () {
    const gw = yield* GatewayService
    return (yield* gw.submit({ source: "webhook", payload: {}, ...input })).eventId
  })
const explain = (eventId: string) =>
  Effect.gen(function* () {
    const gw = yield* GatewayService
    const found = yield* gw.explain(eventId)
    if (found === undefined) return yield* Effect.dieMessage(`no explanation of ${eventId}`)
    // What it says survives the way over a wire.
    const wire: unknown = JSON.parse(JSON.stringify(yield* Schema.encode(Explanation)(found)))
    expect(yield* Schema.decodeUnknown(Explanation)(wire)).toEqual(found)
    return found
  })
const config = {
  prices: { scripted: { inputPerMillion: 10, outputPerMillion: 20 } },
  policies: { maxActionsPerHour: 2, requireApprovalFor: ["deploy"], approvers: 2 }
}

for (const [name, storeLayer] of stores) {
  describe(`explain on ${name}`, () => {
    it.scoped("says of each decision who answered what on which state, who approved, what ran and what it cost", () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const engine = yield* PolicyEngine
        const told = yield* watch
        yield* engine.addShadow(Policy.make("Strict", { priority: 12, evaluate: () => Policy.skip("too strict") }))
        for (const _ of [1, 2]) yield* gw.outcome(yield* submit())
        const eventId = yield* submit({ sender: "ada", metadata: { category: "deploy", type: "deployment" } })
        yield* TestClock.adjust(HOUR)
        const [asked] = yield* told.until("ApprovalRequested", 1)
        yield* gw.approve(asked?.approvalId ?? "", "bob")
        yield* gw.approve(asked?.approvalId ?? "", "eve")
        yield* gw.outcome(eventId)
        const found = yield* explain(eventId)
        expect(found).toMatchObject({ state: "executed", sender: "ada", type: "deployment", denied: undefined })
        expect(
          found.decisions.map(({ action, answers, at, policy }) => [action, policy, at.getTime(), answers.length])
        ).toEqual([
          ["queue", "RateLimit", 0, 9],
          ["escalate", "RequireApproval", HOUR, 9],
          ["execute", "default", HOUR, 9]
        ])
        expect(found.decisions[0]?.answers).toEqual([
          ...["AccessControl", "LoopGuard", "AdaptiveHeartbeat", "CircuitBreaker", "CostBudget", "SenderRate"].map(
            (policy) => ({ policy, answer: "passed" })
          ),
          { policy: "RateLimit", answer: "answered" },
          ...["RequireApproval", "EventMerging"].map((policy) => ({ policy, answer: "not-asked" }))
        ])
        expect(found.decisions[0]).toMatchObject({
          reason: "rate limit: 2 of 2 actions this hour",
          until: new Date(HOUR),
          saw: { rate: { limit: 2, count: 2 }, budgets: [{ scope: "*", unit: "tokens", used: 200, estimate: 100 }] },
          shadows: [{ policy: "Strict", decision: "skip", by: "Strict", agrees: false }]
        })
        expect(found.decisions[2]?.saw.approval).toMatchObject({ by: "bob, eve" })
        expect(found.approvals).toMatchObject([
          {
            id: asked?.approvalId,
            state: "approved",
            votes: [{ by: "bob" }, { by: "eve" }],
            consumedBy: found.runs[0]?.id
          }
        ])
        expect(found.runs).toMatchObject([
          { state: "completed", attempts: 1, model: "scripted", inputTokens: 60, outputTokens: 40, costUsd: 0.0014 }
        ])
        const text = found.render()
        for (const part of [
          `${eventId}: webhook deployment from ada for agent, normal`,
          "1. 1970-01-01T00:00:00.000Z  queue by RateLimit until 1970-01-01T01:00:00.000Z: rate limit: 2 of 2 actions this hour",
          "AccessControl passed · LoopGuard passed",
          "RateLimit answered · RequireApproval not-asked",
          "saw tokens this day: 200 used and 0 reserved of 100,000, 100 needed at most",
          "shadow Strict (answered): would have been skip by Strict: too strict",
          "approved by bob at 1970-01-01T01:00:00.000Z",
          "completed on scripted after 1 attempt, 60 + 40 tokens, $0.0014"
        ]) {
          expect(text).toContain(part)
        }
      }).pipe(Effect.provide(gateway(config)), Effect.provide(storeLayer))
    )

    it.scoped("says by which rule it was for its agent, as the rules were then", () =>
      Effect.gen(function* () {
        const reconfiguration = yield* Reconfiguration
        const message = (sender: string) =>
          submit({ source: "channel", sender, metadata: { channel: "mail", chatId: "c\n1" } })
        const [bound, first, named] = [yield* message("ada"), yield* submit(), yield* submit({ agentId: "vip" })]
        const { agents, routing: _, ...keys } = reconfiguration.current()
        const routing = { bindings: [], default: "vip" }
        yield* reconfiguration.change({ ...keys, agents, routing }, { changes: [], atRestart: [], by: "test" })
        const then = yield* explain(bound)
        expect(then).toMatchObject({
          agentId: "vip",
          route: { by: "routing.bindings[0]", conditions: { peer: "ada", chat: "c\n1" } }
        })
        expect(then.render()).toContain("\nrouted by routing.bindings[0]: chat c 1, peer ada\n")
        const says = (eventId: string) => Effect.map(explain(eventId), (found) => [found.route, found.render()])
        expect(yield* says(first)).toEqual([
          { by: "agents" },
          expect.stringContaining("the first of the agents has it")
        ])
        expect(yield* says(named)).toEqual([{ by: "agentId" }, expect.stringContaining("it names its agent")])
        const now = yield* explain(yield* message("ada"))
        expect(now).toMatchObject({ agentId: "vip", route: { by: "routing.default" } })
        expect(now.render()).toContain("\nrouted by routing.default\n")
      }).pipe(
        Effect.provide(
          gateway({
            agents: { agent: {}, vip: {} },
            routing: { bindings: [{ agentId: "vip", chat: "c\n1", peer: "ada" }] },
            accessControl: { allowedSenders: ["ada"] }
          })
        ),
        Effect.provide(storeLayer)
      )
    )

    it.scoped("follows the chain of causes up to its beginning and down to its ends", () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const next = (causedBy: string | undefined) =>
          Effect.gen(function* () {
            const id = yield* submit(causedBy === undefined ? {} : { source: "a2a", causedBy })
            return yield* gw.outcome(id)
          })
        const root = yield* next(undefined)
        const middle = yield* next(root.run?.id)
        const leaves = [yield* next(middle.run?.id), yield* next(middle.run?.id)]
        const found = yield* explain(middle.event.id)
        expect(found.causes).toMatchObject([{ eventId: root.event.id, distance: 1 }])
        expect(found.consequences.map(({ eventId }) => eventId)).toEqual(leaves.map(({ event }) => event.id))
        const top = yield* explain(root.event.id)
        expect(top.causes).toEqual([])
        expect(top.consequences.map(({ distance }) => distance)).toEqual([1, 2, 2])
        expect(top.render()).toContain(`\n    ${leaves[0]?.event.id} a2a, executed, by ${middle.run?.id}`)
        const leaf = yield* explain(leaves[1]?.event.id ?? "")
        expect(leaf.causes.map(({ eventId }) => eventId)).toEqual([middle.event.id, root.event.id])
      }).pipe(Effect.provide(gateway()), Effect.provide(storeLayer))
    )

    it.scoped("says what was merged into what, what was denied, and what nobody has decided yet", () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const engine = yield* PolicyEngine
        const [leader, member] = [
          yield* submit({ metadata: { mergeKey: "k" } }),
          yield* submit({ metadata: { mergeKey: "k" } })
        ]
        expect((yield* explain(leader)).leads).toEqual([member])
        expect(yield* explain(member)).toMatchObject({ state: "merged", mergedInto: leader })
        const denied = yield* submit({ metadata: { category: "deploy" } })
        const [approval] = yield* gw.approvals
        yield* gw.deny(approval?.id ?? "", "eve")
        const refused = yield* explain(denied)
        expect(refused).toMatchObject({ state: "denied", denied: "denied by eve", decisions: [{ action: "escalate" }] })
        expect(refused.decisions[0]?.reason).toContain("needs a person's approval")
        yield* engine.addPolicy({ _tag: "Never", priority: 1, evaluate: () => Effect.never })
        const waiting = yield* explain(yield* submit())
        expect(waiting).toMatchObject({ state: "accepted", decisions: [] })
        expect(waiting.render()).toContain("no policy has decided yet")
        expect(yield* gw.explain("evt_none")).toBeUndefined()
      }).pipe(Effect.provide(gateway(config)), Effect.provide(storeLayer))
    )

    it.scoped("names a policy that failed, and lets nothing that was sent touch a terminal", () =>
      Effect.gen(function* () {
        const engine = yield* PolicyEngine
        yield* engine.addPolicy({ _tag: "Broken", priority: 9, evaluate: () => Effect.fail("\u001b[2Jgone\nfor good") })
        const found = yield* explain(yield* submit({ sender: "e\u202Eve\u0007" }))
        expect(found.decisions[0]?.answers.find(({ policy }) => policy === "Broken")?.answer).toBe("failed")
        const text = found.render()
        expect(text).toContain("escalate by Broken: policy Broken failed: [2Jgone for good")
        expect(text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u)
      }).pipe(Effect.provide(gateway()), Effect.provide(storeLayer))
    )

    it.scoped("lists a hundred consequences, and says that there are more", () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const root = yield* gw.outcome(yield* submit())
        const causedBy = root.run?.id ?? ""
        yield* Effect.replicateEffect(submit({ causedBy }), 101, { concurrency: "unbounded" })
        const found = yield* explain(root.event.id)
        expect(found).toMatchObject({ hasMoreConsequences: true })
        expect(found.consequences).toHaveLength(100)
        expect(found.render()).toContain("… and more")
      }).pipe(Effect.provide(gateway()), Effect.provide(storeLayer))
    )
  })
}
