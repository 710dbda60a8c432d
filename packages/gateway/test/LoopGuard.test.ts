import { describe, expect, it } from "@effect/vitest"
import { GatewayService, Policy, PolicyEngine } from "@postilion/gateway"
import type { BusEvent } from "@postilion/gateway/domain/BusEvent"
import type { GatewayConfigInput } from "@postilion/gateway/domain/Config"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import { RecentCounts } from "@postilion/gateway/harness/RecentCounts"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Effect, Stream, TestClock } from "effect"
import { gateway, gatewayOn, tempFile, watch } from "./TestGateway.ts"

type Ended = Extract<BusEvent, { _tag: "ProactiveActionCompleted" }>

/** Submits what `follow` makes of each run that ends, as programs do that act on what a run came to. */
const following = (follow: (ended: Ended) => ReadonlyArray<RawInput>) =>
  Effect.gen(function* () {
    const gw = yield* GatewayService
    const ended = yield* gw.events("ProactiveActionCompleted")
    yield* ended.pipe(
      Stream.runForEach((event) =>
        event._tag === "Lagged" ? Effect.void : Effect.forEach(follow(event), gw.submit, { discard: true })
      ),
      Effect.forkScoped
    )
  })

const unlimited: GatewayConfigInput["policies"] = { maxActionsPerHour: "unlimited" }
const provided =
  (config: GatewayConfigInput) =>
  <A, E>(body: Effect.Effect<A, E, Effect.Effect.Context<typeof watch> | GatewayService | PolicyEngine>) =>
    body.pipe(Effect.scoped, Effect.provide(gateway(config)), Effect.provide(StoreMemory.layer))

describe("the loop guard", () => {
  it.effect("N4: an echo from A to B to C to A, reworded each time, ends with a person", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const told = yield* watch
      const next: Record<string, string> = { a: "b", b: "c", c: "a" }
      let sends = 0
      yield* following(({ agentId, runId }) => {
        sends += 1
        return [
          {
            source: "a2a",
            agentId: next[agentId],
            payload: { text: `re: ${agentId} said this, in other words (${sends})` },
            priority: "critical",
            causedBy: runId
          }
        ]
      })
      const first = yield* gw.submit({ source: "a2a", agentId: "a", payload: { text: "hello" } })
      const [asked] = yield* told.until("ApprovalRequested", 1)
      // The first, and eight that runs lay behind.
      expect(told.all("ProactiveActionInitiated")).toHaveLength(9)
      expect(asked?.reason).toBe(
        `loop guard: 9 runs lie between this and event ${first.eventId}, which led to it; at most 8 may`
      )
      const record = yield* gw.find(asked?.eventId ?? "")
      expect(record).toMatchObject({
        policy: "LoopGuard",
        event: { chain: { root: first.eventId, depth: 9, count: 9 }, agentId: "a" },
        evidence: { state: { chain: { depth: 9, count: 9 } } }
      })
      // A person may let it go on: one step, and is asked again.
      yield* gw.approve(asked?.approvalId ?? "", "ada")
      yield* told.until("ApprovalRequested", 2)
      expect(told.all("ProactiveActionInitiated")).toHaveLength(10)
    }).pipe(provided({ agents: { a: {}, b: {}, c: {} } }))
  )

  it.effect("N2: tool completion wakes the heartbeat: what a tick's run causes is no news to the next tick", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const told = yield* watch
      yield* following(({ runId, source }) =>
        source === "heartbeat" ? [{ source: "state-change", payload: { text: "tool done" }, causedBy: runId }] : []
      )
      const ticks = () => told.all("PolicyDecisionMade").filter(({ source }) => source === "heartbeat")
      yield* TestClock.adjust("1 minute")
      // The tick and what its run caused.
      yield* told.until("ProactiveActionCompleted", 2)
      yield* TestClock.adjust("3 minutes")
      expect(ticks().map(({ decision }) => decision)).toEqual(["execute", "skip", "skip", "skip"])
      yield* gw.submit({ source: "state-change", payload: { text: "disk full" } })
      yield* TestClock.adjust("1 minute")
      expect(ticks().at(-1)?.decision).toBe("execute")
    }).pipe(provided({ heartbeat: { intervalMs: 60_000 } }))
  )

  it.effect("N2: a completion that hands in a heartbeat of its own comes to an end", () =>
    Effect.gen(function* () {
      const told = yield* watch
      const gw = yield* GatewayService
      const metadata = { heartbeatPolicy: "always" }
      yield* following(({ runId }) => [{ source: "heartbeat", payload: null, metadata, causedBy: runId }])
      yield* gw.submit({ source: "heartbeat", payload: null, metadata })
      const [stopped] = yield* told.until("HeartbeatSkipped", 1)
      expect(stopped?.reason).toMatch(/loop guard: 9 runs/)
      expect(told.all("ProactiveActionInitiated")).toHaveLength(9)
    }).pipe(provided({}))
  )

  it.effect("a run that causes too much at once: past the limit the rest is skipped, until the minute is over", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const { eventId } = yield* gw.submit({ source: "webhook", payload: null })
      const causedBy = (yield* gw.outcome(eventId)).run?.id
      const flood = Effect.forEach(
        [1, 2, 3, 4, 5],
        (n) => Effect.map(gw.submit({ source: "webhook", payload: { n }, causedBy }), ({ decision }) => decision),
        { concurrency: "unbounded" }
      )
      expect(yield* flood).toEqual(["execute", "execute", "execute", "skip", "skip"])
      // Others are not concerned.
      expect((yield* gw.submit({ source: "webhook", payload: null })).decision).toBe("execute")
      yield* TestClock.adjust("1 minute")
      expect(yield* flood).toEqual(["execute", "execute", "execute", "skip", "skip"])
    }).pipe(provided({ policies: { ...unlimited, loopGuard: { maxPerMinute: 3 } } }))
  )

  it.scoped("a chain is the same after a restart, also of what is held", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config = { policies: { loopGuard: { maxPerMinute: 2 } } }
      const ids = yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const root = yield* gw.submit({ source: "webhook", payload: null })
        const causedBy = (yield* gw.outcome(root.eventId)).run?.id
        const hold = Policy.make("Hold", { priority: 60, evaluate: () => Policy.queue({ reason: "hold" }) })
        yield* (yield* PolicyEngine).addPolicy(hold)
        const held = yield* gw.submit({ source: "webhook", payload: null, causedBy })
        return { root: root.eventId, causedBy, held: held.eventId }
      }).pipe(Effect.provide(gatewayOn(file, config)))
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const second = yield* gw.submit({ source: "webhook", payload: null, causedBy: ids.causedBy })
        expect(yield* gw.find(second.eventId)).toMatchObject({
          evidence: { state: { chain: { depth: 1, count: 2 } } }
        })
        expect((yield* gw.submit({ source: "webhook", payload: null, causedBy: ids.causedBy })).decision).toBe("skip")
        yield* TestClock.adjust("1 minute")
        const held = yield* gw.outcome(ids.held)
        expect(held).toMatchObject({ state: "executed", event: { causedBy: ids.causedBy, chain: { root: ids.root } } })
        // Its run's consequences are of the same chain, one further.
        const next = yield* gw.submit({ source: "webhook", payload: null, causedBy: held.run?.id })
        expect((yield* gw.find(next.eventId))?.event.chain).toEqual({ root: ids.root, depth: 2, count: 1 })
      }).pipe(Effect.provide(gatewayOn(file, config)))
    })
  )

  it.effect("a cause there is not is refused, and nothing is kept", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const refused = yield* Effect.flip(gw.submit({ source: "webhook", payload: null, causedBy: "run_x" }))
      expect(refused).toMatchObject({ reason: "invalid-input", message: 'causedBy: there is no run "run_x"' })
    }).pipe(provided({}))
  )

  it("counts a chain's last minute, and holds no more than that", () => {
    const counts = new RecentCounts()
    expect([1, 2, 3].map(() => counts.add("a", 0))).toEqual([1, 2, 3])
    expect([counts.add("a", 59_999), counts.add("a", 60_000), counts.add("a", 119_999)]).toEqual([4, 2, 2])
    for (let i = 0; i < 1_000; i++) counts.add(`chain ${i}`, 200_000 + i * 1_000)
    expect(counts.size).toBe(60)
  })
})
