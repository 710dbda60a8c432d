import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService } from "@postilion/gateway"
import type { GatewayConfigInput } from "@postilion/gateway/domain/Config"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Deferred, Effect, TestClock } from "effect"
import { channel } from "./TestChannel.ts"
import { answerOf, gateway, gatewayOn, type Respond, tempFile, watch } from "./TestGateway.ts"

const say = (text: string, change: Partial<RawInput> = {}): RawInput => ({
  source: "state-change",
  payload: { text },
  sessionKey: "s",
  ...change
})
type Mode = NonNullable<GatewayConfigInput["sessions"]>["whenBusy"]

/** A gateway whose agent answers "first" when it is let, and all else at once with what it was shown. */
const inMode = <A, E>(
  whenBusy: Mode,
  body: (
    gate: Deferred.Deferred<void>
  ) => Effect.Effect<A, E, Effect.Effect.Context<typeof watch> | GatewayService | AuditLog>,
  respond?: (gate: Deferred.Deferred<void>) => Respond
) =>
  Effect.gen(function* () {
    const gate = yield* Deferred.make<void>()
    const usual: Respond = ({ history, taskDescription }) => {
      const answer = answerOf(
        [...history.map(({ content, role }) => `${role}: ${content}`), taskDescription].join(" | ")
      )
      return taskDescription.startsWith("first") ? Effect.as(Deferred.await(gate), answer) : Effect.succeed(answer)
    }
    return yield* body(gate).pipe(
      Effect.scoped,
      Effect.provide(
        gateway({ sessions: { whenBusy }, policies: { requireApprovalFor: ["deploy"] } }, respond?.(gate) ?? usual)
      ),
      Effect.provide(StoreMemory.layer)
    )
  })

const submit = (text: string, change?: Partial<RawInput>) =>
  Effect.flatMap(GatewayService, (gw) => gw.submit(say(text, change)))
const outcome = (eventId: string) => Effect.flatMap(GatewayService, (gw) => gw.outcome(eventId))

describe("a session that is busy", () => {
  it.effect("queue: each message has a run of its own, in order", () =>
    inMode("queue", (gate) =>
      Effect.gen(function* () {
        const told = yield* watch
        const ids = yield* Effect.forEach(["first", "b", "c"], (text) => submit(text))
        yield* told.until("ProactiveActionInitiated", 1)
        yield* Deferred.succeed(gate, undefined)
        const last = yield* outcome(ids[2]?.eventId ?? "")
        expect(last.run?.text).toBe(
          "user: first | assistant: first | user: b | assistant: user: first | assistant: first | b | c"
        )
      })
    )
  )

  it.effect("collect: what comes while a run is under way becomes one run that lists it", () =>
    inMode("collect", (gate) =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const first = yield* submit("first")
        yield* TestClock.adjust("2 seconds")
        yield* told.until("ProactiveActionInitiated", 1)
        const rest = yield* Effect.forEach(["b", "c", "d"], (text) => submit(text))
        yield* TestClock.adjust("2 seconds")
        yield* Deferred.succeed(gate, undefined)
        yield* outcome(first.eventId)
        const [leader, ...others] = yield* Effect.forEach(rest, ({ eventId }) => outcome(eventId))
        expect(leader).toMatchObject({ state: "executed", run: { state: "completed" } })
        expect(leader?.run?.text).toContain(
          "These 3 messages came one after the other; handle them together:\n1. b\n2. c\n3. d"
        )
        for (const other of others) {
          expect(other).toMatchObject({ state: "merged", mergedInto: rest[0]?.eventId, run: { state: "merged" } })
        }
        expect(told.all("EventsMerged")).toMatchObject([{ count: 3, eventIds: rest.map(({ eventId }) => eventId) }])
        expect(told.all("ProactiveActionInitiated")).toHaveLength(2)
        expect((yield* gw.status()).budget).toMatchObject({ used: 200, reserved: 0 })
        const audit = yield* AuditLog
        expect(yield* audit.query({ kind: "run.merged" })).toHaveLength(2)
        expect(yield* audit.verify).toMatchObject({ valid: true })
      })
    )
  )

  it.effect("collect: it waits until no more has come for a while, and answers all with one run", () =>
    inMode("collect", () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const waiting = yield* Effect.fork(gw.run(say("a")))
        while ((yield* gw.status()).pending.waiting === 0) yield* Effect.yieldNow()
        yield* TestClock.adjust("1500 millis")
        const b = yield* gw.submit(say("b"))
        yield* TestClock.adjust("1500 millis")
        expect(told.all("ProactiveActionInitiated")).toEqual([])
        // Others are not held up by it.
        expect((yield* gw.run(say("own way", { sessionKey: undefined }))).text).toBe("own way")
        const two = yield* Effect.fork(gw.run(say("c")))
        while ((yield* gw.status()).pending.waiting < 3) yield* Effect.yieldNow()
        yield* TestClock.adjust("2 seconds")
        const run = yield* waiting
        expect(run.text).toContain("1. a\n2. b\n3. c")
        expect((yield* two).id).toBe(run.id)
        expect((yield* gw.outcome(b.eventId)).state).toBe("merged")
      })
    )
  )

  it.effect("collect: messages that never cease do not put it off for ever", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const told = yield* watch
      const [a] = yield* Effect.forEach(["a", "b", "c"], (text) =>
        Effect.zipLeft(submit(text), TestClock.adjust("1 second"))
      )
      yield* told.until("ProactiveActionInitiated", 1)
      expect((yield* gw.outcome(a?.eventId ?? "")).run?.text).toContain("1. a\n2. b\n3. c")
      expect(told.all("SessionOverflowed")).toEqual([])
    }).pipe(
      Effect.scoped,
      Effect.provide(gateway({ sessions: { whenBusy: "collect", maxWaiting: 3, overflow: "drop-oldest" } })),
      Effect.provide(StoreMemory.layer)
    )
  )

  for (const mode of ["collect", "steer"] as const) {
    it.effect(`N16: ${mode}: what is answered elsewhere has a run of its own, and its answer goes there`, () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const terminal = channel()
        const respond: Respond = ({ steering = Effect.succeed([]), taskDescription }) =>
          Effect.gen(function* () {
            if (taskDescription === "first") yield* Deferred.await(gate)
            return answerOf(`${taskDescription} + ${yield* steering}`)
          })
        yield* Effect.gen(function* () {
          const told = yield* watch
          const to = (target: string) => ({ replyTo: { channel: "test", target } })
          yield* submit("first", to("ada"))
          yield* TestClock.adjust("2 seconds")
          yield* told.until("ProactiveActionInitiated", 1)
          const [b, c, d] = [yield* submit("b", to("ada")), yield* submit("c"), yield* submit("d", to("bob"))]
          yield* TestClock.adjust("2 seconds")
          yield* Deferred.succeed(gate, undefined)
          yield* TestClock.adjust("2 seconds")
          for (const { eventId } of [b, c, d]) yield* outcome(eventId)
          yield* told.until("DeliverySent", mode === "collect" ? 3 : 2)
          expect(terminal.messages.map(({ target, text }) => `${target}: ${text}`)).toEqual(
            mode === "collect" ? ["ada: first + ", "ada: b + ", "bob: d + "] : ["ada: first + b", "bob: d + "]
          )
        }).pipe(
          Effect.scoped,
          Effect.provide(gateway({ sessions: { whenBusy: mode } }, respond, { channels: [terminal] })),
          Effect.provide(StoreMemory.layer)
        )
      })
    )
  }

  it.scoped("collect: cut off, it is tried again with the whole list; what waited is collected after a restart", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config: GatewayConfigInput = { sessions: { whenBusy: "collect" } }
      const begun = yield* Deferred.make<void>()
      const ids = yield* Effect.gen(function* () {
        const receipts = yield* Effect.forEach(["a", "b"], (text) => submit(text))
        yield* TestClock.adjust("2 seconds")
        yield* Deferred.await(begun)
        return [...receipts, yield* submit("c"), yield* submit("d")].map(({ eventId }) => eventId)
      }).pipe(
        Effect.provide(gatewayOn(file, config, () => Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never)))
      )
      yield* Effect.gen(function* () {
        // The restart finds them in one session again, and makes one run of what had not begun and what is to be tried again.
        yield* TestClock.adjust("2 seconds")
        const [a, b, c, d] = yield* Effect.forEach(ids, outcome)
        expect([b, c, d].map((record) => record?.state)).toEqual(["merged", "merged", "merged"])
        expect(a?.run?.attempt).toBe(2)
        for (const line of ["1. a", "2. b", "2. c", "3. d"]) expect(a?.run?.text).toContain(line)
      }).pipe(Effect.provide(gatewayOn(file, config)))
    })
  )

  it.effect("interrupt: the run under way is cancelled; the next knows what it was asked", () =>
    inMode("interrupt", () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const first = yield* submit("first")
        yield* told.until("ProactiveActionInitiated", 1)
        const second = yield* submit("no, rather this")
        expect(yield* outcome(second.eventId)).toMatchObject({
          run: { state: "completed", text: "user: first | no, rather this" }
        })
        expect(yield* outcome(first.eventId)).toMatchObject({
          run: { state: "cancelled", error: "interrupted by a newer message of its session (sessions.whenBusy)" }
        })
        expect((yield* gw.status()).budget).toMatchObject({ used: 100, reserved: 0 })
      })
    )
  )

  it.effect(
    "interrupt: of several that wait the newest is run, after the interrupted one has ended; the others stay said",
    () =>
      Effect.gen(function* () {
        const ended = yield* Deferred.make<void>()
        yield* inMode(
          "interrupt",
          () =>
            Effect.gen(function* () {
              const told = yield* watch
              yield* submit("first")
              yield* told.until("ProactiveActionInitiated", 1)
              const [b, c] = yield* Effect.forEach(["b", "c"], (text) => submit(text))
              expect(told.all("ProactiveActionInitiated")).toHaveLength(1)
              yield* Deferred.succeed(ended, undefined)
              expect((yield* outcome(c?.eventId ?? "")).run?.text).toBe("first,b then c")
              expect(yield* outcome(b?.eventId ?? "")).toMatchObject({ run: { state: "cancelled", attempt: 0 } })
            }),
          () =>
            ({ history, taskDescription }) =>
              taskDescription === "first"
                ? Effect.zipRight(Effect.uninterruptible(Deferred.await(ended)), Effect.never)
                : Effect.succeed(answerOf(`${history.map(({ content }) => content)} then ${taskDescription}`))
        )
      })
  )

  it.effect("interrupt: an older message that is let through late does not interrupt a newer one", () =>
    inMode("interrupt", (gate) =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const older = yield* submit("older", { metadata: { category: "deploy" } })
        const [asked] = yield* told.until("ApprovalRequested", 1)
        const newer = yield* submit("first, and newer")
        yield* told.until("ProactiveActionInitiated", 1)
        yield* gw.approve(asked?.approvalId ?? "", "ada")
        expect((yield* gw.status()).pending).toMatchObject({ running: 1, waiting: 1 })
        yield* Deferred.succeed(gate, undefined)
        expect((yield* outcome(newer.eventId)).run).toMatchObject({ state: "completed" })
        expect((yield* outcome(older.eventId)).run).toMatchObject({ state: "completed" })
      })
    )
  )
  it.scoped("interrupt: nor one that waits for its turn, over a restart and a clock that is set back", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const config: GatewayConfigInput = {
        sessions: { whenBusy: "interrupt" },
        policies: { requireApprovalFor: ["deploy"] }
      }
      yield* TestClock.setTime(7_200_000)
      yield* Effect.provide(submit("older", { metadata: { category: "deploy" } }), gatewayOn(file, config))
      yield* TestClock.setTime(3_600_000)
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        yield* gw.pause()
        const newer = yield* submit("newer")
        for (const { id } of yield* gw.approvals) yield* gw.approve(id, "ada")
        yield* gw.resume()
        expect((yield* outcome(newer.eventId)).run).toMatchObject({ state: "completed" })
      }).pipe(Effect.provide(gatewayOn(file, config)))
    })
  )

  for (const mode of ["collect", "interrupt", "steer"] as const) {
    it.effect(`${mode}: what a person approved runs as it was approved, whatever comes meanwhile`, () =>
      inMode(
        mode,
        (gate) =>
          Effect.gen(function* () {
            const gw = yield* GatewayService
            const told = yield* watch
            const first = yield* submit("first", { metadata: { category: "deploy" } })
            const [asked] = yield* told.until("ApprovalRequested", 1)
            yield* gw.approve(asked?.approvalId ?? "", "ada")
            yield* TestClock.adjust("2 seconds")
            yield* told.until("ProactiveActionInitiated", 1)
            const next = yield* submit("next")
            yield* Deferred.succeed(gate, undefined)
            expect((yield* outcome(first.eventId)).run).toMatchObject({ state: "completed", text: "first + " })
            yield* TestClock.adjust("2 seconds")
            expect((yield* outcome(next.eventId)).run).toMatchObject({ state: "completed", text: "next + " })
          }),
        (gate) => (task) =>
          Effect.gen(function* () {
            if (task.taskDescription === "first") yield* Deferred.await(gate)
            return answerOf(`${task.taskDescription} + ${yield* task.steering ?? Effect.succeed([])}`)
          })
      )
    )
  }

  it.effect("steer: the runner takes what was said into its run; what it does not take has the next", () =>
    inMode(
      "steer",
      (gate) =>
        Effect.gen(function* () {
          const gw = yield* GatewayService
          const told = yield* watch
          const first = yield* submit("first")
          yield* told.until("ProactiveActionInitiated", 1)
          const [b, c] = yield* Effect.forEach(["b", "c"], (text) => submit(text))
          yield* Deferred.succeed(gate, undefined)
          expect((yield* outcome(first.eventId)).run?.text).toBe("first + b,c")
          for (const taken of [b, c]) {
            expect(yield* outcome(taken?.eventId ?? "")).toMatchObject({ state: "merged", mergedInto: first.eventId })
          }
          const next = yield* gw.run(say("d"))
          // The history has it as one message.
          expect(next.text).toBe("d + ")
          expect(told.all("ProactiveActionInitiated")).toHaveLength(2)
        }),
      (gate) =>
        ({ steering = Effect.succeed([]), taskDescription }) =>
          Effect.gen(function* () {
            if (taskDescription === "first") yield* Deferred.await(gate)
            return answerOf(`${taskDescription} + ${yield* steering}`)
          })
    )
  )

  it.effect("steer: a runner that takes nothing leaves it all to the next runs, in order", () =>
    inMode("steer", (gate) =>
      Effect.gen(function* () {
        const told = yield* watch
        yield* submit("first")
        yield* told.until("ProactiveActionInitiated", 1)
        const [b, c] = yield* Effect.forEach(["b", "c"], (text) => submit(text))
        yield* Deferred.succeed(gate, undefined)
        expect((yield* outcome(b?.eventId ?? "")).run?.text).toContain("assistant: first | b")
        expect((yield* outcome(c?.eventId ?? "")).run?.text).toMatch(/\| c$/)
      })
    )
  )
})
