import { describe, expect, it } from "@effect/vitest"
import {
  Backtest,
  decodeConfig,
  Gateway,
  type GatewayConfigInput,
  GatewayService,
  Policy,
  PolicyEngine,
  type RawInput,
  type SchedulingPolicy,
  Store
} from "@postilion/gateway"
import { Effect } from "effect"
import { type Dice, dice, ManualClock, pick } from "./BacktestHistory.ts"
import { answerOf, gatewayOn, sqlite, tempFile } from "./TestGateway.ts"

const START = Date.UTC(2026, 2, 28, 7)
const EVENTS = 250

/** The same for every gateway: at no time does more than one thing happen. */
const inputs = (roll: Dice): ReadonlyArray<{ readonly input: RawInput; readonly after: number }> =>
  Array.from({ length: EVENTS }, (_, n) => ({
    input: {
      source: pick<RawInput["source"]>(roll, ["webhook", "webhook", "webhook", "heartbeat", "cron"]),
      priority: pick(roll, ["normal", "normal", "normal", "critical"]),
      payload: { n },
      metadata: {
        n,
        ...(roll() < 0.3 ? { mergeKey: pick(roll, ["a", "b"]) } : {}),
        ...(roll() < 0.1 ? { type: "deployment" } : {})
      }
    },
    after: 60_000 + Math.floor(roll() ** 3 * 900_000)
  }))

interface Lived {
  /** What was decided on each event, in order: action and policy. */
  readonly decisions: ReadonlyArray<ReadonlyArray<string>>
  readonly ids: ReadonlyArray<string>
  readonly runs: number
  readonly until: number
}

/** What becomes of the inputs in a gateway with these policies. Every run takes seven seconds and a hundred tokens. */
const live = (file: string, config: GatewayConfigInput, policies: ReadonlyArray<SchedulingPolicy>, seed: number) =>
  Effect.gen(function* () {
    const clock = new ManualClock(START)
    return yield* Effect.gen(function* () {
      const gw = yield* GatewayService
      const engine = yield* PolicyEngine
      for (const { _tag } of engine.policies) yield* engine.removePolicy(_tag)
      for (const policy of policies) yield* engine.addPolicy(policy)
      const ids: Array<string> = []
      for (const { after, input } of inputs(dice(seed))) {
        ids.push((yield* gw.submit(input)).eventId)
        yield* clock.pass(after)
      }
      const decisions = yield* Effect.forEach(ids, (id) =>
        Effect.map(
          gw.explain(id),
          (found) => found?.decisions.map(({ action, policy }) => `${action} by ${policy}`) ?? []
        )
      )
      const store = yield* Store
      const runs = (yield* store.find("runs", {})).length
      return { decisions, ids, runs, until: clock.unsafeCurrentTimeMillis() } satisfies Lived
    }).pipe(
      Effect.provide(gatewayOn(file, config, () => Effect.as(Effect.sleep("7 seconds"), answerOf("done")))),
      Effect.scoped,
      Effect.withClock(clock)
    )
  })

/** The events on which the first decisions that differ are these. */
const differences = (recorded: Lived, other: Lived): ReadonlyArray<string> =>
  recorded.ids.flatMap((id, n) => {
    const [was, is] = [recorded.decisions[n] ?? [], other.decisions[n] ?? []]
    const first = was.findIndex((decision, i) => decision !== is[i])
    return first === -1 || is[first] === undefined ? [] : [`${id}: ${is[first]}, was ${was[first]}`]
  })

const config = {
  policies: { maxActionsPerHour: 4, dailyTokenBudget: 6_000, mergeWindowMs: 300_000, heartbeatPolicy: "adaptive" },
  limits: { approvalTtlMs: 3_600_000 }
} as const
const freeze = Policy.make("Freeze", {
  priority: 15,
  evaluate: ({ metadata }, { nextMorning, now }) =>
    metadata.type === "deployment" && now.hour !== 9
      ? Policy.queue({ reason: "at nine", until: nextMorning })
      : Policy.pass
})
const changes: Record<string, (policies: ReadonlyArray<SchedulingPolicy>) => ReadonlyArray<SchedulingPolicy>> = {
  "without the rate limit": (policies) => policies.filter(({ _tag }) => _tag !== "RateLimit"),
  "without merging": (policies) => policies.filter(({ _tag }) => _tag !== "EventMerging"),
  "with a freeze": (policies) => [...policies, freeze],
  "with heartbeats that always fire": (policies) => policies.filter(({ _tag }) => _tag !== "AdaptiveHeartbeat"),
  "with a person in the way": (policies) => [
    ...policies,
    Policy.make("Careful", {
      priority: 25,
      evaluate: ({ metadata }, { approval }) =>
        metadata.type === "deployment" && approval === null ? Policy.escalate("careful") : Policy.pass
    })
  ]
}

describe("a backtest of other policies", () => {
  for (const [name, change] of Object.entries(changes)) {
    for (const seed of [1, 2]) {
      it.scoped(
        `says what a gateway ${name} decides on the same events (seed ${seed})`,
        () =>
          Effect.gen(function* () {
            const policies = Gateway.builtInPolicies(yield* decodeConfig(config))
            const others = change(policies)
            const [file, otherFile] = [yield* tempFile, yield* tempFile]
            const recorded = yield* live(file, config, policies, seed)
            const other = yield* live(otherFile, config, others, seed)
            const report = yield* Backtest.run({ policies: others, config, examples: EVENTS }).pipe(
              Effect.provide(sqlite(file)),
              Effect.withClock(new ManualClock(recorded.until))
            )
            const found = report.examples.map(
              ({ eventId, recorded, replayed }) =>
                `${eventId}: ${replayed.action} by ${replayed.policy}, was ${recorded.action} by ${recorded.policy}`
            )
            // Into another window is another decision, but by the same policy.
            const told = found.filter((line) => !line.includes("merge by EventMerging, was merge by EventMerging"))
            expect(differences(recorded, other).length).toBeGreaterThan(3)
            expect([...told].sort()).toEqual([...differences(recorded, other)].sort())
            expect(report.recorded.modelCalls).toBe(recorded.runs)
            expect(report.replayed.modelCalls).toBe(other.runs)
          }),
        60_000
      )
    }
  }
})
