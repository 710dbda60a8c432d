import { describe, expect, it } from "@effect/vitest"
import { type GatewayConfigInput, GatewayService } from "@postilion/gateway"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import { Effect, TestClock } from "effect"
import { answerOf, gatewayOn, type Respond, tempFile, watch } from "./TestGateway.ts"

const event = (more: Partial<RawInput> = {}): RawInput => ({ source: "webhook", payload: null, ...more })
const submit = (input: RawInput) => Effect.flatMap(GatewayService, (gw) => gw.submit(input))
const find = (id: string) => Effect.flatMap(GatewayService, (gw) => gw.find(id))
const settled = (input: RawInput) =>
  Effect.flatMap(GatewayService, (gw) => Effect.flatMap(gw.submit(input), ({ eventId }) => gw.outcome(eventId)))

/** The lives of a gateway on one file, one after the other. */
const lives = (
  config: GatewayConfigInput,
  respond: Respond,
  ...bodies: ReadonlyArray<Effect.Effect<unknown, unknown, GatewayService | Effect.Effect.Context<typeof watch>>>
) =>
  Effect.flatMap(tempFile, (file) =>
    Effect.forEach(bodies, (body) => Effect.provide(Effect.scoped(body), gatewayOn(file, config, respond)), {
      discard: true
    })
  )
const succeeds: Respond = () => Effect.succeed(answerOf("done"))

describe("quiet hours", () => {
  const berlin = (policies: GatewayConfigInput["policies"]): GatewayConfigInput => ({
    timezone: "Europe/Berlin",
    policies
  })
  it.scoped("what is not urgent waits for their end, through the night the clocks change", () =>
    Effect.gen(function* () {
      // 23:30 in Berlin, the night of the 29th of March 2026: at 02:00 it becomes 03:00.
      yield* TestClock.setTime(Date.parse("2026-03-28T22:30:00Z"))
      yield* lives(
        berlin({ quietHours: { from: "22:00", to: "07:00" } }),
        succeeds,
        Effect.gen(function* () {
          expect((yield* submit(event({ priority: "high" }))).decision).toBe("execute")
          const waits = yield* submit(event())
          expect(yield* find(waits.eventId)).toMatchObject({
            policy: "QuietHours",
            reason: "quiet hours (22:00 to 07:00) for what is less urgent than high"
          })
          expect(
            (yield* submit(event({ source: "heartbeat", metadata: { heartbeatPolicy: "always" } }))).decision
          ).toBe("skip")
          yield* TestClock.setTime(Date.parse("2026-03-29T04:59:59Z"))
          expect((yield* submit(event({ priority: "low" }))).decision).toBe("queue")
          yield* TestClock.setTime(Date.parse("2026-03-29T05:00:00Z"))
          expect(yield* Effect.flatMap(GatewayService, (gw) => gw.outcome(waits.eventId))).toMatchObject({
            state: "executed"
          })
          expect((yield* submit(event({ priority: "low" }))).decision).toBe("execute")
        })
      )
    })
  )
})

describe("the rate of a sender", () => {
  const config: GatewayConfigInput = { policies: { maxPerSenderPerMinute: 2 } }
  it.scoped("one that floods the gateway is skipped past it, others are not; a restart does not forget", () =>
    lives(
      config,
      succeeds,
      Effect.gen(function* () {
        const decisions = Effect.forEach(["ada", "ada", "bob", "ada"], (sender) => submit(event({ sender })))
        expect((yield* decisions).map(({ decision }) => decision)).toEqual(["execute", "execute", "execute", "skip"])
      }),
      Effect.gen(function* () {
        const { eventId } = yield* submit(event({ sender: "ada" }))
        expect(yield* find(eventId)).toMatchObject({
          policy: "SenderRate",
          reason: "sender ada: 4 events in a minute, at most 2 are handled"
        })
        expect((yield* submit(event({ sender: "ada", priority: "critical" }))).decision).toBe("execute")
        expect((yield* submit(event())).decision).toBe("execute")
        yield* TestClock.adjust("1 minute")
        expect((yield* submit(event({ sender: "ada" }))).decision).toBe("execute")
      })
    )
  )
})

describe("the circuit breaker", () => {
  const config: GatewayConfigInput = {
    agents: { a: {}, b: {} },
    policies: { circuitBreaker: { maxFailures: 3, cooldownMs: 10_000 } }
  }
  let broken = true
  const respond: Respond = ({ agent }) =>
    agent.id === "a" && broken
      ? Effect.fail(new AgentRunError({ message: "the model is down", retryable: false }))
      : Effect.succeed(answerOf("done"))

  it.scoped(
    "gives an agent whose runs fail a rest, tries one event after it, and goes on once that has not failed",
    () =>
      lives(
        config,
        respond,
        Effect.gen(function* () {
          broken = true
          for (const n of [1, 2, 3]) {
            expect(yield* settled(event({ payload: { n } }))).toMatchObject({ run: { state: "failed" } })
          }
          const waits = yield* submit(event())
          expect(yield* find(waits.eventId)).toMatchObject({
            policy: "CircuitBreaker",
            reason: 'circuit breaker: the last 3 runs of agent "a" failed'
          })
          expect(
            (yield* submit(event({ source: "heartbeat", metadata: { heartbeatPolicy: "always" } }))).decision
          ).toBe("skip")
          expect((yield* submit(event({ agentId: "b" }))).decision).toBe("execute")
        }),
        // Another process knows of it, and that the first one's rest is over: one is tried, the next rest begins.
        Effect.gen(function* () {
          const gw = yield* GatewayService
          const told = yield* watch
          expect((yield* submit(event())).decision).toBe("queue")
          yield* TestClock.adjust("10 seconds")
          const [tried] = yield* told.until("ProactiveActionCompleted", 1)
          expect(tried).toMatchObject({ success: false })
          expect((yield* gw.status()).pending.queued).toBe(1)
          broken = false
          yield* TestClock.adjust("10 seconds")
          const [, next] = yield* told.until("ProactiveActionCompleted", 2)
          expect(next).toMatchObject({ success: true })
          expect((yield* submit(event())).decision).toBe("execute")
        })
      )
  )
})
