import { describe, expect, it } from "@effect/vitest"
import { GatewayService } from "@postilion/gateway"
import type { EventPriority } from "@postilion/gateway/domain/GatewayEvent"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Lanes } from "@postilion/gateway/runs/Lanes"
import { Deferred, Effect, FiberId, FastCheck as fc } from "effect"
import { answerOf, gateway, watch } from "./TestGateway.ts"

interface Item {
  readonly lane: string
  readonly agentId: string
  readonly priority: EventPriority
  readonly n: number
}
const PRIORITIES = ["low", "normal", "high", "critical"] as const

describe("lanes", () => {
  it("one per lane in order, so many per agent and in all, and never idle while something may start", () => {
    const LIMIT = 4
    const limitOf = (agentId: string) => ({ a: 4, b: 2, c: 1 })[agentId] ?? 0
    const step = fc.oneof(
      fc.record({
        act: fc.constant("add" as const),
        agentId: fc.constantFrom("a", "b", "c"),
        lane: fc.constantFrom("1", "2", "3", "4", "5", "6", "7", "8"),
        priority: fc.constantFrom(...PRIORITIES)
      }),
      fc.record({ act: fc.constant("end" as const), which: fc.nat(10) }),
      fc.record({ act: fc.constant("switch" as const), agentId: fc.constantFrom("a", "b", "c") })
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const off = new Set<string>()
        const lanes = new Lanes<Item>({ limit: LIMIT, limitOf, mayStart: (agentId) => !off.has(agentId) })
        const waiting: Array<Item> = []
        const running: Array<Item> = []
        let started = 0
        /** How urgent the lane of this item is: as the most urgent that waits in it. */
        const rank = (item: Item) =>
          Math.max(
            ...waiting.filter(({ lane }) => lane === item.lane).map(({ priority }) => PRIORITIES.indexOf(priority))
          )
        const mayStart = () =>
          waiting.filter(
            (item) =>
              waiting.find(({ lane }) => lane === item.lane) === item &&
              !running.some(({ lane }) => lane === item.lane) &&
              !off.has(item.agentId) &&
              running.filter(({ agentId }) => agentId === item.agentId).length < limitOf(item.agentId)
          )
        const pump = () => {
          for (let item = lanes.next(); item !== undefined; item = lanes.next()) {
            const { agentId, lane } = item
            // The first of its lane.
            expect(waiting.find((other) => other.lane === lane)).toBe(item)
            expect(running.some((other) => other.lane === lane)).toBe(false)
            started += 1
            const ranks = mayStart().map(rank)
            expect(rank(item)).toBe(started % 8 === 0 ? Math.min(...ranks) : Math.max(...ranks))
            waiting.splice(waiting.indexOf(item), 1)
            running.push(item)
            expect(off.has(agentId)).toBe(false)
            expect(running.filter((other) => other.agentId === agentId).length).toBeLessThanOrEqual(limitOf(agentId))
          }
          expect(lanes).toMatchObject({ running: running.length, waiting: waiting.length })
          if (running.length === LIMIT) return
          expect(mayStart()).toEqual([])
        }
        for (const [n, entry] of steps.entries()) {
          if (entry.act === "add") {
            const { agentId, lane, priority } = entry
            const item = { lane, agentId, priority, n }
            waiting.push(item)
            lanes.add(item)
          } else if (entry.act === "end") {
            const [item] = running.splice(entry.which % Math.max(running.length, 1), 1)
            if (item !== undefined) lanes.release(item)
          } else {
            if (!off.delete(entry.agentId)) off.add(entry.agentId)
            lanes.reconsider()
          }
          pump()
          for (const { lane } of [...waiting, ...running]) expect(lanes.has(lane)).toBe(true)
        }
      })
    )
  })

  it("agents take turns: one with a thousand lanes does not keep another's waiting", () => {
    const lanes = new Lanes<Item>({ limit: 2, limitOf: () => 2, mayStart: () => true })
    for (let n = 0; n < 1_000; n++) lanes.add({ lane: `a${n}`, agentId: "a", priority: "normal", n })
    const first = [lanes.next(), lanes.next()]
    expect(first.map((item) => item?.agentId)).toEqual(["a", "a"])
    lanes.add({ lane: "b", agentId: "b", priority: "normal", n: 0 })
    if (first[0] !== undefined) lanes.release(first[0])
    const agents = [lanes.next()?.agentId]
    if (first[1] !== undefined) lanes.release(first[1])
    agents.push(lanes.next()?.agentId)
    // One `a` stood in the row before `b` came.
    expect(agents).toEqual(["a", "b"])
  })
})

describe("limits of a whole gateway", () => {
  it.scoped("what is urgent has its run before what came first; of one session, all in order", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const told = yield* watch
      const ask = (text: string, priority: EventPriority, sessionKey?: string) =>
        gw.submit({ source: "webhook", agentId: "slow", priority, sessionKey, payload: { text } })
      const first = yield* ask("first", "normal")
      yield* told.until("ProactiveActionInitiated", 1)
      const later = [
        yield* ask("low", "low"),
        yield* ask("normal", "normal"),
        yield* ask("before it", "low", "s"),
        yield* ask("high", "high"),
        yield* ask("critical", "critical", "s")
      ]
      yield* Deferred.succeed(urgent, undefined)
      for (const { eventId } of [first, ...later]) yield* gw.outcome(eventId)
      const order = told.all("ProactiveActionInitiated").map(({ taskDescription }) => taskDescription)
      expect(order).toEqual(["first", "before it", "critical", "high", "normal", "low"])
    }).pipe(
      Effect.provide(
        gateway({ agents: { slow: { maxConcurrentRuns: 1 } } }, () =>
          Effect.as(Deferred.await(urgent), answerOf("done"))
        )
      ),
      Effect.provide(StoreMemory.layer)
    )
  )

  it.scoped("an agent at its limit, and with a full lane of waiting runs, leaves the others their turn", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const told = yield* watch
      const busy = yield* Effect.forEach([1, 2, 3, 4], (n) =>
        gw.submit({ source: "webhook", agentId: "slow", payload: { n } })
      )
      const quick = yield* gw.submit({ source: "webhook", agentId: "quick", payload: {} })
      expect(yield* gw.outcome(quick.eventId)).toMatchObject({ run: { state: "completed" } })
      expect((yield* gw.status()).pending).toMatchObject({ waiting: 2 })
      expect(told.all("ProactiveActionInitiated").map(({ agentId }) => agentId)).toEqual(["slow", "slow", "quick"])
      yield* Deferred.succeed(gate, undefined)
      for (const { eventId } of busy) expect(yield* gw.outcome(eventId)).toMatchObject({ run: { state: "completed" } })
    }).pipe(
      Effect.provide(
        gateway({ agents: { slow: { maxConcurrentRuns: 2 }, quick: {} }, limits: { maxConcurrentRuns: 3 } }, (task) =>
          Effect.as(task.agent.id === "slow" ? Deferred.await(gate) : Effect.void, answerOf("done"))
        )
      ),
      Effect.provide(StoreMemory.layer)
    )
  )
})

const urgent = Deferred.unsafeMake<void>(FiberId.none)
const gate = Deferred.unsafeMake<void>(FiberId.none)
