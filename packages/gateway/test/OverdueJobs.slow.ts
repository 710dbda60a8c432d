import { describe, expect, it } from "@effect/vitest"
import { type GatewayConfigInput, Scheduler, Store } from "@postilion/gateway"
import { Effect, TestClock } from "effect"
import { gatewayOn, tempFile, turn } from "./TestGateway.ts"

const HOUR = 3_600_000
const session = <A, E, R>(file: string, config: GatewayConfigInput, body: Effect.Effect<A, E, R>) =>
  body.pipe(Effect.provide(gatewayOn(file, config)), Effect.scoped)

describe("what was missed", () => {
  it.scoped(
    "10,000 overdue jobs are each handled as it says",
    () =>
      Effect.gen(function* () {
        const file = yield* tempFile
        const COUNT = 10_000
        const rules = ["skip", "once", "all"] as const
        const quiet: GatewayConfigInput = { policies: { maxActionsPerHour: 0, dailyTokenBudget: "unlimited" } }
        yield* session(
          file,
          quiet,
          Effect.gen(function* () {
            const scheduler = yield* Scheduler
            yield* Effect.forEach(
              Array.from({ length: COUNT }, (_, n) => n),
              (n) =>
                scheduler.add({
                  name: `job ${n}`,
                  instruction: "look",
                  catchUp: rules[n % 3] ?? "once",
                  schedule:
                    n % 2 === 0
                      ? { kind: "every", everyMs: HOUR }
                      : { kind: "cron", expression: "0 * * * *", timezone: "Europe/Berlin" }
                }),
              { concurrency: "unbounded", discard: true }
            )
          })
        )
        yield* TestClock.adjust("210 minutes")
        yield* session(
          file,
          quiet,
          Effect.gen(function* () {
            const scheduler = yield* Scheduler
            const store = yield* Store
            while ((scheduler.status().nextWake?.getTime() ?? 0) < 3.5 * HOUR) yield* turn
            const jobs = scheduler.list()
            expect(jobs).toHaveLength(COUNT)
            const slots = yield* store.find("slots", {})
            const states = new Map<string, Array<string>>()
            for (const { count, job_id, state } of slots) {
              states.set(job_id, [...(states.get(job_id) ?? []), `${count} ${state}`])
            }
            // What is made waits for the next hour: none may run in this one.
            const expected = {
              skip: ["3 skipped"],
              once: ["2 skipped", "1 running"],
              all: ["1 running", "1 running", "1 running"]
            }
            for (const { catchUp, id } of jobs) expect(states.get(id)?.sort()).toEqual([...expected[catchUp]].sort())
            const events = yield* store.find("events", {})
            const made =
              jobs.filter(({ catchUp }) => catchUp === "once").length +
              jobs.filter(({ catchUp }) => catchUp === "all").length * 3
            expect(events).toHaveLength(made)
            expect(new Set(events.map(({ dedupe_key }) => dedupe_key)).size).toBe(made)
          })
        )
      }),
    60_000
  )
})
