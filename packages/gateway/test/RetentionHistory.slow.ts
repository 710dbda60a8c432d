import { describe, expect, it } from "@effect/vitest"
import { AuditLog, type GatewayConfigInput, GatewayService, SessionStore, Store } from "@postilion/gateway"
import { Effect, FastCheck as fc, TestClock, TestContext } from "effect"
import { gatewayOn, tempFile } from "./TestGateway.ts"

const operation = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ source: "webhook" } as const) },
  { weight: 2, arbitrary: fc.constantFrom("a", "b").map((mergeKey) => ({ source: "webhook", mergeKey }) as const) },
  { weight: 1, arbitrary: fc.constant({ source: "webhook", category: "deploy" } as const) },
  { weight: 1, arbitrary: fc.constant({ source: "heartbeat" } as const) },
  { weight: 1, arbitrary: fc.constant({ source: "channel" } as const) },
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 100 }).map((hours) => ({ hours })) },
  { weight: 1, arbitrary: fc.constant({ answer: true } as const) },
  { weight: 1, arbitrary: fc.constant({ restart: true } as const) }
)
type Operation = ReturnType<typeof operation.generate>["value"]

/** What a history comes to, with this retention: everything that decides what happens next. */
const endOf = (operations: ReadonlyArray<Operation>, retention: GatewayConfigInput["retention"]) =>
  Effect.gen(function* () {
    const file = yield* tempFile
    const config: GatewayConfigInput = {
      policies: { requireApprovalFor: ["deploy"], mergeWindowMs: 50 * 3_600_000, maxActionsPerHour: 3 },
      accessControl: { accessPolicy: "open", sessionTtlDays: 300 },
      limits: { approvalTtlMs: 200 * 3_600_000 },
      ...(retention === undefined ? {} : { retention })
    }
    const lives: Array<Array<Operation>> = [[]]
    for (const entry of operations) "restart" in entry ? lives.push([]) : lives.at(-1)?.push(entry)
    const live = (life: ReadonlyArray<Operation>) =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        for (const entry of life) {
          if ("hours" in entry) yield* TestClock.adjust(entry.hours * 3_600_000)
          else if ("answer" in entry) for (const { id } of yield* gw.approvals) yield* gw.approve(id, "ada")
          else if ("source" in entry) {
            const { source, ...metadata } = entry
            yield* gw.submit({ source, payload: {}, metadata, ...(source === "channel" ? { sender: "ada" } : {}) })
          }
          yield* TestClock.adjust(1)
        }
      }).pipe(Effect.provide(gatewayOn(file, config)))
    for (const life of lives) yield* live(life)
    return yield* Effect.gen(function* () {
      const gw = yield* GatewayService
      const { budget, pending, rate } = yield* gw.status()
      const store = yield* Store
      const open = yield* store.find("events", {
        where: { state: { in: ["accepted", "deferred", "merging", "awaiting-approval"] } },
        orderBy: ["seq", "asc"]
      })
      const members = yield* store.find("events", { where: { merged_into: { in: open.map(({ id }) => id) } } })
      const tick = yield* gw.submit({ source: "heartbeat", payload: {} })
      const { evidence } = (yield* gw.find(tick.eventId)) ?? {}
      return {
        budget,
        pending,
        rate,
        open: open.map(({ due_at, seq, state }) => ({ due_at, seq, state })),
        members: members.length,
        approvals: (yield* gw.approvals).length,
        heartbeat: evidence?.state.heartbeat,
        sessions: (yield* (yield* SessionStore).list()).length,
        valid: (yield* (yield* AuditLog).verify).valid
      }
    }).pipe(Effect.provide(gatewayOn(file, config)))
  }).pipe(Effect.scoped, Effect.provide(TestContext.TestContext))

describe("a history that is pruned as hard as can be", () => {
  it("comes to the same as one of which everything is kept", { timeout: 120_000 }, () =>
    fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 25 }), async (operations) => {
        const all = { maxAgeDays: "forever", maxCount: "forever" } as const
        const kept = await Effect.runPromise(endOf(operations, { events: all, audit: all, turns: all }))
        const none = { maxAgeDays: 0.01, maxCount: 1 }
        const pruned = await Effect.runPromise(endOf(operations, { events: none, audit: none, turns: none }))
        expect(pruned).toEqual(kept)
        expect(pruned.valid).toBe(true)
      }),
      { numRuns: 20 }
    )
  )
})
