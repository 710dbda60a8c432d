import { describe, expect, it } from "@effect/vitest"
import { GatewayService, PolicyEngine, Store } from "@postilion/gateway"
import { Effect, TestClock } from "effect"
import { gateway, gatewayOn, stores, tempFile, watch } from "./TestGateway.ts"

const HOUR = 3_600_000

/** The decisions kept of an event, in order, and its row. */
const kept = (eventId: string) =>
  Effect.gen(function* () {
    const store = yield* Store
    const decisions = yield* store.find("decisions", { where: { event_id: eventId }, orderBy: ["seq", "asc"] })
    const [row] = yield* store.find("events", { where: { id: eventId } })
    return { row, decisions, actions: decisions.map(({ action, policy }) => `${action} by ${policy}`) }
  })
const [[, memory]] = stores as readonly [(typeof stores)[number]]
const submit = (metadata: Record<string, unknown> = {}) =>
  Effect.gen(function* () {
    const gw = yield* GatewayService
    return (yield* gw.submit({ source: "webhook", payload: {}, metadata })).eventId
  })

for (const [name, storeLayer] of stores) {
  describe(`the decisions kept on ${name}`, () => {
    it.scoped("an event that was decided at once has its decision in its row alone", () =>
      Effect.gen(function* () {
        const { decisions, row } = yield* kept(yield* submit())
        expect(decisions).toEqual([])
        expect(row).toMatchObject({ held: 0, action: "execute", policy: "default" })
      }).pipe(Effect.provide(gateway()), Effect.provide(storeLayer))
    )

    it.scoped(
      "an event that was held keeps every decision, with what it was made on and in the order of all that happened",
      () =>
        Effect.gen(function* () {
          const gw = yield* GatewayService
          const told = yield* watch
          for (const _ of [1, 2]) yield* gw.outcome(yield* submit())
          const queued = yield* submit({ category: "deploy" })
          expect((yield* kept(queued)).actions).toEqual(["queue by RateLimit"])
          yield* TestClock.adjust(HOUR)
          const [asked] = yield* told.until("ApprovalRequested", 1)
          yield* gw.approve(asked?.approvalId ?? "", "ada")
          yield* gw.outcome(queued)
          const { actions, decisions, row } = yield* kept(queued)
          expect(actions).toEqual(["queue by RateLimit", "escalate by RequireApproval", "execute by default"])
          expect(row).toMatchObject({ held: 1, accepted_seq: decisions[0]?.seq, action: "execute" })
          expect(decisions[0]).toMatchObject({ at: 0, due_at: HOUR })
          expect(decisions[1]).toMatchObject({ at: HOUR, due_at: null, reason: '"deploy" needs a person\'s approval' })
          expect(new Set(decisions.map(({ evidence }) => evidence)).size).toBe(3)
          const store = yield* Store
          for (const { action, seq } of decisions) {
            const [record] = yield* store.find("audit", { where: { seq } })
            expect(record).toMatchObject({ kind: "event.decided", event_id: queued })
            expect(record?.body).toContain(`"action":"${action}"`)
          }
        }).pipe(
          Effect.provide(gateway({ policies: { maxActionsPerHour: 2, requireApprovalFor: ["deploy"] } })),
          Effect.provide(storeLayer)
        )
    )

    it.scoped("a merge keeps the leader's decisions; its members were decided at once", () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const [leader, member] = [yield* submit({ mergeKey: "k" }), yield* submit({ mergeKey: "k" })]
        yield* TestClock.adjust(300_000)
        yield* gw.outcome(leader)
        const { actions, decisions } = yield* kept(leader)
        expect(actions).toEqual(["merge by EventMerging", "execute by default"])
        expect(decisions[0]).toMatchObject({ merge_key: "k", due_at: 300_000 })
        expect(yield* kept(member)).toMatchObject({ decisions: [], row: { held: 0, merged_into: leader } })
      }).pipe(Effect.provide(gateway()), Effect.provide(storeLayer))
    )

    it.scoped("an event that had to wait for a policy has its place where it was accepted", () =>
      Effect.gen(function* () {
        const engine = yield* PolicyEngine
        const gw = yield* GatewayService
        yield* engine.addPolicy({
          _tag: "Slow",
          priority: 1,
          evaluate: ({ metadata }) =>
            metadata.slow === true ? Effect.delay(Effect.succeed(null), 1_000) : Effect.succeed(null)
        })
        const slow = yield* submit({ slow: true })
        const quick = yield* submit()
        yield* TestClock.adjust(1_000)
        yield* gw.outcome(slow)
        const [a, b] = [yield* kept(slow), yield* kept(quick)]
        expect(a.actions).toEqual(["execute by default"])
        expect(a.row?.accepted_seq).toBeLessThan(b.row?.accepted_seq ?? 0)
        expect(a.decisions[0]?.seq).toBeGreaterThan(b.row?.accepted_seq ?? 0)
      }).pipe(Effect.provide(gateway()), Effect.provide(storeLayer))
    )
  })
}

describe("the decisions kept", () => {
  it.scoped("an abandoned run's first decision is kept when a person has its event tried again", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = { limits: { onCrash: "escalate" } } as const
      const eventId = yield* Effect.gen(function* () {
        const told = yield* watch
        const id = yield* submit()
        yield* told.until("ProactiveActionInitiated", 1)
        return id
      }).pipe(Effect.provide(gatewayOn(file, config, () => Effect.never)), Effect.scoped)
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const [asked] = yield* gw.approvals
        expect((yield* kept(eventId)).row).toMatchObject({ held: 0, action: "execute" })
        yield* gw.approve(asked?.id ?? "", "ada")
        yield* gw.outcome(eventId)
        const { actions, decisions, row } = yield* kept(eventId)
        expect(actions).toEqual(["execute by default", "execute by default"])
        expect(decisions[0]?.seq).toBe(row?.accepted_seq)
      }).pipe(Effect.provide(gatewayOn(file, config)))
    })
  )

  it.scoped("go with their event", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const store = yield* Store
      const old = yield* submit({ mergeKey: "k" })
      yield* TestClock.adjust(300_000)
      yield* gw.outcome(old)
      yield* TestClock.adjust("3 days")
      for (const _ of [1, 2]) yield* gw.outcome(yield* submit())
      expect((yield* kept(old)).decisions).toHaveLength(2)
      yield* TestClock.adjust("1 hour")
      expect(yield* store.find("decisions", {})).toEqual([])
      expect((yield* kept(old)).row).toBeUndefined()
    }).pipe(Effect.provide(gateway({ retention: { events: { maxCount: 1 } } })), Effect.provide(memory))
  )
})
