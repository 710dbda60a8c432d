/** Random histories of a gateway: what tests of backtests replay. */
import {
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
import { Clock, Duration, Effect } from "effect"
import { answerOf, gatewayOn, type Respond } from "./TestGateway.ts"

/** A generator of numbers between 0 and 1 that the seed decides (mulberry32). */
export const dice = (seed: number) => {
  let state = seed >>> 0
  return (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
export type Dice = ReturnType<typeof dice>
export const pick = <A>(roll: Dice, from: readonly [A, ...ReadonlyArray<A>]): A =>
  from[Math.floor(roll() * from.length)] ?? from[0]

const MINUTE = 60_000

/** Time that passes when the test says so. A `TestClock` waits for real milliseconds at each step, which thousands of them feel. */
export class ManualClock implements Clock.Clock {
  readonly [Clock.ClockTypeId]: Clock.ClockTypeId = Clock.ClockTypeId
  private sleepers: Array<{ readonly at: number; readonly wake: () => void }> = []
  private now: number

  constructor(now: number) {
    this.now = now
  }
  unsafeCurrentTimeMillis(): number {
    return this.now
  }
  unsafeCurrentTimeNanos(): bigint {
    return BigInt(this.now) * 1_000_000n
  }
  readonly currentTimeMillis = Effect.sync(() => this.now)
  readonly currentTimeNanos = Effect.sync(() => this.unsafeCurrentTimeNanos())
  sleep(duration: Duration.Duration): Effect.Effect<void> {
    return Effect.async((resume) => {
      // As every clock has it: who does not sleep is not asleep.
      if (Duration.toMillis(duration) <= 0) return resume(Effect.void)
      const sleeper = { at: this.now + Duration.toMillis(duration), wake: () => resume(Effect.void) }
      this.sleepers.push(sleeper)
      return Effect.sync(() => {
        this.sleepers = this.sleepers.filter((other) => other !== sleeper)
      })
    })
  }
  /** Whoever sleeps until then wakes at its time, and gets a few turns of the event loop to act. */
  pass(millis: number): Effect.Effect<void> {
    const to = this.now + millis
    return Effect.gen(this, function* () {
      yield* turns
      while (true) {
        const next = this.sleepers.reduce<number>((least, { at }) => Math.min(least, at), Number.POSITIVE_INFINITY)
        if (next > to) break
        this.now = Math.max(this.now, next)
        const due = this.sleepers.filter(({ at }) => at <= this.now)
        this.sleepers = this.sleepers.filter(({ at }) => at > this.now)
        for (const { wake } of due) wake()
        yield* turns
      }
      this.now = to
    })
  }
}
const turn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))
const turns = Effect.repeatN(turn, 6)

const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"] as const

export const randomConfig = (roll: Dice): GatewayConfigInput => ({
  agents: {
    ops: { budget: { tokensPerHour: pick(roll, [300, 2_000, 100_000]), usdPerDay: pick(roll, [0.01, 1]) } },
    desk: {}
  },
  timezone: pick(roll, ["UTC", "Europe/Berlin", "America/New_York"]),
  prices: { scripted: { inputPerMillion: 3, outputPerMillion: 15 } },
  limits: { onCrash: pick(roll, ["retry", "escalate"]), maxAttempts: 2, approvalTtlMs: pick(roll, [10, 600]) * MINUTE },
  policies: {
    dailyTokenBudget: pick(roll, [2_000, 20_000, "unlimited"]),
    maxActionsPerHour: pick(roll, [3, 20, "unlimited"]),
    heartbeatPolicy: pick(roll, ["adaptive", "conservative", "always"]),
    mergeWindowMs: pick(roll, [1, 5, 90]) * MINUTE,
    approvers: pick(roll, [1, 2]),
    requireApprovalFor: ["deploy"],
    loopGuard: { maxDepth: 2, maxPerMinute: 3 },
    ...(roll() < 0.5 ? { businessHours: { from: "08:00", to: "18:00", days: DAYS } } : {})
  }
})

/** One that queues until something changes, one until the morning, one that thinks before it answers, and one that fails. */
const custom: ReadonlyArray<SchedulingPolicy> = [
  Policy.make("OneAtATime", {
    priority: 33,
    evaluate: ({ metadata }, { pending }) =>
      metadata.alone === true && pending.running > 0 ? Policy.queue({ reason: `${pending.running} run` }) : Policy.pass
  }),
  Policy.make("Morning", {
    priority: 34,
    evaluate: ({ metadata }, { nextMorning, now }) =>
      metadata.morning === true && now.hour !== 9
        ? Policy.queue({ reason: "at nine", until: nextMorning })
        : Policy.pass
  }),
  {
    _tag: "Thinks",
    priority: 35,
    // By the event alone: what it saw when it was asked is not what was seen when it had answered.
    evaluate: ({ metadata, payload }) =>
      metadata.think === true
        ? Effect.promise(() => Promise.resolve(JSON.stringify(payload).includes("7") ? Policy.skip("a seven") : null))
        : Effect.succeed(null)
  },
  {
    _tag: "Fragile",
    priority: 36,
    evaluate: ({ metadata }) => (metadata.fragile === true ? Effect.fail("it broke") : Effect.succeed(null))
  }
]

export const policiesOf = (config: GatewayConfigInput) =>
  Effect.map(decodeConfig(config), (decoded) => [...Gateway.builtInPolicies(decoded), ...custom])

const randomInput = (roll: Dice, causes: ReadonlyArray<string>): RawInput => {
  const source: RawInput["source"] = pick<RawInput["source"]>(roll, [
    "webhook",
    "webhook",
    "webhook",
    "heartbeat",
    "cron",
    "a2a",
    "state-change"
  ])
  const cause = source === "a2a" && causes.length > 0 ? causes[Math.floor(roll() * causes.length)] : undefined
  return {
    source,
    agentId: pick(roll, ["ops", "desk"]),
    priority: pick(roll, ["normal", "normal", "low", "critical"]),
    payload: { text: `do ${Math.floor(roll() * 1_000)}` },
    metadata: {
      ...(roll() < 0.3 ? { mergeKey: pick(roll, ["a", "b"]) } : {}),
      ...(roll() < 0.15 ? { category: "deploy" } : {}),
      ...(roll() < 0.05 ? { alone: true } : {}),
      ...(roll() < 0.05 ? { morning: true } : {}),
      ...(roll() < 0.05 ? { think: true } : {}),
      ...(roll() < 0.03 ? { fragile: true } : {})
    },
    ...(cause === undefined ? {} : { causedBy: cause }),
    ...(roll() < 0.2 ? { sessionKey: pick(roll, ["s", "t"]) } : {})
  }
}

/** A gateway lives for so many events, at their random times, with restarts in between. */
export const live = (
  clock: ManualClock,
  file: string,
  config: GatewayConfigInput,
  roll: Dice,
  events: number,
  restarts: number,
  pace = 0.5
) =>
  Effect.gen(function* () {
    const causes: Array<string> = []
    const respond: Respond = ({ runId }) =>
      Effect.gen(function* () {
        causes.push(runId)
        if (causes.length > 50) causes.shift()
        yield* Effect.sleep(Math.floor(roll() ** 3 * 5 * MINUTE))
        return {
          ...answerOf("done"),
          usage: { inputTokens: Math.floor(roll() * 90), outputTokens: Math.floor(roll() * 30) }
        }
      })
    const each = Math.ceil(events / (restarts + 1))
    for (let n = 0; n <= restarts; n++) {
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const engine = yield* PolicyEngine
        for (const policy of custom) yield* engine.addPolicy(policy)
        for (let i = 0; i < each; i++) {
          yield* gw.submit(randomInput(roll, causes))
          if (roll() < pace) yield* clock.pass(Math.floor(roll() ** 4 * 60 * MINUTE))
          if (roll() > 0.1) continue
          const [waiting] = yield* gw.approvals
          if (waiting === undefined) continue
          const by = pick(roll, ["ada", "bob", "eve"])
          const answer = roll() < 0.8 ? gw.approve(waiting.id, by) : gw.deny(waiting.id, by)
          // What is asked about may have changed meanwhile: then it is asked anew.
          yield* Effect.catchTag(answer, "GatewayError", () => Effect.void)
        }
      }).pipe(Effect.provide(gatewayOn(file, config, respond)), Effect.scoped, Effect.withClock(clock))
      yield* clock.pass(Math.floor(roll() * 120 * MINUTE))
    }
  })

/** How many decisions the audit knows of. */
export const decisionsIn = Effect.gen(function* () {
  const store = yield* Store
  return (yield* store.find("audit", { columns: ["seq"], where: { kind: "event.decided" } })).length
})
