import { describe, expect, it } from "@effect/vitest"
import { GatewayService } from "@postilion/gateway"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Lanes } from "@postilion/gateway/runs/Lanes"
import { Deferred, Effect, FiberId, FastCheck as fc } from "effect"
import { answerOf, gateway, watch } from "./TestGateway.ts"

interface Item {
  readonly lane: string
  readonly agentId: string
  readonly n: number
}

describe("lanes", () => {
  it("one per lane in order, so many per agent and in all, and never idle while something may start", () => {
    const LIMIT = 4
    const limitOf = (agentId: string) => ({ a: 4, b: 2, c: 1 })[agentId] ?? 0
    const step = fc.oneof(
      fc.record({
        act: fc.constant("add" as const),
        agentId: fc.constantFrom("a", "b", "c"),
        lane: fc.constantFrom("1", "2", "3", "4", "5", "6", "7", "8")
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
        const pump = () => {
          for (let item = lanes.next(); item !== undefined; item = lanes.next()) {
            const { agentId, lane } = item
            // The first of its lane.
            expect(waiting.find((other) => other.lane === lane)).toBe(item)
            expect(running.some((other) => other.lane === lane)).toBe(false)
            waiting.splice(waiting.indexOf(item), 1)
            running.push(item)
            expect(off.has(agentId)).toBe(false)
            expect(running.filter((other) => other.agentId === agentId).length).toBeLessThanOrEqual(limitOf(agentId))
          }
          expect(lanes).toMatchObject({ running: running.length, waiting: waiting.length })
          if (running.length === LIMIT) return
          const idle = waiting.find(
            (item) =>
              waiting.find(({ lane }) => lane === item.lane) === item &&
              !running.some(({ lane }) => lane === item.lane) &&
              !off.has(item.agentId) &&
              running.filter(({ agentId }) => agentId === item.agentId).length < limitOf(item.agentId)
          )
          expect(idle).toBeUndefined()
        }
        for (const [n, entry] of steps.entries()) {
          if (entry.act === "add") {
            const item = { lane: entry.lane, agentId: entry.agentId, n }
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
    for (let n = 0; n < 1_000; n++) lanes.add({ lane: `a${n}`, agentId: "a", n })
    const first = [lanes.next(), lanes.next()]
    expect(first.map((item) => item?.agentId)).toEqual(["a", "a"])
    lanes.add({ lane: "b", agentId: "b", n: 0 })
    if (first[0] !== undefined) lanes.release(first[0])
    const agents = [lanes.next()?.agentId]
    if (first[1] !== undefined) lanes.release(first[1])
    agents.push(lanes.next()?.agentId)
    // One `a` stood in the row before `b` came.
    expect(agents).toEqual(["a", "b"])
  })
})

describe("limits of a whole gateway", () => {
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

const gate = Deferred.unsafeMake<void>(FiberId.none)
