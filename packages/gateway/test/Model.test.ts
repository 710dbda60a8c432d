import { AuditLog, GatewayService, Policy, PolicyEngine, Store } from "@postilion/gateway"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import type { RunResult } from "@postilion/gateway/domain/Run"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Deferred, Effect, Exit, FastCheck as fc, Layer, Scope, TestClock, TestContext } from "effect"
import { describe, expect, it } from "vitest"
import {
  APPROVAL_TTL,
  type Command,
  type Input,
  isDeploy,
  isMerged,
  MAX_ATTEMPTS,
  MERGE_WINDOW,
  Model,
  type Modelled
} from "./GatewayModel.ts"
import { answerOf, gateway, sqlite, tempFile } from "./TestGateway.ts"

const TOKENS = 100
const LOOKS = 3_000

const config = {
  policies: {
    dailyTokenBudget: "unlimited",
    maxActionsPerHour: "unlimited",
    mergeWindowMs: MERGE_WINDOW * 1_000,
    requireApprovalFor: ["deploy"]
  },
  limits: {
    approvalTtlMs: APPROVAL_TTL * 1_000,
    maxAttempts: MAX_ATTEMPTS,
    maxConcurrentRuns: 1_000,
    runTimeoutMs: 86_400_000
  }
} as const

const hold = Policy.make("Hold", {
  priority: 1,
  evaluate: ({ source }) => (source === "cron" ? Policy.queue({ reason: "held" }) : Policy.pass)
})

const inputOf = (input: Input, n: number): RawInput => ({
  source: input.kind === "cron" ? "cron" : "webhook",
  payload: { n },
  priority: input.critical ? "critical" : "normal",
  metadata: {
    ...(isDeploy(input) ? { category: "deploy" } : {}),
    ...(isMerged(input) ? { mergeKey: input.key } : {})
  },
  idempotencyKey: `key-${n}`,
  ...(input.session === "none" ? {} : { sessionKey: input.session })
})

const input: fc.Arbitrary<Input> = fc.record({
  kind: fc.constantFrom(...(["plain", "deploy", "pr", "pr", "deploy-pr", "cron"] as const)),
  key: fc.constantFrom("a", "b"),
  session: fc.constantFrom("none", "s", "t"),
  critical: fc.constantFrom(false, false, false, true)
})
const which = fc.nat({ max: 20 })
const seconds = fc.constantFrom(0, 1, 30, 59, 60, 120, 600)
/** Plain data, so that what a counterexample shrinks to is the list of commands as one reads it. */
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant("submit" as const), input }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("repeat" as const), of: which }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("approve" as const, "deny" as const), which }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("end" as const), which, ok: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const), seconds }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("crash" as const), seconds }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom(...(["running", "running", "paused", "stopped", "terminated"] as const))
    })
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("hold" as const, "unhold" as const) }) }
)

type Opened = Effect.Effect.Success<ReturnType<typeof open>>

/** Starts a gateway whose runs end when they are told to. */
const open = (store: Layer.Layer<Store, unknown>, calls: Map<string, Deferred.Deferred<RunResult, AgentRunError>>) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const layer = gateway(config, ({ attempt, event, runId }) =>
      Effect.gen(function* () {
        const ended = yield* Deferred.make<RunResult, AgentRunError>()
        const call = `${runId}#${attempt}`
        if (calls.has(call)) return yield* Effect.dieMessage(`${call} is made twice`)
        calls.set(call, ended).set(event.id, ended)
        return yield* Deferred.await(ended)
      })
    ).pipe(Layer.provideMerge(store))
    const context = yield* Layer.buildWithScope(layer, scope)
    return { context, scope }
  })

/** Has a gateway and its model follow the commands, and compares them after each. */
const follow = (commands: ReadonlyArray<Command>, store: Layer.Layer<Store, unknown>) =>
  Effect.gen(function* () {
    const model = new Model()
    const ids: Array<string> = []
    const calls = new Map<string, Deferred.Deferred<RunResult, AgentRunError>>()
    let opened: Opened = yield* open(store, calls)
    const use = <A, E>(body: Effect.Effect<A, E, GatewayService | AuditLog | PolicyEngine | Store>) =>
      Effect.provide(body, opened.context)
    const idOf = (event: Modelled): string => ids[model.events.indexOf(event)] ?? ""

    const perform = (command: Command) =>
      Effect.gen(function* () {
        const service = yield* GatewayService
        const engine = yield* PolicyEngine
        switch (command.do) {
          case "submit": {
            const answer = model.submit(command.input)
            const receipt = yield* Effect.either(service.submit(inputOf(command.input, ids.length)))
            if (answer === "stopped") expect(receipt).toMatchObject({ left: { reason: "stopped" } })
            else ids.push(receipt._tag === "Right" ? receipt.right.eventId : String(receipt.left))
            return
          }
          case "repeat": {
            const n = command.of % Math.max(ids.length, 1)
            const event = model.events[n]
            if (event === undefined || model.mode === "stopped" || model.mode === "terminated") return
            expect(yield* service.submit(inputOf(event.input, n))).toMatchObject({ eventId: ids[n], duplicate: true })
            return
          }
          case "approve":
          case "deny": {
            const asked = model.events.filter(({ approval }) => approval !== undefined)
            const event = asked[command.which % Math.max(asked.length, 1)]
            if (event === undefined) return
            const id = (yield* service.find(idOf(event)))?.approval?.id ?? ""
            const answered = yield* Effect.either(service[command.do](id, "ada"))
            const expected = model.answer(event, command.do === "approve" ? "approved" : "denied")
            expect(answered._tag === "Right" ? "ok" : answered.left.reason).toBe(expected)
            return
          }
          case "end": {
            const running = model.running()
            const event = running[command.which % Math.max(running.length, 1)]
            if (event === undefined) return
            const failure = new AgentRunError({ message: "no luck", retryable: false })
            const ended = calls.get(idOf(event))
            if (ended === undefined) throw new Error(`${idOf(event)} does not run`)
            yield* Deferred.done(ended, command.ok ? Exit.succeed(answerOf("done")) : Exit.fail(failure))
            return model.end(event, command.ok)
          }
          case "wait":
            yield* TestClock.adjust(`${command.seconds} seconds`)
            return model.wait(command.seconds)
          case "crash":
            return
          case "hold":
          case "unhold": {
            const holds = command.do === "hold"
            if (holds !== model.holding) yield* holds ? engine.addPolicy(hold) : engine.removePolicy(hold._tag)
            return model.hold(holds)
          }
          case "running":
            yield* service.resume()
            return model.set("running")
          case "paused":
            yield* service.pause()
            return model.set("paused")
          case "stopped":
            yield* service.stop()
            return model.set("stopped")
          case "terminated":
            yield* service.terminate()
            return model.set("terminated")
        }
      })
    const crash = (seconds: number) =>
      Effect.gen(function* () {
        yield* Scope.close(opened.scope, Exit.void)
        yield* TestClock.adjust(`${seconds} seconds`)
        opened = yield* open(store, calls)
        // What is due has to have been judged before the clock moves on.
        model.crash(seconds)
        yield* TestClock.adjust(`${MERGE_WINDOW} seconds`)
      })

    /** A run that was cut off stands as it did until its next attempt begins. */
    const recorded = (run: Modelled["run"]) =>
      run?.state === "pending" && run.attempt > 0 ? { state: "running", attempt: run.attempt } : run
    /** The attempts a run that has ended is charged for: nobody knows what those used that were cut off. */
    const charged = (run: Modelled["run"]): number => {
      if (run === undefined || run.state === "pending" || run.state === "running") return 0
      return run.state === "completed" ? run.attempt : run.attempt - 1
    }
    const expected = () => {
      const count = (state: Modelled["state"]) => model.events.filter((event) => event.state === state).length
      const runs = (state: string) => model.events.filter(({ run }) => run?.state === state).length
      return {
        events: model.events.map(({ approval, run, state }) => ({ state, approval, run: recorded(run) })),
        pending: {
          undecided: 0,
          queued: count("deferred"),
          merging: count("merging"),
          awaitingApproval: count("awaiting-approval"),
          waiting: runs("pending"),
          running: runs("running")
        },
        used: model.events.reduce((used, { run }) => used + TOKENS * charged(run), 0),
        reserved: TOKENS * (runs("pending") + runs("running"))
      }
    }
    const actual = Effect.gen(function* () {
      const service = yield* GatewayService
      const records = yield* Effect.forEach(ids, (id) => service.find(id))
      const { budget, pending } = yield* service.status()
      return {
        events: records.map((record) => ({
          state: record?.state,
          approval: record?.approval?.state,
          run: record?.run === undefined ? undefined : { state: record.run.state, attempt: record.run.attempt }
        })),
        pending,
        used: budget.used,
        reserved: budget.reserved
      }
    })
    /** Looks until the gateway is where the model is; what it does takes turns of the event loop, not time. */
    const agree = Effect.gen(function* () {
      const wanted = expected()
      for (let look = 0; look < LOOKS; look++) {
        const found = yield* use(actual)
        const running = model.running().every((event) => calls.has(idOf(event)))
        if (running && JSON.stringify(found) === JSON.stringify(wanted)) return
        yield* Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))
      }
      // In one line, since this is what stands below the counterexample.
      throw new Error(`the model says ${JSON.stringify(wanted)}\nthe gateway  ${JSON.stringify(yield* use(actual))}`)
    })
    const books = Effect.gen(function* () {
      const audit = yield* AuditLog
      expect(yield* audit.verify).toMatchObject({ valid: true })
      const records = yield* audit.query({ limit: 100_000 })
      for (const [n, id] of ids.entries()) {
        const { run, state } = model.events[n] ?? {}
        const kinds = (kind: string) => records.filter((record) => record.kind === kind && record.eventId === id)
        const final = kinds("event.decided").filter(({ data }) => data.action === "execute")
        expect([final.length, kinds("run.started").length, kinds("run.ended").length]).toEqual([
          state === "executed" ? 1 : 0,
          run?.attempt ?? 0,
          run === undefined || run.state === "pending" || run.state === "running" ? 0 : 1
        ])
      }
    })

    for (const command of commands) {
      if (command.do === "crash") yield* crash(command.seconds)
      else yield* use(perform(command))
      yield* agree
    }
    yield* use(books)
    yield* Scope.close(opened.scope, Exit.void)
  })

/** As many sequences as there is time for, and one on the slowest machine: an interruption would count that as none. */
const holds = (store: Effect.Effect<Layer.Layer<Store, unknown>, never, Scope.Scope>, numRuns: number) => {
  const until = performance.now() + 4_000
  let followed = 0
  return fc.assert(
    fc.asyncProperty(fc.array(command, { maxLength: 30, size: "max" }), async (commands) => {
      if (followed > 0 && performance.now() > until) return
      await Effect.flatMap(store, (layer) => follow(commands, layer)).pipe(
        Effect.scoped,
        Effect.provide(TestContext.TestContext),
        Effect.runPromise
      )
      followed += 1
    }),
    { numRuns }
  )
}

describe("whatever happens, every event is where the model says", { timeout: 60_000 }, () => {
  it("with records in memory", () =>
    holds(
      Effect.sync(() => Layer.succeed(Store, StoreMemory.make())),
      80
    ))
  it("with records in a SQLite file", () => holds(Effect.map(tempFile, sqlite), 40))
})
