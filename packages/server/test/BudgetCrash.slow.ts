import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { AuditLog, Gateway, GatewayService, Store } from "@postilion/gateway"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import { SqliteStorage } from "@postilion/server"
import { Effect, Layer, Schema } from "effect"
import { start, urlOf } from "./ChildServer.ts"
import { eventually, requestAt, tempDir } from "./Support.ts"

const Overshoot = Schema.Struct({ overshoot: Schema.Struct({ tokens: Schema.Number }) })

describe("N3: a budget for ten, floods of events, and a process that is killed in the midst of them", {
  timeout: 120_000
}, () => {
  it.scopedLive("what was used stays within it, but for what was under way, and that is recorded", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      // A run may use 1,030 tokens or so. Of a month, so that no midnight comes in between.
      const limit = 10_400
      const config = {
        policies: {
          dailyTokenBudget: "unlimited",
          maxActionsPerHour: "unlimited",
          budget: { tokensPerMonth: limit }
        },
        limits: { maxUncleanStarts: "unlimited" }
      } as const
      const child = {
        ...config,
        storage,
        webhooks: [{ path: "/in", adapter: "generic", unsigned: true }]
      }
      let crashed = 0
      for (const life of [0, 1]) {
        const server = yield* start(child, { mode: "spend" })
        const url = yield* urlOf(server)
        yield* Effect.forEach(
          Array.from({ length: 250 }, (_, i) => life * 250 + i),
          (n) =>
            Effect.exit(
              requestAt(url, "/webhooks/in", {
                method: "POST",
                headers: { "content-type": "application/json" },
                body: JSON.stringify({ n })
              })
            ),
          { concurrency: 100 }
        )
        server.process.kill("SIGKILL")
        if ((yield* server.exit).signal === "SIGKILL") crashed += 1
      }
      expect(crashed).toBe(2)

      const idle = layerScripted(() =>
        Effect.succeed({ text: "done", usage: { inputTokens: 5, outputTokens: 5 }, model: "scripted" })
      )
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const store = yield* Store
        yield* Effect.forEach(
          Array.from({ length: 500 }, (_, n) => n),
          (n) => gateway.submit({ source: "webhook", payload: { n } }),
          { concurrency: "unbounded" }
        )
        yield* eventually(gateway.status(), ({ pending }) => pending.waiting + pending.running === 0)
        const runs = yield* store.find("runs", {})
        const used = runs.reduce((sum, run) => sum + run.input_tokens + run.output_tokens, 0)
        expect(runs.filter(({ ended_at }) => ended_at === null)).toEqual([])
        expect((yield* gateway.budget()).budgets[1]).toMatchObject({ window: "month", limit, used, reserved: 0 })

        const records = yield* (yield* AuditLog).query({ limit: 10_000 })
        const last = records.findLastIndex(({ data, kind }) => kind === "event.decided" && data.action === "execute")
        const over = (from: number) =>
          records.slice(from).reduce((sum, { data }) => {
            const found = Schema.decodeUnknownOption(Overshoot)(data)
            return found._tag === "Some" ? sum + found.value.overshoot.tokens : sum
          }, 0)
        // An attempt that was cut off counts as much as one that was not.
        expect(runs.reduce((sum, { attempt }) => sum + attempt, 0)).toBeGreaterThanOrEqual(10)
        for (const { attempt, input_tokens, output_tokens, reserved_tokens } of runs) {
          expect(input_tokens + output_tokens).toBeGreaterThanOrEqual((attempt - 1) * reserved_tokens)
        }
        expect(over(0)).toBeGreaterThan(0)
        expect(over(0)).toBe(
          runs.reduce((sum, run) => sum + Math.max(0, run.input_tokens + run.output_tokens - run.reserved_tokens), 0)
        )
        expect(used).toBeLessThanOrEqual(limit + over(last))
        expect(yield* (yield* AuditLog).verify).toMatchObject({ valid: true })
      }).pipe(
        Effect.provide(
          Gateway.layer(config).pipe(
            Layer.provide(idle),
            Layer.provideMerge(SqliteStorage.layer({ filename: storage }))
          )
        )
      )
    })
  )
})
