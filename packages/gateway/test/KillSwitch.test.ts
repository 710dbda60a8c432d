import { describe, expect, it } from "@effect/vitest"
import { AuditLog, type GatewayConfigInput, GatewayService, KillSwitch, Store, StoreError } from "@postilion/gateway"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import { EventSource, type RawInput } from "@postilion/gateway/domain/GatewayEvent"
import type { RunTask } from "@postilion/gateway/domain/Run"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Deferred, Effect, Layer, TestClock } from "effect"
import { answerOf, gateway, gatewayOn, sqlite, tempFile, watch, wrapStore } from "./TestGateway.ts"

const counter = () => {
  const calls: Array<string> = []
  const respond = (task: RunTask) =>
    Effect.sync(() => {
      calls.push(`${task.event.source} to ${task.agent.id}`)
      return answerOf("done")
    })
  return { calls, respond }
}
const input = (source: RawInput["source"], change: Partial<RawInput> = {}): RawInput => ({
  source,
  payload: { text: "now!" },
  priority: "critical",
  sender: "ada",
  sessionKey: `s-${source}`,
  ...change
})
const base = {
  agents: { ops: {}, chat: {} },
  accessControl: { accessPolicy: "open" as const },
  policies: { heartbeatPolicy: "always" as const },
  heartbeat: { intervalMs: 60_000 },
  crons: [{ schedule: "* * * * *", instruction: "look", priority: "critical" as const }]
} satisfies GatewayConfigInput
const keeping: GatewayConfigInput = { ...base, policies: { ...base.policies, whenStopped: "keep" } }

describe("N20: openclaw#104315, hermes#110562: while the switch is on, nothing of any source reaches an agent", () => {
  const modes = [
    ["pause", base, "kept"],
    ["stop", base, "stopped"],
    ["stop", keeping, "kept"],
    ["terminate", base, "stopped"],
    ["terminate", keeping, "kept"]
  ] as const
  for (const [verb, config, expected] of modes) {
    it.scoped(`${verb}, ${expected}: what is submitted, what is due, what was waiting, also over a restart`, () => {
      const { calls, respond } = counter()
      return Effect.gen(function* () {
        const file = yield* tempFile
        const trySubmit = (source: RawInput["source"]) =>
          Effect.flatMap(GatewayService, (gw) =>
            Effect.match(gw.submit(input(source)), { onFailure: ({ reason }) => reason, onSuccess: () => "kept" })
          )
        yield* Effect.gen(function* () {
          const gw = yield* GatewayService
          yield* gw.pause()
          yield* gw.submit(input("state-change", { sessionKey: "before" }))
          yield* gw[verb]({ by: "ada" })
          for (const source of EventSource.literals) expect(yield* trySubmit(source), source).toBe(expected)
          yield* TestClock.adjust("3 minutes")
          expect((yield* gw.status()).pending.running).toBe(0)
          expect(calls).toEqual([])
        }).pipe(Effect.provide(gatewayOn(file, config, respond)))

        yield* Effect.gen(function* () {
          const gw = yield* GatewayService
          const told = yield* watch
          for (const source of EventSource.literals) expect(yield* trySubmit(source), source).toBe(expected)
          yield* TestClock.adjust("3 minutes")
          expect(calls).toEqual([])
          expect(told.all("ProactiveActionInitiated")).toEqual([])
          const { waiting } = (yield* gw.status()).pending
          expect(waiting).toBeGreaterThan(expected === "kept" ? 12 : 0)

          yield* gw.resume({ by: "ada" })
          yield* told.until("ProactiveActionCompleted", waiting)
          expect(calls).toHaveLength(waiting)
          if (expected === "kept") {
            for (const source of EventSource.literals) expect(calls).toContain(`${source} to ops`)
          }
        }).pipe(Effect.scoped, Effect.provide(gatewayOn(file, config, respond)))
      })
    })
  }

  it.scoped("of one agent, the others go on; of all, none does; the stricter of both counts", () => {
    const { calls, respond } = counter()
    return Effect.gen(function* () {
      const gw = yield* GatewayService
      const send = (agentId: string) => Effect.either(gw.submit(input("webhook", { agentId, sessionKey: agentId })))
      yield* gw.stop({ agentId: "ops" })
      expect(yield* send("ops")).toMatchObject({ _tag: "Left", left: { reason: "stopped" } })
      const sent = yield* gw.submit(input("webhook", { agentId: "chat" }))
      yield* gw.outcome(sent.eventId)
      expect(calls).toEqual(["webhook to chat"])
      yield* gw.pause()
      expect(yield* send("chat")).toMatchObject({ _tag: "Right" })
      yield* gw.resume({ agentId: "ops" })
      expect(yield* send("ops")).toMatchObject({ _tag: "Right" })
      expect(calls).toHaveLength(1)
      expect(yield* Effect.flip(gw.stop({ agentId: "nobody" }))).toMatchObject({ reason: "not-found" })
    }).pipe(Effect.provide(gateway({ ...base, heartbeat: [] }, respond)), Effect.provide(StoreMemory.layer))
  })
})

describe("what runs when the switch is thrown", () => {
  /** An agent that begins, and ends when it is let go. */
  const slow = Effect.gen(function* () {
    const begun = yield* Deferred.make<void>()
    const go = yield* Deferred.make<void>()
    const respond = () =>
      Effect.zipRight(Deferred.succeed(begun, undefined), Effect.as(Deferred.await(go), answerOf("done")))
    return { begun, go, respond }
  })

  it.scoped("stop lets it finish, terminate interrupts it; its tokens are settled either way", () =>
    Effect.gen(function* () {
      for (const verb of ["stop", "terminate"] as const) {
        const { begun, go, respond } = yield* slow
        yield* Effect.gen(function* () {
          const gw = yield* GatewayService
          const { eventId } = yield* gw.submit(input("webhook"))
          const next = yield* gw.submit(input("webhook"))
          yield* Deferred.await(begun)
          yield* gw[verb]()
          if (verb === "stop") yield* Deferred.succeed(go, undefined)
          expect(yield* gw.outcome(eventId)).toMatchObject({
            run:
              verb === "stop" ? { state: "completed" } : { state: "cancelled", error: "terminated by the kill switch" }
          })
          expect(yield* gw.find(next.eventId)).toMatchObject({ run: { state: "pending", attempt: 0 } })
          expect((yield* gw.status()).budget.reserved).toBe(100)
        }).pipe(Effect.provide(gateway(base, respond)), Effect.provide(StoreMemory.layer))
      }
    })
  )

  it.scoped("its next attempt waits until the switch is off", () => {
    let calls = 0
    const failing = () =>
      Effect.suspend(() => {
        calls += 1
        return calls === 1
          ? Effect.fail(new AgentRunError({ message: "busy", retryable: true }))
          : Effect.succeed(answerOf("done"))
      })
    return Effect.gen(function* () {
      const gw = yield* GatewayService
      const told = yield* watch
      const { eventId } = yield* gw.submit(input("webhook"))
      yield* told.until("ProactiveActionInitiated", 1)
      yield* gw.stop()
      yield* TestClock.adjust("1 hour")
      expect(calls).toBe(1)
      expect((yield* gw.status()).pending).toMatchObject({ running: 0, waiting: 1 })
      yield* gw.resume()
      expect(yield* gw.outcome(eventId)).toMatchObject({ run: { state: "completed", attempt: 2 } })
    }).pipe(Effect.provide(gateway({ agents: base.agents }, failing)), Effect.provide(StoreMemory.layer))
  })

  it.scoped("a run of the same moment does not begin after the switch, by the record", () => {
    const { calls, respond } = counter()
    return Effect.gen(function* () {
      const gw = yield* GatewayService
      yield* Effect.forEach(
        Array.from({ length: 40 }, (_, n) => n),
        (n) =>
          n % 10 === 5 ? gw.pause() : Effect.asVoid(gw.submit(input("webhook", { sessionKey: `s${n}`, payload: n }))),
        { concurrency: "unbounded" }
      )
      const records = yield* (yield* AuditLog).query()
      const paused = records.find(({ kind }) => kind === "switch.changed")?.seq ?? 0
      expect(paused).toBeGreaterThan(0)
      expect(records.filter(({ kind, seq }) => kind === "run.started" && seq > paused)).toEqual([])
      expect(calls).toHaveLength(records.filter(({ kind }) => kind === "run.started").length)
    }).pipe(Effect.provide(gateway({ agents: base.agents }, respond)), Effect.provide(StoreMemory.layer))
  })

  it.scoped("a switch that could not be written has not been thrown", () => {
    let broken = false
    const { calls, respond } = counter()
    const failing = wrapStore((store) => ({
      ...store,
      commit: (writes) => (broken ? Effect.fail(new StoreError({ message: "disk full" })) : store.commit(writes))
    })).pipe(Layer.provide(StoreMemory.layer))
    return Effect.gen(function* () {
      const gw = yield* GatewayService
      broken = true
      expect(yield* Effect.flip(gw.stop())).toMatchObject({ reason: "storage" })
      broken = false
      expect((yield* KillSwitch).modes().size).toBe(0)
      yield* gw.outcome((yield* gw.submit(input("webhook"))).eventId)
      expect(calls).toHaveLength(1)
      expect(yield* (yield* Store).find("switches", {})).toEqual([])
    }).pipe(Effect.provide(gateway({ agents: base.agents }, respond)), Effect.provide(failing))
  })
})

describe("a run that had its turn, and was held back before it began", () => {
  it.scoped("is not taken for terminated later on: cut off by the end of the process, it is tried again", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      let gate: Effect.Effect<unknown> = Effect.void
      const gated = wrapStore((store) => ({
        ...store,
        commit: (writes) => Effect.zipRight(gate, store.commit(writes))
      })).pipe(Layer.provide(sqlite(file)))
      const eventId = yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const latch = yield* Effect.makeLatch()
        const writing = yield* Deferred.make<void>()
        gate = Effect.zipRight(Deferred.succeed(writing, undefined), latch.await)
        // Thrown while the event is being written: in the commit in which its run was to begin.
        const submitted = yield* Effect.fork(gw.submit(input("webhook")))
        yield* Deferred.await(writing)
        const terminated = yield* Effect.fork(gw.terminate())
        yield* Effect.yieldNow()
        yield* latch.open
        const { eventId } = yield* submitted
        yield* terminated
        expect((yield* gw.find(eventId))?.run).toMatchObject({ state: "pending", attempt: 0 })
        yield* gw.resume()
        yield* told.until("ProactiveActionInitiated", 1)
        return eventId
      }).pipe(Effect.scoped, Effect.provide(gateway({}, () => Effect.never).pipe(Layer.provide(gated))))
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        expect(yield* gw.outcome(eventId)).toMatchObject({ run: { state: "completed", attempt: 2 } })
      }).pipe(Effect.provide(gatewayOn(file)))
    })
  )
})
