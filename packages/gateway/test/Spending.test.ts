import { describe, expect, it } from "@effect/vitest"
import { type GatewayConfigInput, GatewayService } from "@postilion/gateway"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Effect, Layer, TestClock } from "effect"
import { gateway, type Respond, stores } from "./TestGateway.ts"

const HOUR = 3_600_000
const config: GatewayConfigInput = {
  timezone: "Europe/Berlin",
  agents: { ops: { budget: { usdPerMonth: 3 } }, chat: {} },
  policies: { maxActionsPerHour: 50 },
  prices: { small: { inputPerMillion: 1_000, outputPerMillion: 2_000 } }
}
/** The payload is the model that answers; without one, the run fails and nothing is charged. */
const respond: Respond = ({ event: { payload } }) =>
  typeof payload === "string"
    ? Effect.succeed({ text: "ok", usage: { inputTokens: 40, outputTokens: 10 }, model: payload })
    : Effect.fail(new AgentRunError({ message: "no", retryable: false }))

const run = (agentId: string, source: RawInput["source"], payload: unknown) =>
  Effect.gen(function* () {
    const gw = yield* GatewayService
    const { eventId } = yield* gw.submit({ source, agentId, payload, priority: "critical" })
    yield* gw.outcome(eventId)
  })

for (const [name, store] of stores) {
  describe(`the budget's report: ${name}`, () => {
    it.scoped("what was used, by agent, source, model and day; what is not known is not shown as nothing", () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        yield* run("ops", "webhook", "small")
        yield* run("ops", "state-change", "small-20240601")
        yield* run("chat", "webhook", "large")
        yield* run("chat", "webhook", null)
        // Past midnight in Berlin, not in UTC.
        yield* TestClock.adjust(HOUR)
        yield* run("ops", "webhook", "large")
        const { rate, ...report } = yield* gw.budget()
        const spent = (runs: number, costUsd: number | null, unknownCost: number, used = runs) => ({
          runs,
          inputTokens: used * 40,
          outputTokens: used * 10,
          costUsd,
          unknownCost
        })
        expect(rate).toMatchObject({ limit: 50, count: 1 })
        expect(report).toEqual({
          budgets: [
            {
              scope: "*",
              unit: "tokens",
              window: "day",
              limit: 100_000,
              used: 50,
              reserved: 0,
              resetsAt: new Date("2024-06-03T22:00:00Z")
            },
            {
              scope: "ops",
              unit: "usd",
              window: "month",
              limit: 3,
              used: 0.12,
              reserved: 0,
              resetsAt: new Date("2024-06-30T22:00:00Z")
            }
          ],
          from: "2024-06-01",
          to: "2024-06-03",
          total: spent(5, 0.12, 2, 4),
          byAgent: [
            { name: "ops", ...spent(3, 0.12, 1) },
            { name: "chat", ...spent(2, 0, 1, 1) }
          ],
          bySource: [
            { name: "webhook", ...spent(4, 0.06, 2, 3) },
            { name: "state-change", ...spent(1, 0.06, 0) }
          ],
          byModel: [
            { name: "large", ...spent(2, null, 2) },
            { name: "small", ...spent(1, 0.06, 0) },
            { name: "small-20240601", ...spent(1, 0.06, 0) },
            { name: "unknown", ...spent(1, 0, 0, 0) }
          ],
          byDay: [
            { name: "2024-06-02", ...spent(4, 0.12, 1, 3) },
            { name: "2024-06-03", ...spent(1, null, 1) }
          ]
        })
        const day = yield* gw.budget({ from: "2024-06-03", to: "2024-06-03" })
        expect(day).toMatchObject({ total: spent(1, null, 1), bySource: [{ name: "webhook" }] })
        expect(day.byDay).toHaveLength(1)
        const none = yield* gw.budget({ from: "2024-05-01", to: "2024-05-31" })
        expect(none).toMatchObject({ total: { runs: 0, costUsd: 0, unknownCost: 0 }, byAgent: [], byDay: [] })
      }).pipe(
        Effect.provide(
          Layer.unwrapEffect(
            Effect.as(
              TestClock.setTime(Date.parse("2024-06-02T21:30:00Z")),
              gateway(config, respond).pipe(Layer.provideMerge(store))
            )
          )
        )
      )
    )
  })
}

describe("more than can be told apart", () => {
  it.scoped("is in the totals all the same", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      yield* Effect.forEach(
        Array.from({ length: 1_001 }, (_, n) => n),
        (n) => run("ops", "webhook", `model-${n}`),
        {
          concurrency: "unbounded"
        }
      )
      const { byDay, byModel, total } = yield* gw.budget()
      expect(byModel).toHaveLength(1_000)
      expect(total).toMatchObject({ runs: 1_001, inputTokens: 40_040, unknownCost: 1_001 })
      expect(byDay).toMatchObject([{ runs: 1_001, outputTokens: 10_010 }])
    }).pipe(Effect.provide(gateway(config, respond).pipe(Layer.provideMerge(StoreMemory.layer))))
  )
})

describe("a range of days that is none is refused, with what is wrong", () => {
  for (const [range, message] of [
    [{ from: "2024-02-30" }, /written as 2026-01-31; got "2024-02-30"/],
    [{ to: "yesterday" }, /got "yesterday-01" and "yesterday"|got .*"yesterday"/],
    [{ from: "2024-06-02", to: "2024-06-01" }, /from \(2024-06-02\) comes after to \(2024-06-01\)/],
    [{ from: "2023-06-01", to: "2024-06-01" }, /at most 366 days/]
  ] as const) {
    it.scoped(JSON.stringify(range), () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip((yield* GatewayService).budget(range))
        expect(error).toMatchObject({ reason: "invalid-input", message: expect.stringMatching(message) })
      }).pipe(Effect.provide(gateway(config, respond).pipe(Layer.provideMerge(StoreMemory.layer))))
    )
  }

  it.scoped("366 of them are not too many", () =>
    Effect.gen(function* () {
      const { byDay } = yield* (yield* GatewayService).budget({ from: "2024-01-01", to: "2024-12-31" })
      expect(byDay).toEqual([])
    }).pipe(Effect.provide(gateway(config, respond).pipe(Layer.provideMerge(StoreMemory.layer))))
  )
})
