import { describe, expect, it } from "@effect/vitest"
import { AuditLog, Gateway, GatewayService, Policy, PolicyEngine, type SchedulingPolicy } from "@postilion/gateway"
import type { Budget } from "@postilion/gateway/domain/Budget"
import { Moment, parseZone } from "@postilion/gateway/domain/Calendar"
import { AccessControlConfig, type GatewayConfigInput } from "@postilion/gateway/domain/Config"
import { EventPriority, type GatewayEvent } from "@postilion/gateway/domain/GatewayEvent"
import type { HoursConfig } from "@postilion/gateway/domain/PolicyConfig"
import type { PolicyDecision } from "@postilion/gateway/domain/PolicyDecision"
import type { PolicyState } from "@postilion/gateway/domain/PolicyState"
import * as AccessControl from "@postilion/gateway/harness/AccessControl"
import * as Engine from "@postilion/gateway/harness/PolicyEngine"
import * as AdaptiveHeartbeat from "@postilion/gateway/harness/policies/AdaptiveHeartbeat"
import * as BusinessHours from "@postilion/gateway/harness/policies/BusinessHours"
import * as CostBudget from "@postilion/gateway/harness/policies/CostBudget"
import * as EventMerging from "@postilion/gateway/harness/policies/EventMerging"
import * as RateLimit from "@postilion/gateway/harness/policies/RateLimit"
import * as RequireApproval from "@postilion/gateway/harness/policies/RequireApproval"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Deferred, Duration, Effect, Fiber, FastCheck as fc, Schema, TestClock } from "effect"
import { gateway, watch } from "./TestGateway.ts"

const event = (change: Partial<GatewayEvent> = {}): GatewayEvent => ({
  id: "evt_1",
  source: "webhook",
  timestamp: new Date(0),
  agentId: "agent",
  payload: {},
  priority: "normal",
  metadata: {},
  ...change
})

const at = (iso: string, zone = "UTC"): Moment => {
  const found = parseZone(zone)
  if (found === undefined) throw new Error(`no zone ${zone}`)
  return new Moment(Date.parse(iso), found)
}

/** The day's tokens, unless the change says otherwise. */
const budget = (change: Partial<Budget> = {}): Budget => ({
  scope: "*",
  unit: "tokens",
  window: "day",
  limit: 1000,
  used: 0,
  reserved: 0,
  estimate: 100,
  resetsAt: new Date("2024-06-04T00:00:00Z"),
  ...change
})
const state = (change: Partial<PolicyState> = {}): PolicyState => ({
  now: at("2024-06-03T12:00:00Z"),
  nextMorning: new Date("2024-06-04T09:00:00Z"),
  budget: budget(),
  budgets: [budget()],
  rate: { limit: 30, count: 0, resetsAt: new Date("2024-06-03T13:00:00Z") },
  pending: { queued: 0, merging: 0, awaitingApproval: 0, running: 0 },
  heartbeat: { consecutiveSkips: 0, changed: false },
  merge: null,
  approval: null,
  chain: { depth: 0, count: 1 },
  sender: { count: 0 },
  agent: { failures: 0, lastAt: null },
  ...change
})

/** What a policy that answers at once answers. */
const ask = (policy: SchedulingPolicy, of: GatewayEvent, seen: PolicyState = state()): PolicyDecision | null =>
  Effect.runSync(policy.evaluate(of, seen) as Effect.Effect<PolicyDecision | null>)

const judge = (policies: ReadonlyArray<SchedulingPolicy>, of: GatewayEvent = event(), seen: PolicyState = state()) =>
  Effect.flatMap(Engine.make({ policies }), (engine) => engine.evaluate(of, seen))

describe("the chain", () => {
  type Behaviour = "pass" | "execute" | "queue" | "skip" | "merge" | "escalate" | "fail" | "die" | "throw" | "later"
  const behaviours: ReadonlyArray<Behaviour> = [
    "pass",
    "execute",
    "queue",
    "skip",
    "merge",
    "escalate",
    "fail",
    "die",
    "throw",
    "later"
  ]
  const decisionOf = (behaviour: Behaviour): PolicyDecision | null => {
    switch (behaviour) {
      case "execute":
        return Policy.execute("do it")
      case "queue":
        return Policy.queue({ reason: "busy" })
      case "skip":
      case "later":
        return Policy.skip("no")
      case "merge":
        return Policy.merge({ mergeKey: "k" })
      case "escalate":
        return Policy.escalate("ask")
      default:
        return null
    }
  }
  const policyOf = (behaviour: Behaviour, priority: number, index: number): SchedulingPolicy => ({
    _tag: `P${index}`,
    priority,
    evaluate: () => {
      switch (behaviour) {
        case "fail":
          return Effect.fail("boom")
        case "die":
          return Effect.die(new Error("boom"))
        case "throw":
          throw new Error("boom")
        case "later":
          return Effect.as(Effect.yieldNow(), decisionOf(behaviour))
        default:
          return Effect.succeed(decisionOf(behaviour))
      }
    }
  })

  it.effect.prop(
    "by priority, then as added; the first non-null decides; none is execute; a failure escalates",
    { chain: fc.array(fc.tuple(fc.constantFrom(...behaviours), fc.integer({ min: -3, max: 3 })), { maxLength: 12 }) },
    ({ chain }) =>
      Effect.gen(function* () {
        const policies = chain.map(([behaviour, priority], i) => ({ behaviour, priority, tag: `P${i}` }))
        // The reference.
        const order = policies
          .map((policy, i) => ({ ...policy, i }))
          .sort((a, b) => a.priority - b.priority || a.i - b.i)
        const decider = order.findIndex(({ behaviour }) => behaviour !== "pass")
        const { behaviour, tag } = order[decider] ?? { behaviour: "execute", tag: "default" }
        const action = ["fail", "die", "throw"].includes(behaviour)
          ? "escalate"
          : behaviour === "later"
            ? "skip"
            : behaviour
        const passed = order.slice(0, decider === -1 ? order.length : decider).map((policy) => policy.tag)

        const judged = yield* judge(policies.map((p, i) => policyOf(p.behaviour, p.priority, i)))
        expect({ action: judged.decision.action, policy: judged.policy, passed: judged.passed }).toEqual({
          action,
          policy: tag,
          passed
        })
        if (["fail", "die", "throw"].includes(behaviour)) {
          expect(judged.decision).toEqual(Policy.escalate(`policy ${tag} failed: boom`))
        }
      })
  )

  it.effect.prop(
    "critical events bypass the cost and the rate limit, and others never do",
    {
      priority: fc.constantFrom(...EventPriority.literals),
      used: fc.integer({ min: 0, max: 2000 }),
      reserved: fc.integer({ min: 0, max: 2000 }),
      count: fc.integer({ min: 0, max: 60 })
    },
    ({ count, priority, reserved, used }) =>
      Effect.gen(function* () {
        const seen = state({ budgets: [budget({ used, reserved })], rate: { ...state().rate, count } })
        const judged = yield* judge([RateLimit.make(), CostBudget.make()], event({ priority }), seen)
        const fits = used + reserved + 100 <= 1000
        expect(judged.policy).toBe(
          priority === "critical" || (fits && count < 30) ? "default" : fits ? "RateLimit" : "CostBudget"
        )
      })
  )

  it.effect("what is not a decision escalates, and says what it was", () =>
    Effect.gen(function* () {
      const answers: ReadonlyArray<readonly [unknown, RegExp]> = [
        ["skip", /unknown action "undefined"/],
        [{ action: "explode" }, /unknown action "explode"/],
        [{ action: "execute" }, /execute.*taskDescription/],
        [{ action: "execute", taskDescription: 7 }, /execute.*taskDescription/],
        [{ action: "skip" }, /skip.*reason/],
        [{ action: "escalate" }, /escalate.*reason/],
        [{ action: "queue", reason: "later", until: "tomorrow" }, /queue.*until/],
        [{ action: "queue", reason: "later", until: new Date(Number.NaN) }, /queue.*until/],
        [{ action: "merge" }, /merge.*mergeKey/],
        [{ action: "merge", mergeKey: "k", windowMs: Number.NaN }, /merge.*windowMs/]
      ]
      for (const [answer, reason] of answers) {
        const wrong: SchedulingPolicy = {
          _tag: "Wrong",
          priority: 1,
          evaluate: () => Effect.succeed(answer as PolicyDecision)
        }
        const { decision, policy } = yield* judge([wrong])
        expect(policy).toBe("Wrong")
        expect(decision).toMatchObject({ action: "escalate", reason: expect.stringMatching(reason) })
      }
    })
  )

  it.effect("a policy that returns no Effect escalates", () =>
    Effect.gen(function* () {
      for (const returned of [undefined, null, Policy.skip("no"), 42]) {
        const wrong: SchedulingPolicy = {
          _tag: "Wrong",
          priority: 1,
          evaluate: () => returned as unknown as Effect.Effect<null>
        }
        expect(yield* judge([wrong])).toMatchObject({
          policy: "Wrong",
          decision: { action: "escalate", reason: expect.stringContaining("policy Wrong failed") }
        })
      }
    })
  )

  it.effect("a policy that never answers escalates after its timeout, and is interrupted", () =>
    Effect.gen(function* () {
      const interrupted = yield* Deferred.make<void>()
      const engine = yield* Engine.make({ policyTimeoutMs: 2_000 })
      yield* engine.addPolicy({
        _tag: "Silent",
        priority: 1,
        evaluate: () => Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
      })
      const judging = yield* Effect.fork(engine.evaluate(event(), state()))
      yield* TestClock.adjust("2 seconds")
      expect(yield* Fiber.join(judging)).toMatchObject({
        policy: "Silent",
        decision: Policy.escalate("policy Silent failed: no answer within 2000 ms")
      })
      yield* Deferred.await(interrupted)
    })
  )

  it.effect("each policy is asked once, and an asynchronous answer is kept while the others are asked again", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const slow = (name: string, priority: number): SchedulingPolicy => ({
        _tag: name,
        priority,
        evaluate: () =>
          Effect.sync(() => asked.push(name)).pipe(Effect.zipRight(Effect.yieldNow()), Effect.as(Policy.pass))
      })
      const judged = yield* judge([slow("A", 1), slow("B", 2), slow("C", 3)])
      expect(asked).toEqual(["A", "B", "C"])
      expect(judged).toMatchObject({ policy: "default", passed: ["A", "B", "C"] })
    })
  )
})

describe("changing the chain", () => {
  const named = (tag: string, priority = 1) => Policy.make(tag, { priority, evaluate: () => Policy.pass })

  it.effect("refuses a second policy of one name, a priority that is no number, and a policy without a name", () =>
    Effect.gen(function* () {
      const engine = yield* Engine.make({ policies: [named("A")] })
      const refusals: ReadonlyArray<readonly [SchedulingPolicy, RegExp]> = [
        [named("A", 9), /policy "A".*there already/],
        [named("B", Number.NaN), /policy "B".*priority is NaN/],
        [named("C", Number.POSITIVE_INFINITY), /policy "C".*priority is Infinity/],
        [named(""), /needs a _tag of its own/],
        [named("default"), /needs a _tag of its own/]
      ]
      for (const [policy, message] of refusals) {
        const error = yield* Effect.flip(engine.addPolicy(policy))
        expect(error._tag).toBe("GatewayConfigError")
        expect(error.message).toMatch(message)
      }
      expect(engine.policies.map(({ _tag }) => _tag)).toEqual(["A"])
    })
  )

  it.effect("removing one that is not there names those that are", () =>
    Effect.gen(function* () {
      const engine = yield* Engine.make({ policies: [named("B", 2), named("A", 1)] })
      const error = yield* Effect.flip(engine.removePolicy("Z"))
      expect(error.message).toBe('there is no policy "Z"; policies: A, B')
      yield* engine.removePolicy("A")
      yield* engine.removePolicy("B")
      expect((yield* Effect.flip(engine.removePolicy("B"))).message).toContain("policies: none")
    })
  )

  it.scoped("a change is in the audit", () =>
    Effect.gen(function* () {
      const engine = yield* PolicyEngine
      const audit = yield* AuditLog
      const gw = yield* GatewayService
      yield* engine.addPolicy(named("Mine", 7))
      const { eventId } = yield* gw.submit({ source: "state-change", payload: null })
      yield* gw.outcome(eventId)
      const [change] = yield* audit.query({ kind: "policy.changed" })
      expect(change?.data.policies).toContainEqual({ policy: "Mine", priority: 7 })
    }).pipe(Effect.provide(Gateway.layerTest()))
  )
})

describe("policies in a whole gateway", () => {
  const asyncPolicy = (
    priority: number,
    gate: Effect.Effect<unknown>,
    answer: PolicyDecision | null = Policy.pass
  ) => ({
    _tag: "Slow",
    priority,
    evaluate: () => Effect.as(gate, answer)
  })
  const unlimited: GatewayConfigInput = { policies: { maxActionsPerHour: "unlimited" } }

  it.scoped("an event a policy thinks about is accepted first, decided once, and counted as undecided meanwhile", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const engine = yield* PolicyEngine
      const audit = yield* AuditLog
      const gate = yield* Deferred.make<void>()
      yield* engine.addPolicy(asyncPolicy(60, Deferred.await(gate)))
      const { decision, eventId } = yield* gw.submit({ source: "webhook", payload: {} })
      expect(decision).toBeUndefined()
      expect(yield* gw.find(eventId)).toMatchObject({ state: "accepted", decision: undefined, run: undefined })
      expect((yield* gw.status()).pending.undecided).toBe(1)
      yield* Deferred.succeed(gate, undefined)
      expect(yield* gw.outcome(eventId)).toMatchObject({ state: "executed", policy: "default" })
      expect((yield* audit.query({ eventId })).map(({ kind }) => kind)).toEqual([
        "event.accepted",
        "event.decided",
        "run.started",
        "run.ended"
      ])
      expect((yield* gw.status()).pending.undecided).toBe(0)
    }).pipe(Effect.provide(Gateway.layerTest()))
  )

  it.scoped("the budget is checked when an asynchronous chain ends: 50 at once against a budget for 5: 5 runs", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const engine = yield* PolicyEngine
      const audit = yield* AuditLog
      const gate = yield* Deferred.make<void>()
      yield* engine.addPolicy(asyncPolicy(60, Deferred.await(gate)))
      const receipts = yield* Effect.forEach(
        Array.from({ length: 50 }, (_, n) => n),
        (n) => gw.submit({ source: "webhook", payload: { n } }),
        { concurrency: "unbounded" }
      )
      expect((yield* gw.status()).pending.undecided).toBe(50)
      yield* Deferred.succeed(gate, undefined)
      const records = yield* Effect.forEach(receipts, ({ eventId }) => gw.outcome(eventId), {
        concurrency: "unbounded"
      })
      expect(records.filter(({ state }) => state === "executed")).toHaveLength(5)
      expect(records.filter(({ policy, state }) => state === "suppressed" && policy === "CostBudget")).toHaveLength(45)
      expect(yield* audit.query({ kind: "event.decided" })).toHaveLength(50)
      expect((yield* gw.status()).budget).toMatchObject({ used: 500, reserved: 0 })
    }).pipe(
      Effect.provide(gateway({ policies: { ...unlimited.policies, dailyTokenBudget: 500 } })),
      Effect.provide(StoreMemory.layer)
    )
  )

  it.scoped(
    "a policy that never answers, fails, dies or answers nonsense leaves a person to decide; others go on",
    () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const engine = yield* PolicyEngine
        const told = yield* watch
        const when = (kind: string, evaluate: SchedulingPolicy["evaluate"]): SchedulingPolicy => ({
          _tag: kind,
          priority: 1,
          evaluate: (of, seen) => (of.metadata.kind === kind ? evaluate(of, seen) : Effect.succeed(null))
        })
        const kinds: Record<string, SchedulingPolicy["evaluate"]> = {
          Fails: () => Effect.fail(new Error("no answer from CRM")),
          Dies: () => Effect.die("out of luck"),
          Throws: () => {
            throw new TypeError("undefined is not a function")
          },
          Nonsense: () => Effect.succeed({ action: "execute" } as PolicyDecision),
          Silent: () => Effect.never
        }
        for (const [kind, evaluate] of Object.entries(kinds)) yield* engine.addPolicy(when(kind, evaluate))
        const names = [...Object.keys(kinds), "Fine"]
        const receipts = yield* Effect.forEach(
          names,
          (kind) => gw.submit({ source: "webhook", payload: {}, metadata: { kind } }),
          { concurrency: "unbounded" }
        )
        yield* TestClock.adjust("5 seconds")
        yield* told.until("ApprovalRequested", 5)
        const approvals = yield* gw.approvals
        expect(new Map(approvals.map(({ policy, reason }) => [policy, reason]))).toEqual(
          new Map([
            ["Fails", "policy Fails failed: no answer from CRM"],
            ["Dies", "policy Dies failed: out of luck"],
            ["Throws", "policy Throws failed: undefined is not a function"],
            ["Nonsense", expect.stringContaining("taskDescription")],
            ["Silent", "policy Silent failed: no answer within 5000 ms"]
          ])
        )
        expect(yield* gw.outcome(receipts.at(-1)?.eventId ?? "")).toMatchObject({ state: "executed" })
        expect((yield* gw.status()).stats.actionsEscalated).toBe(5)
      }).pipe(Effect.provide(Gateway.layerTest()))
  )

  it.scoped("an event queued until a time that has passed is judged again once a minute, not without end", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const engine = yield* PolicyEngine
      let asked = 0
      const late = Policy.make("Late", {
        priority: 1,
        evaluate: () => {
          asked += 1
          return asked < 4 ? Policy.queue({ reason: "too late", until: new Date(0) }) : Policy.pass
        }
      })
      yield* engine.addPolicy(late)
      const { decision, eventId } = yield* gw.submit({ source: "webhook", payload: {} })
      expect(decision).toBe("queue")
      yield* TestClock.adjust("1 minute")
      yield* TestClock.adjust("1 minute")
      expect((yield* gw.find(eventId))?.state).toBe("deferred")
      yield* TestClock.adjust("1 minute")
      expect(yield* gw.outcome(eventId)).toMatchObject({ state: "executed", policy: "default" })
      expect(asked).toBe(4)
    }).pipe(Effect.provide(Gateway.layerTest()))
  )

  it.scoped("an approved event is not escalated again by the policy that fails", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const engine = yield* PolicyEngine
      yield* engine.addPolicy({ _tag: "Fails", priority: 1, evaluate: () => Effect.fail("down") })
      const { eventId } = yield* gw.submit({ source: "webhook", payload: {} })
      const [approval] = yield* gw.approvals
      yield* gw.approve(approval?.id ?? "", "ada")
      expect(yield* gw.outcome(eventId)).toMatchObject({ state: "executed", policy: "Fails" })
    }).pipe(Effect.provide(Gateway.layerTest()))
  )

  it.scoped("a merged burst that the rate limit stops when its window closes waits for the next hour as one", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const told = yield* watch
      yield* TestClock.adjust("58 minutes")
      const first = yield* gw.submit({ source: "state-change", payload: null })
      const burst = yield* Effect.forEach([1, 2, 3], (n) =>
        gw.submit({ source: "webhook", payload: { n }, metadata: { mergeKey: "k" } })
      )
      // The hour's one action is used up, so the burst is stopped before it could merge: by the rate limit, at 30.
      expect([first, ...burst].map(({ decision }) => decision)).toEqual(["execute", "queue", "queue", "queue"])
      yield* TestClock.adjust("2 minutes")
      yield* TestClock.adjust("5 minutes")
      const [done] = yield* Effect.forEach(burst, ({ eventId }) => gw.outcome(eventId))
      expect(done?.run?.text).toContain("Handle these 3 events together (k)")
      expect(told.all("EventsMerged")).toHaveLength(1)
    }).pipe(Effect.provide(Gateway.layerTest({ policies: { maxActionsPerHour: 1 } })))
  )
})

describe("AdaptiveHeartbeat", () => {
  const tick = (metadata: AdaptiveHeartbeat.HeartbeatMetadata = {}) =>
    event({ source: "heartbeat", metadata: { ...metadata } })
  const quiet = state()
  const changed = state({ heartbeat: { consecutiveSkips: 0, changed: true } })
  const busy = (what: keyof PolicyState["pending"]) => state({ pending: { ...state().pending, [what]: 1 } })

  it("adaptive skips when nothing has changed and nothing is pending", () => {
    const policy = AdaptiveHeartbeat.make()
    expect(ask(policy, tick(), quiet)).toEqual(Policy.skip("nothing has changed since the last tick"))
    expect(ask(policy, tick(), changed)).toBeNull()
    for (const what of ["queued", "merging"] as const) expect(ask(policy, tick(), busy(what))).toBeNull()
    // Neither is anything the agent could see to.
    for (const what of ["awaitingApproval", "running"] as const) {
      expect(ask(policy, tick(), busy(what))).not.toBeNull()
    }
  })

  it("conservative fires only when something is pending", () => {
    const policy = AdaptiveHeartbeat.make({ policy: "conservative" })
    expect(ask(policy, tick(), changed)).toEqual(Policy.skip("nothing is pending"))
    expect(ask(policy, tick(), busy("queued"))).toBeNull()
  })

  it("always fires, and what the tick says of itself counts more than the policy's own", () => {
    expect(ask(AdaptiveHeartbeat.make({ policy: "always" }), tick(), quiet)).toBeNull()
    expect(
      ask(AdaptiveHeartbeat.make({ policy: "conservative" }), tick({ heartbeatPolicy: "always" }), quiet)
    ).toBeNull()
  })

  it("fires after so many skips in a row, whatever the policy", () => {
    const skipped = (consecutiveSkips: number) => state({ heartbeat: { consecutiveSkips, changed: false } })
    for (const policy of ["adaptive", "conservative"] as const) {
      expect(ask(AdaptiveHeartbeat.make({ policy }), tick(), skipped(5))).not.toBeNull()
      expect(ask(AdaptiveHeartbeat.make({ policy }), tick(), skipped(6))).toBeNull()
      expect(ask(AdaptiveHeartbeat.make({ policy }), tick({ maxConsecutiveSkips: 2 }), skipped(2))).toBeNull()
      expect(ask(AdaptiveHeartbeat.make({ policy, maxConsecutiveSkips: 0 }), tick(), skipped(0))).toBeNull()
    }
  })

  it("leaves everything but heartbeats alone", () => {
    expect(ask(AdaptiveHeartbeat.make(), event(), quiet)).toBeNull()
  })
})

describe("CostBudget", () => {
  const of = (used: number, reserved: number, limit: number | null = 1000) =>
    state({ budgets: [budget({ used, reserved, limit })] })

  it("counts what runs under way may still use", () => {
    const policy = CostBudget.make()
    expect(ask(policy, event(), of(900, 0))).toBeNull()
    expect(ask(policy, event(), of(901, 0))).toEqual(
      Policy.skip("daily token budget: 901 used of 1000, this one may need 100")
    )
    expect(ask(policy, event(), of(500, 401))).toEqual(
      Policy.skip("daily token budget: 500 used and 401 reserved of 1000, this one may need 100")
    )
  })

  it("lets critical events and an unlimited budget pass", () => {
    expect(ask(CostBudget.make(), event({ priority: "critical" }), of(5000, 0))).toBeNull()
    expect(ask(CostBudget.make(), event(), of(5000, 0, null))).toBeNull()
  })
})

describe("RateLimit", () => {
  const full = state({ rate: { limit: 30, count: 30, resetsAt: new Date("2024-06-03T13:00:00Z") } })

  it("keeps events for the next hour, and skips heartbeats", () => {
    const policy = RateLimit.make()
    const reason = "rate limit: 30 of 30 actions this hour"
    expect(ask(policy, event(), full)).toEqual(Policy.queue({ reason, until: new Date("2024-06-03T13:00:00Z") }))
    expect(ask(policy, event({ source: "heartbeat" }), full)).toEqual(Policy.skip(reason))
    expect(ask(policy, event({ priority: "critical" }), full)).toBeNull()
    expect(ask(policy, event(), state({ rate: { ...full.rate, limit: null } }))).toBeNull()
    expect(ask(policy, event(), state({ rate: { ...full.rate, count: 29 } }))).toBeNull()
  })
})

describe("RequireApproval", () => {
  const policy = RequireApproval.make(["deploy", "pull_request.closed"])

  it("stops what is of the category, by category or type, whatever the priority", () => {
    const stopped: ReadonlyArray<Partial<GatewayEvent>> = [
      { metadata: { category: "deploy" } },
      { metadata: { type: "deploy" } },
      { metadata: { type: "deploy.production" } },
      { metadata: { type: "pull_request.closed" } },
      { metadata: { category: "deploy" }, priority: "critical" }
    ]
    for (const change of stopped) expect(ask(policy, event(change))).toMatchObject({ action: "escalate" })
  })

  it("lets the rest pass, and what a person has approved", () => {
    for (const metadata of [
      {},
      { type: "deployment" },
      { type: "pull_request.opened" },
      { category: "Deploy" },
      { type: 5 }
    ]) {
      expect(ask(policy, event({ metadata }))).toBeNull()
    }
    const approved = state({ approval: { id: "apr_1", by: "ada" } })
    expect(ask(policy, event({ metadata: { category: "deploy" } }), approved)).toBeNull()
  })
})

describe("EventMerging", () => {
  const policy = EventMerging.make({ mergeWindowMs: 1234 })

  it("holds events of one key, but none that is critical, without a key, or merged already", () => {
    const metadata = { mergeKey: "prs" }
    expect(ask(policy, event({ metadata }))).toEqual({ action: "merge", mergeKey: "prs", windowMs: 1234 })
    expect(ask(policy, event({ metadata, priority: "critical" }))).toBeNull()
    expect(ask(policy, event({ metadata: { mergeKey: 5 } }))).toBeNull()
    expect(ask(policy, event())).toBeNull()
    expect(ask(policy, event({ metadata }), state({ merge: { key: "prs", count: 3 } }))).toBeNull()
  })
})

describe("BusinessHours", () => {
  const week: HoursConfig = {
    from: "09:00",
    to: "17:00",
    days: ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
  }
  const next = (hours: HoursConfig, iso: string, zone?: string): string => {
    const opening = BusinessHours.openingOf(hours, at(iso, zone))
    return opening.open ? "open" : opening.next.toISOString()
  }

  it("is open from, and not at, the hours' ends; else until the next opening", () => {
    // 2024-06-03 is a Monday.
    expect(next(week, "2024-06-03T08:59:59Z")).toBe("2024-06-03T09:00:00.000Z")
    expect(next(week, "2024-06-03T09:00:00Z")).toBe("open")
    expect(next(week, "2024-06-03T16:59:59Z")).toBe("open")
    expect(next(week, "2024-06-03T17:00:00Z")).toBe("2024-06-04T09:00:00.000Z")
  })

  it("on a weekend, waits for Monday", () => {
    expect(next(week, "2024-06-07T17:00:00Z")).toBe("2024-06-10T09:00:00.000Z")
    expect(next(week, "2024-06-08T12:00:00Z")).toBe("2024-06-10T09:00:00.000Z")
    expect(next(week, "2024-06-09T23:59:00Z")).toBe("2024-06-10T09:00:00.000Z")
  })

  it("reads the clock of the gateway's zone", () => {
    expect(next(week, "2024-06-03T07:00:00Z", "Europe/Berlin")).toBe("open")
    expect(next(week, "2024-06-03T15:00:00Z", "Europe/Berlin")).toBe("2024-06-04T07:00:00.000Z")
    expect(next(week, "2024-06-03T12:59:00Z", "America/New_York")).toBe("2024-06-03T13:00:00.000Z")
  })

  it("across a clock change, opens by the new clock", () => {
    // Friday evening before the spring change; Monday is in summer time.
    expect(next(week, "2024-03-29T18:00:00Z", "Europe/Berlin")).toBe("2024-04-01T07:00:00.000Z")
    expect(next(week, "2024-10-25T18:00:00Z", "Europe/Berlin")).toBe("2024-10-28T08:00:00.000Z")
  })

  it("hours past midnight belong to the day they began on", () => {
    const night: HoursConfig = { from: "22:00", to: "06:00", days: ["Friday"] }
    expect(next(night, "2024-06-07T21:59:00Z")).toBe("2024-06-07T22:00:00.000Z")
    expect(next(night, "2024-06-07T22:00:00Z")).toBe("open")
    expect(next(night, "2024-06-08T05:59:00Z")).toBe("open")
    expect(next(night, "2024-06-08T06:00:00Z")).toBe("2024-06-14T22:00:00.000Z")
    expect(next(night, "2024-06-07T03:00:00Z")).toBe("2024-06-07T22:00:00.000Z")
  })

  it("a whole day is 00:00 to 24:00", () => {
    const always: HoursConfig = { from: "00:00", to: "24:00", days: ["Monday"] }
    expect(next(always, "2024-06-03T23:59:59Z")).toBe("open")
    expect(next(always, "2024-06-04T00:00:00Z")).toBe("2024-06-10T00:00:00.000Z")
  })

  it("the next opening is later than now, on every day of a year, in zones that change their clocks", () => {
    const minute = fc.integer({ min: 0, max: 1439 })
    const text = (minutes: number) =>
      `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`
    const zones = [
      "UTC",
      "Europe/Berlin",
      "America/New_York",
      "America/Sao_Paulo",
      "Africa/Cairo",
      "Australia/Lord_Howe"
    ]
    const days = fc.subarray(["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"] as const, {
      minLength: 1
    })
    fc.assert(
      fc.property(
        fc.tuple(minute, minute, days),
        fc.constantFrom(...zones),
        fc.integer({ min: Date.parse("2017-12-31T00:00:00Z"), max: Date.parse("2019-01-01T00:00:00Z") }),
        ([from, to, days], zone, now) => {
          const hours: HoursConfig = { from: text(from), to: text(to), days }
          const opening = BusinessHours.openingOf(hours, at(new Date(now).toISOString(), zone))
          if (opening.open) return
          expect(opening.next.getTime()).toBeGreaterThan(now)
          expect(opening.next.getTime() - now).toBeLessThanOrEqual(Duration.toMillis("8 days") + 3_600_000)
        }
      ),
      { numRuns: 2_000 }
    )
  })

  it("keeps events for the opening, skips heartbeats, and lets critical events pass", () => {
    const policy = BusinessHours.make(week)
    const closed = state({ now: at("2024-06-08T12:00:00Z") })
    const reason = "outside business hours (09:00 to 17:00)"
    expect(ask(policy, event(), closed)).toEqual(Policy.queue({ reason, until: new Date("2024-06-10T09:00:00Z") }))
    expect(ask(policy, event({ source: "heartbeat" }), closed)).toEqual(Policy.skip(reason))
    expect(ask(policy, event({ priority: "critical" }), closed)).toBeNull()
    expect(ask(policy, event(), state())).toBeNull()
  })
})

describe("AccessControl", () => {
  const policyOf = (config: typeof AccessControlConfig.Encoded) =>
    AccessControl.make(Schema.decodeSync(AccessControlConfig)(config))
  const message = (sender?: string, change: Partial<GatewayEvent> = {}) =>
    event({ source: "channel", ...(sender === undefined ? {} : { sender }), ...change })
  const skipped = (sender: string) => Policy.skip(`sender "${sender}" has no access`)

  it("an allow list lets in whom it names", () => {
    const policy = policyOf({ allowedSenders: ["ada"], blockedSenders: ["eve"] })
    expect(ask(policy, message("ada"))).toBeNull()
    expect(ask(policy, message("bob"))).toEqual(skipped("bob"))
    expect(ask(policy, message("bob", { priority: "critical" }))).toEqual(skipped("bob"))
    expect(ask(policyOf({}), message("ada"))).toEqual(skipped("ada"))
    const everyone = policyOf({ allowedSenders: ["*"], blockedSenders: ["eve"] })
    expect(ask(everyone, message("bob"))).toBeNull()
    expect(ask(everyone, message("eve"))).toEqual(skipped("eve"))
  })

  it("X17: allow-list spoofed by a sender field in the body, and an empty sender: neither gets in", () => {
    for (const policy of [
      policyOf({ allowedSenders: ["ada", ""] }),
      policyOf({ allowedSenders: ["*"] }),
      policyOf({ accessPolicy: "blocklist" })
    ]) {
      expect(ask(policy, message(""))).toEqual(skipped(""))
      expect(ask(policy, message())).toEqual(Policy.skip("sender unknown has no access"))
      const spoofed = { payload: { sender: "ada" }, metadata: { sender: "ada" } }
      expect(ask(policy, message(undefined, spoofed))).toEqual(Policy.skip("sender unknown has no access"))
    }
  })

  it("a block list lets in all others; open lets in everyone; other sources are no senders", () => {
    const blocked = policyOf({ accessPolicy: "blocklist", blockedSenders: ["eve"] })
    expect(ask(blocked, message("ada"))).toBeNull()
    expect(ask(blocked, message("eve"))).toEqual(skipped("eve"))
    expect(ask(policyOf({ accessPolicy: "open" }), message())).toBeNull()
    expect(ask(policyOf({}), event({ source: "webhook" }))).toBeNull()
  })

  it("escalates where it is told to, until a person has approved", () => {
    const policy = policyOf({ unknownSenderAction: "escalate" })
    expect(ask(policy, message("bob"))).toEqual(Policy.escalate('sender "bob" has no access'))
    expect(ask(policy, message("bob"), state({ approval: { id: "apr_1", by: "ada" } }))).toBeNull()
  })
})
