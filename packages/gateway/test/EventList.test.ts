import { describe, expect, it } from "@effect/vitest"
import { type EventFilter, GatewayService, type RawInput } from "@postilion/gateway"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Effect, Fiber, TestClock } from "effect"
import { gateway, stores, turn, wrapStore } from "./TestGateway.ts"

const config = { agents: { ops: {}, desk: {} }, policies: { requireApprovalFor: ["deploy"] } }

const submit = (input: Partial<RawInput> = {}) =>
  Effect.flatMap(GatewayService, ({ submit }) => submit({ source: "state-change", payload: null, ...input }))

/** The ids a filter finds, over all its pages. */
const found = (filter: EventFilter) =>
  Effect.gen(function* () {
    const { list } = yield* GatewayService
    const ids: Array<string> = []
    let page = yield* list(filter)
    while (true) {
      ids.push(...page.events.map(({ id }) => id))
      if (page.next === undefined) return ids
      page = yield* list({ ...filter, before: page.next })
    }
  })

for (const [name, storeLayer] of stores) {
  describe(`the list of events on ${name}`, () => {
    it.scoped("is newest first, in pages, by state, source, agent and time", () =>
      Effect.gen(function* () {
        const at = (second: number) => new Date(second * 1_000)
        const ids: Array<string> = []
        for (const input of [
          { agentId: "ops" },
          { agentId: "desk", sender: "ada", metadata: { type: "note" } },
          { source: "webhook", metadata: { type: "deploy" } },
          { source: "webhook" },
          {}
        ] satisfies ReadonlyArray<Partial<RawInput>>) {
          yield* TestClock.adjust("1 second")
          ids.push((yield* submit(input)).eventId)
        }
        const [first, second, third, fourth, fifth] = ids
        expect(yield* found({})).toEqual([fifth, fourth, third, second, first])
        for (const limit of [1, 2, 3]) expect(yield* found({ limit })).toEqual([fifth, fourth, third, second, first])
        expect(yield* found({ source: "webhook" })).toEqual([fourth, third])
        expect(yield* found({ source: "webhook", limit: 1 })).toEqual([fourth, third])
        expect(yield* found({ state: "awaiting-approval" })).toEqual([third])
        expect(yield* found({ agentId: "desk" })).toEqual([second])
        expect(yield* found({ from: at(2), to: at(4) })).toEqual([third, second])
        expect(yield* found({ from: at(5) })).toEqual([fifth])
        expect(yield* found({ from: at(6) })).toEqual([])
        expect(yield* found({ to: at(1) })).toEqual([])
        const { events } = yield* (yield* GatewayService).list({ agentId: "desk" })
        expect(events).toMatchObject([{ type: "note", sender: "ada", receivedAt: at(2), decision: "execute" }])
        expect(events[0]).not.toHaveProperty("payload")
      }).pipe(Effect.provide(gateway(config)), Effect.provide(storeLayer))
    )
  })
}

describe("a list of events that finds little", () => {
  it.scoped("reads what it looks through in parts, lets others in between, and stops with a cursor", () => {
    let reads = 0
    const counted = wrapStore((store) => ({
      ...store,
      find: (table, query) => {
        if (table === "events") reads += 1
        return store.find(table, query)
      }
    }))
    return Effect.gen(function* () {
      const { list } = yield* GatewayService
      const many = yield* Effect.forEach(Array.from({ length: 12_000 }), () => submit(), { concurrency: "unbounded" })
      const oldest = yield* submit({ agentId: "desk" })
      expect(many).toHaveLength(12_000)
      yield* Effect.forEach(Array.from({ length: 100 }), () => submit(), { concurrency: "unbounded" })
      let turns = 0
      const others = yield* Effect.fork(Effect.forever(Effect.map(turn, () => (turns += 1))))
      reads = 0
      expect(yield* list({ state: "denied" })).toEqual({ events: [], next: undefined })
      // The first and the last event, and a part for each 5,000 events.
      expect(reads).toBe(2 + 3)
      expect(turns).toBeGreaterThan(0)
      yield* Fiber.interrupt(others)
      expect((yield* list({ agentId: "desk" })).events.map(({ id }) => id)).toEqual([oldest.eventId])
    }).pipe(
      Effect.provide(gateway({ ...config, policies: { whenStopped: "keep" }, limits: { maxInbox: 20_000 } })),
      Effect.provide(counted),
      Effect.provide(StoreMemory.layer)
    )
  })
})
