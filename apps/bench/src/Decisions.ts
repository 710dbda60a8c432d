import type { Budget, PolicyState } from "@postilion/gateway"
import {
  AdaptiveHeartbeat,
  CostBudget,
  EventMerging,
  type GatewayEvent,
  Moment,
  Policy,
  PolicyEngine,
  RateLimit
} from "@postilion/gateway"
import * as Engine from "@postilion/gateway/harness/PolicyEngine"
import { DateTime, Effect } from "effect"
import { type Row, rate } from "./Report.ts"

const DECISIONS = 2_000_000
const ROUNDS = 5

const custom = ["Freeze", "Region", "Tenant", "Weekend"].map((name, i) =>
  Policy.make(name, {
    priority: 60 + i,
    evaluate: (event) => (event.metadata.stop === name ? Policy.skip(`${name} says so`) : Policy.pass)
  })
)
const policies = [
  AdaptiveHeartbeat.make(),
  CostBudget.make(),
  RateLimit.make(),
  EventMerging.make({ mergeWindowMs: 300_000 }),
  ...custom
]
const budget: Budget = {
  scope: "*",
  unit: "tokens",
  window: "day",
  limit: 100_000,
  used: 10,
  reserved: 20,
  estimate: 1_000,
  resetsAt: new Date(0)
}
const state: PolicyState = {
  now: new Moment(0, DateTime.zoneMakeOffset(0)),
  nextMorning: new Date(0),
  budget,
  budgets: [budget],
  rate: { limit: 30, count: 3, resetsAt: new Date(0) },
  pending: { queued: 0, merging: 0, awaitingApproval: 0, running: 0 },
  heartbeat: { consecutiveSkips: 0, changed: true },
  merge: null,
  approval: null,
  chain: { depth: 0, count: 1 },
  sender: { count: 0 },
  agent: { failures: 0, lastAt: null }
}
/** Half go the whole chain, the others stop at a policy: early, late, or at a merge. */
const events: ReadonlyArray<GatewayEvent> = Array.from({ length: 64 }, (_, i) => ({
  id: `evt_${i}`,
  source: i % 8 === 1 ? "heartbeat" : "webhook",
  timestamp: new Date(0),
  payload: { instruction: "look" },
  priority: i % 16 === 3 ? "critical" : "normal",
  metadata: i % 8 === 5 ? { mergeKey: "k" } : i % 8 === 7 ? { stop: "Weekend" } : {}
}))

/** The same functions, asked in order by a loop, and nothing around them. */
const bare = (): number => {
  let passed = 0
  for (let i = 0; i < DECISIONS; i++) {
    const event = events[i & 63] as GatewayEvent
    let decided = false
    for (const policy of policies) {
      const answer = policy.evaluate(event, state) as unknown as { readonly value: unknown }
      if (answer.value !== null) {
        decided = true
        break
      }
    }
    if (!decided) passed += 1
  }
  return passed
}

const engineLoop = (engine: typeof PolicyEngine.Service): Effect.Effect<number> =>
  Effect.suspend(() => {
    let passed = 0
    let i = 0
    return Effect.as(
      Effect.whileLoop({
        while: () => i < DECISIONS,
        body: () => engine.evaluate(events[i++ & 63] as GatewayEvent, state),
        step: (judged) => {
          if (judged.policy === "default") passed += 1
        }
      }),
      () => passed
    ).pipe(Effect.map((read) => read()))
  })

/** Decisions a second through `PolicyEngine.evaluate`, four built-in and four custom policies, beside a bare loop. */
export const decisions: Effect.Effect<ReadonlyArray<Row>> = Effect.gen(function* () {
  const engine = yield* PolicyEngine
  const rows: Array<Row> = []
  for (let round = 0; round < ROUNDS; round++) {
    const [bareRate, bareCount] = yield* rate(DECISIONS, Effect.sync(bare))
    const [ourRate, ourCount] = yield* rate(DECISIONS, engineLoop(engine))
    if (bareCount !== ourCount) return yield* Effect.dieMessage(`${bareCount} passed bare, ${ourCount} in the engine`)
    rows.push({ name: "decisions in memory (8 policies)", unit: "decisions/s", ours: ourRate, bare: bareRate })
  }
  return rows
}).pipe(Effect.provide(Engine.layer({ policies })), Effect.orDie)
