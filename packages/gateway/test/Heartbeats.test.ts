import { describe, expect, it } from "@effect/vitest"
import { type GatewayConfigInput, GatewayService, PolicyEngine, Store } from "@postilion/gateway"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import type { RunTask } from "@postilion/gateway/domain/Run"
import { Deferred, Effect, Layer, TestClock } from "effect"
import { answerOf, gateway, gatewayOn, type Respond, stores, tempFile, turn, watch } from "./TestGateway.ts"

const config: GatewayConfigInput = {
  policies: { maxActionsPerHour: "unlimited", dailyTokenBudget: "unlimited" },
  accessControl: { accessPolicy: "open" },
  heartbeat: { intervalMs: 600_000 }
}
const message: RawInput = { source: "channel", payload: { text: "hi" }, sender: "ada", sessionKey: "s" }
const ticks = Effect.flatMap(Store, (store) =>
  Effect.map(store.find("events", { where: { source: "heartbeat" }, orderBy: ["seq", "asc"] }), (rows) =>
    rows.map(({ action }) => action)
  )
)
/** The ticks so far, once there are so many and each is decided. */
const decided = (count: number) =>
  Effect.gen(function* () {
    while (true) {
      const actions = yield* ticks
      if (actions.length >= count && !actions.includes(null)) return actions
      yield* turn
    }
  })
const submit = (input: RawInput) => Effect.flatMap(GatewayService, (gw) => gw.submit(input))
/** Thinks about each heartbeat until it is told. */
const slow = Effect.gen(function* () {
  const asked = yield* Deferred.make<void>()
  const answer = yield* Deferred.make<void>()
  yield* (yield* PolicyEngine).addPolicy({
    _tag: "Slow",
    priority: 60,
    evaluate: (event) =>
      event.source === "heartbeat"
        ? Effect.as(Effect.zipRight(Deferred.succeed(asked, undefined), Deferred.await(answer)), null)
        : Effect.succeed(null)
  })
  return { asked: Deferred.await(asked), answer: Deferred.succeed(answer, undefined) }
})

describe("what an adaptive heartbeat takes for news", () => {
  const life = (file: string, respond?: Respond, change: GatewayConfigInput = {}) =>
    gatewayOn(file, { ...config, ...change }, respond)

  for (const restarts of [false, true]) {
    const after = restarts ? ", also after a restart" : ""
    /** The second part in the same life, or in another. */
    const twice = <A, E1, E2, R1, R2>(
      first: Effect.Effect<unknown, E1, R1>,
      second: Effect.Effect<A, E2, R2>,
      options: { readonly respond?: Respond; readonly change?: GatewayConfigInput } = {}
    ) =>
      Effect.gen(function* () {
        const on = life(yield* tempFile, options.respond, options.change)
        return yield* restarts
          ? Effect.zipRight(Effect.provide(first, on), Effect.provide(second, on))
          : Effect.provide(Effect.zipRight(first, second), on)
      })

    it.scoped(`what comes while a policy thinks about a tick is for the next one${after}`, () =>
      twice(
        Effect.gen(function* () {
          const policy = yield* slow
          yield* TestClock.adjust("10 minutes")
          yield* policy.asked
          yield* submit({ source: "state-change", payload: null })
          yield* policy.answer
          expect(yield* decided(1)).toEqual(["execute"])
        }),
        Effect.gen(function* () {
          yield* TestClock.adjust("10 minutes")
          expect(yield* decided(2)).toEqual(["execute", "execute"])
          yield* TestClock.adjust("10 minutes")
          expect((yield* decided(3)).at(-1)).toBe("skip")
        })
      )
    )

    it.scoped(`a turn that a conversation has gained since the last tick${after}`, () =>
      Effect.gen(function* () {
        const end = yield* Deferred.make<void>()
        const respond: Respond = ({ event }) =>
          event.source === "channel"
            ? Effect.as(Deferred.await(end), answerOf("hello"))
            : Effect.succeed(answerOf("ok"))
        yield* twice(
          Effect.gen(function* () {
            const { eventId } = yield* submit(message)
            yield* TestClock.adjust("10 minutes")
            expect(yield* decided(1)).toEqual(["execute"])
            yield* TestClock.adjust("5 minutes")
            yield* Deferred.succeed(end, undefined)
            yield* (yield* GatewayService).outcome(eventId)
          }),
          Effect.gen(function* () {
            yield* TestClock.adjust("5 minutes")
            expect(yield* decided(2)).toEqual(["execute", "execute"])
            yield* TestClock.adjust("10 minutes")
            expect((yield* decided(3)).at(-1)).toBe("skip")
          }),
          { respond, change: { limits: { runTimeoutMs: 86_400_000 } } }
        )
      })
    )

    it.scoped(`no event and no turn: nothing${after}`, () =>
      twice(
        Effect.gen(function* () {
          const { eventId } = yield* submit(message)
          yield* (yield* GatewayService).outcome(eventId)
          yield* TestClock.adjust("10 minutes")
          expect(yield* decided(1)).toEqual(["execute"])
        }),
        Effect.gen(function* () {
          yield* TestClock.adjust("10 minutes")
          expect(yield* decided(2)).toEqual(["execute", "skip"])
        })
      )
    )
  }

  it.scoped("a tick that is still undecided after a restart sees what its agent has had before it", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      yield* Effect.gen(function* () {
        yield* TestClock.adjust("10 minutes")
        expect(yield* decided(1)).toEqual(["execute"])
        yield* submit({ source: "state-change", payload: null })
        const policy = yield* slow
        yield* TestClock.adjust("10 minutes")
        yield* policy.asked
        expect(yield* ticks).toEqual(["execute", null])
      }).pipe(Effect.provide(life(file)))
      yield* Effect.gen(function* () {
        expect(yield* decided(2)).toEqual(["execute", "execute"])
        yield* TestClock.adjust("10 minutes")
        expect((yield* decided(3)).at(-1)).toBe("skip")
      }).pipe(Effect.provide(life(file)))
    })
  )

  it.scoped("what happens to one agent is no news to another", () =>
    Effect.gen(function* () {
      const told = yield* watch
      yield* TestClock.adjust("10 minutes")
      yield* decided(2)
      yield* submit({ source: "state-change", payload: null, agentId: "b" })
      yield* TestClock.adjust("10 minutes")
      yield* decided(4)
      const last = told.all("PolicyDecisionMade").filter(({ source }) => source === "heartbeat")
      expect(
        last
          .slice(2)
          .map(({ agentId, decision }) => `${agentId} ${decision}`)
          .sort()
      ).toEqual(["a skip", "b execute"])
      expect(told.all("HeartbeatSkipped")).toMatchObject([
        { agentId: "a", reason: "nothing has changed since the last tick", consecutiveSkips: 1 }
      ])
    }).pipe(
      Effect.provide(
        gateway({
          ...config,
          agents: { a: {}, b: {} },
          heartbeat: [
            { intervalMs: 600_000, agentId: "a" },
            { intervalMs: 600_000, agentId: "b" }
          ]
        }).pipe(Layer.provideMerge(memory))
      )
    )
  )
})

const memory = Layer.unwrapEffect(Effect.sync(() => (stores[0] as (typeof stores)[number])[1]))

describe("N6: a heartbeat session grew to 560 k tokens: here every tick has the same context", () => {
  it.scoped("it is shown no conversation and adds to none, whatever session it is handed in for", () => {
    const tasks: Array<RunTask> = []
    const respond: Respond = (task) =>
      Effect.sync(() => {
        tasks.push(task)
        return answerOf("x".repeat(1_000))
      })
    return Effect.gen(function* () {
      const gw = yield* GatewayService
      const store = yield* Store
      yield* gw.run(message)
      const turns = yield* store.find("turns", {})
      expect(turns).toHaveLength(2)
      yield* gw.run({ ...message, source: "heartbeat", payload: { instruction: "look" } })
      yield* TestClock.adjust("200 minutes")
      yield* decided(21)
      while (tasks.length < 22) yield* turn
      const [, ...beats] = tasks
      for (const { event, history } of beats) expect([event.source, history]).toEqual(["heartbeat", []])
      const sizes = beats
        .slice(1)
        .map(({ payloadText, taskDescription }) => payloadText.length + taskDescription.length)
      expect(new Set(sizes).size).toBe(1)
      expect(yield* store.find("turns", {})).toEqual(turns)
    }).pipe(
      Effect.provide(
        gateway({ ...config, heartbeat: { intervalMs: 600_000, policy: "always" } }, respond).pipe(
          Layer.provideMerge(memory)
        )
      )
    )
  })
})
