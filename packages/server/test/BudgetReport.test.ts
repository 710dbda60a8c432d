import { describe, expect, it } from "@effect/vitest"
import { GatewayService } from "@postilion/gateway"
import { Effect } from "effect"
import { ADA, as, deliver, request, server } from "./Support.ts"

describe("GET /budget", () => {
  it.scopedLive("what may be used and what was, for whoever holds a token", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const { body } = yield* deliver("deployment", "d1")
      yield* gateway.outcome(String(body.eventId))
      expect((yield* request("/budget")).status).toBe(401)
      const today = new Date(yield* Effect.clockWith((clock) => clock.currentTimeMillis)).toISOString().slice(0, 10)
      for (const query of ["", `?from=${today}&to=${today}`]) {
        expect(yield* request(`/budget${query}`, as(ADA))).toMatchObject({
          status: 200,
          body: {
            budgets: [
              { scope: "*", unit: "tokens", window: "day", limit: 100_000, used: 15, reserved: 0 },
              { scope: "agent", unit: "usd", window: "month", limit: 5, used: 0.02, reserved: 0 }
            ],
            rate: { limit: 30, count: 1 },
            to: today,
            total: { runs: 1, inputTokens: 10, outputTokens: 5, costUsd: 0.02, unknownCost: 0 },
            byAgent: [{ name: "agent", costUsd: 0.02 }],
            bySource: [{ name: "webhook" }],
            byModel: [{ name: "scripted" }],
            byDay: [{ name: today, runs: 1 }]
          }
        })
      }
    }).pipe(
      Effect.provide(
        server({
          agents: { agent: { budget: { usdPerMonth: 5 } } },
          prices: { scripted: { inputPerMillion: 1_000, outputPerMillion: 2_000 } }
        })
      )
    )
  )

  it.scopedLive("a query that asks for something else is answered with what it may ask for", () =>
    Effect.gen(function* () {
      for (const query of ["?since=2024-01-01", "?from=2024-13-01", "?from=2024-06-02&to=2024-06-01"]) {
        const { body, status } = yield* request(`/budget${query}`, as(ADA))
        expect([query, status]).toEqual([query, 422])
        expect(String(body.detail)).toMatch(/from/)
      }
      expect((yield* request("/budget", { ...as(ADA), method: "POST" })).status).toBe(405)
    }).pipe(Effect.provide(server()))
  )
})
