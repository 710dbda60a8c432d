import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Client, connect, TaskError } from "@postilion/client"
import { AuditLog, GatewayService } from "@postilion/gateway"
import { HttpAddress, type PostilionConfigInput } from "@postilion/server"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Scope, TestClock } from "effect"
import { cable } from "./Cable.ts"
import { ADA, eventually, server, tempDir } from "./Support.ts"
import { connected, type Frame, isMethod, type Wire } from "./Wire.ts"

const ANN = "token-of-ann"
const BEA = "token-of-bea"
const outside = { analyst: { leaseMs: 30_000, principals: ["ann", "bea"] }, scribe: { model: "quill" } } as const
const serving = (config: PostilionConfigInput = {}) =>
  server({
    agents: { agent: {}, analyst: { instructions: "Look closely.", maxOutputTokens: 100 }, scribe: {} },
    outside,
    tokens: {
      ada: { token: ADA, scopes: ["client"] },
      ann: { token: ANN, scopes: ["agent"] },
      bea: { token: BEA, scopes: ["agent"] }
    },
    accessControl: { allowedSenders: ["*"] },
    drainDeadlineMs: 0,
    ...config
  })

const USAGE = { inputTokens: 100, outputTokens: 23 }
const codeOf = ({ error }: Frame) => error?.data.code
const paramsOf = ({ params }: Frame) => params ?? {}
const serve = (wire: Wire, params: object = {}) => wire.ask("agent.serve", { agents: ["analyst"], ...params })
const atWork = (token: string, params?: object) => Effect.tap(connected(token, "agent"), (wire) => serve(wire, params))
const submit = (text: string, agentId = "analyst") =>
  Effect.flatMap(GatewayService, (gateway) => gateway.submit({ source: "a2a", agentId, payload: { text } }))
const find = (eventId: string) => Effect.flatMap(GatewayService, (gateway) => gateway.find(eventId))
const outcome = (eventId: string) => Effect.flatMap(GatewayService, (gateway) => gateway.outcome(eventId))
const status = Effect.flatMap(GatewayService, (gateway) => gateway.status())
const analyst = Effect.map(status, ({ agents }) => agents.find(({ id }) => id === "analyst"))
/** The tasks a wire has been told, once they are so many. */
const tasks = (wire: Wire, count: number) =>
  Effect.map(
    eventually(
      Effect.sync(() => wire.told("TASK")),
      ({ length }) => length >= count
    ),
    (told) => told.map((frame) => String(paramsOf(frame).task))
  )

describe("an agent outside", { timeout: 60_000 }, () => {
  it.scoped("its runs wait while it is not there, at no cost, and are tasks once it is", () =>
    Effect.gen(function* () {
      const { eventId } = yield* submit("how is the disk?")
      yield* TestClock.adjust("1 hour")
      expect(yield* analyst).toEqual({ id: "analyst", running: 0, waiting: 1, limit: 0 })
      // It keeps nobody else's runs from theirs.
      const { eventId: other } = yield* submit("hello", "agent")
      expect((yield* outcome(other)).run?.state).toBe("completed")
      expect((yield* find(eventId))?.run).toMatchObject({ state: "pending", attempt: 0 })

      const ann = yield* connected(ANN, "agent")
      expect((yield* serve(ann)).result).toEqual({ agents: [{ id: "analyst", leaseMs: 30_000 }] })
      const task = paramsOf(yield* ann.until(isMethod("TASK")))
      const { run } = (yield* find(eventId)) ?? {}
      expect(task).toMatchObject({
        task: `${run?.id}/1`,
        runId: run?.id,
        attempt: 1,
        agentId: "analyst",
        instructions: "Look closely.",
        maxOutputTokens: 100,
        payload: JSON.stringify({ text: "how is the disk?" }),
        history: [],
        event: { id: eventId, source: "a2a", priority: "normal" },
        leaseMs: 30_000
      })
      expect(yield* analyst).toEqual({ id: "analyst", running: 1, waiting: 0, limit: 1 })
      const answer = { task: task.task, text: "half full", usage: USAGE, model: "slow" }
      expect((yield* ann.ask("task.complete", answer)).result).toEqual({})
      // Answered is on disk: it is there already.
      expect((yield* find(eventId))?.run).toMatchObject({
        state: "completed",
        text: "half full",
        attempt: 1,
        model: "slow",
        ...USAGE
      })
      // Said again, as after a lost connection, it is the same.
      expect((yield* ann.ask("task.complete", answer)).result).toEqual({})
      expect((yield* status).budget).toMatchObject({ used: 123 + 15, reserved: 0 })
    }).pipe(Effect.provide(serving()))
  )

  it.scoped(
    "one that dies in the middle loses its task to another; its late answer is refused; the reply comes once",
    () =>
      Effect.gen(function* () {
        const ada = yield* connected(ADA)
        const ann = yield* atWork(ANN)
        yield* ada.ask("session.send", { session: "ops", id: "m1", text: "how is the disk?", agentId: "analyst" })
        const [first] = yield* tasks(ann, 1)
        yield* ann.ask("task.renew", { task: first, usage: { inputTokens: 7, outputTokens: 0 } })
        const bea = yield* atWork(BEA)
        ann.socket.close(4_000)
        yield* ann.closed
        yield* eventually(
          Effect.zipRight(
            TestClock.adjust("10 seconds"),
            Effect.sync(() => bea.told("TASK"))
          ),
          (told) => told.length > 0
        )
        const [second] = yield* tasks(bea, 1)
        expect(second).toBe(String(first).replace(/1$/, "2"))

        const late = yield* connected(ANN, "agent")
        const answer = { text: "half full", usage: USAGE }
        for (const method of ["task.complete", "task.renew", "task.fail"]) {
          const params = { "task.complete": answer, "task.renew": {}, "task.fail": { message: "no" } }[method]
          expect(codeOf(yield* late.ask(method, { task: first, ...params }))).toBe("conflict")
        }
        expect(codeOf(yield* late.ask("task.complete", { task: second, ...answer }))).toBe("conflict")
        expect((yield* bea.ask("task.complete", { task: second, ...answer })).result).toEqual({})
        yield* ada.until((frame) => frame.method === "MESSAGE" && paramsOf(frame).role === "assistant")
        yield* ada.ask("ping")
        expect(ada.told("MESSAGE").map((frame) => paramsOf(frame).text)).toEqual(["half full"])
        // What the first one had used is charged too.
        expect((yield* status).budget).toMatchObject({ used: 130, reserved: 0 })
      }).pipe(Effect.provide(serving()))
  )

  it.scoped("who had which attempt is in the audit before they have it, and in what explains the event", () =>
    Effect.gen(function* () {
      const audit = yield* AuditLog
      const assigned = (eventId: string) =>
        Effect.map(audit.query({ eventId, kind: "run.assigned" }), (records) =>
          records.map(({ data: { attempt, by, client } }) => [attempt, by, client])
        )
      const ann = yield* atWork(ANN)
      const { eventId } = yield* submit("look")
      const [first] = yield* tasks(ann, 1)
      expect(yield* assigned(eventId)).toEqual([[1, "ann", "wire 1"]])
      expect((yield* find(eventId))?.run?.worker).toEqual({ principal: "ann", client: "wire 1" })
      yield* serve(ann, { agents: [] })
      yield* ann.ask("task.fail", { task: first, message: "busy", retryable: true, retryAfterMs: 0 })
      yield* eventually(analyst, (one) => one?.waiting === 1)
      // Nobody has the attempt that waits for somebody to take it.
      expect(yield* assigned(eventId)).toHaveLength(1)
      const bea = yield* atWork(BEA)
      yield* TestClock.adjust("1 second")
      const [second] = yield* tasks(bea, 1)
      yield* bea.ask("task.complete", { task: second, text: "done", usage: USAGE })
      expect((yield* outcome(eventId)).run).toMatchObject({ state: "completed", worker: { principal: "bea" } })
      const [, [attempt, by] = []] = yield* assigned(eventId)
      expect([`${attempt}`, by]).toEqual([String(second).split("/")[1], "bea"])
      const explained = yield* (yield* GatewayService).explain(eventId)
      expect(explained?.runs).toMatchObject([{ worker: { principal: "bea", client: "wire 1" } }])
      expect(explained?.render()).toContain("by bea (wire 1) after")
      // One that runs inside has nobody to name.
      const { eventId: inside } = yield* submit("hello", "agent")
      expect((yield* outcome(inside)).run?.worker).toBeUndefined()
      expect(yield* assigned(inside)).toEqual([])
    }).pipe(Effect.provide(serving()))
  )

  it.scoped("a lease that is renewed goes on, also from another connection; one that is not has ended", () =>
    Effect.gen(function* () {
      const ann = yield* atWork(ANN)
      const { eventId } = yield* submit("look")
      const [task] = yield* tasks(ann, 1)
      for (let i = 0; i < 5; i++) {
        yield* TestClock.adjust("29 seconds")
        expect((yield* ann.ask("task.renew", { task })).result).toHaveProperty("leaseUntil")
      }
      const again = yield* atWork(ANN)
      yield* again.ask("task.renew", { task })
      ann.socket.close(1000)
      yield* ann.closed
      yield* eventually(analyst, (one) => one?.limit === 1)
      yield* TestClock.adjust("29 seconds")
      expect((yield* again.ask("task.renew", { task })).result).toHaveProperty("leaseUntil")
      yield* TestClock.adjust("30 seconds")
      expect(paramsOf(yield* again.until(isMethod("CANCEL")))).toMatchObject({ task, reason: "the lease has ended" })
      expect((yield* tasks(again, 1))[0]).toBe(String(task).replace(/1$/, "2"))
      // Three attempts, and then a person is asked.
      yield* eventually(
        Effect.zipRight(TestClock.adjust("10 seconds"), find(eventId)),
        (record) => record?.run?.state === "failed"
      )
      expect((yield* find(eventId))?.run).toMatchObject({
        attempt: 3,
        error: "who had the task did not renew it within 30000 ms (outside.analyst.leaseMs)"
      })
    }).pipe(Effect.provide(serving()))
  )

  it.scoped("a connection that ends gives its tasks up at once; with nobody left they wait, at no cost", () =>
    Effect.gen(function* () {
      const ann = yield* atWork(ANN)
      const { eventId } = yield* submit("look")
      yield* tasks(ann, 1)
      ann.socket.close(1000)
      yield* eventually(analyst, (one) => one?.waiting === 1 && one.limit === 0)
      yield* TestClock.adjust("1 hour")
      expect((yield* find(eventId))?.run).toMatchObject({ state: "pending", attempt: 1 })
      const bea = yield* atWork(BEA)
      const [task] = yield* tasks(bea, 1)
      yield* bea.ask("task.complete", { task, text: "done", usage: USAGE })
      expect((yield* outcome(eventId)).run).toMatchObject({ state: "completed", attempt: 2 })
    }).pipe(Effect.provide(serving()))
  )

  it.scoped("a task that fails is tried again where that may help, and not where it may not", () =>
    Effect.gen(function* () {
      const ann = yield* atWork(ANN)
      const { eventId } = yield* submit("look")
      const [first] = yield* tasks(ann, 1)
      yield* ann.ask("task.fail", { task: first, message: "busy", retryable: true, retryAfterMs: 5_000, usage: USAGE })
      yield* eventually(find(eventId), (record) => record?.run?.error === "busy")
      yield* TestClock.adjust("4999 millis")
      expect(ann.told("TASK")).toHaveLength(1)
      yield* TestClock.adjust("1 millis")
      const [, second] = yield* tasks(ann, 2)
      yield* ann.ask("task.fail", { task: second, message: "I do not know", usage: USAGE })
      expect((yield* outcome(eventId)).run).toMatchObject({ state: "failed", attempt: 2, error: "I do not know" })
      expect((yield* status).budget).toMatchObject({ used: 246, reserved: 0 })
      expect(ann.told("CANCEL")).toEqual([])
    }).pipe(Effect.provide(serving()))
  )

  it.scoped("has as many at a time as it takes, and those go to who has the fewest", () =>
    Effect.gen(function* () {
      const ann = yield* atWork(ANN, { concurrency: 2 })
      const bea = yield* atWork(BEA)
      for (let n = 0; n < 5; n++) yield* submit(`look ${n}`)
      const [task] = yield* tasks(ann, 2)
      yield* tasks(bea, 1)
      expect(yield* analyst).toEqual({ id: "analyst", running: 3, waiting: 2, limit: 3 })
      yield* ann.ask("task.complete", { task, text: "done", usage: USAGE })
      yield* tasks(ann, 3)
      yield* serve(bea, { agents: [] })
      yield* bea.ask("task.complete", { task: (yield* tasks(bea, 1))[0], text: "done", usage: USAGE })
      yield* bea.ask("ping")
      expect(bea.told("TASK")).toHaveLength(1)
      expect(yield* analyst).toEqual({ id: "analyst", running: 2, waiting: 1, limit: 2 })
    }).pipe(Effect.provide(serving()))
  )

  it.scoped("a run that is ended, takes too long, or got on and then did not, is cancelled with its holder", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const ann = yield* atWork(ANN)
      const { eventId } = yield* submit("look")
      const [task] = yield* tasks(ann, 1)
      yield* gateway.abort(eventId, { by: "olga" })
      expect(paramsOf(yield* ann.until(isMethod("CANCEL")))).toMatchObject({ task, reason: "the run was ended" })
      expect(codeOf(yield* ann.ask("task.complete", { task, text: "done", usage: USAGE }))).toBe("conflict")
      expect((yield* find(eventId))?.run).toMatchObject({ state: "cancelled", error: "aborted by olga" })

      const slow = yield* submit("look again")
      const [, second] = yield* tasks(ann, 2)
      yield* ann.ask("task.renew", { task: second, progress: true })
      const renewing = Effect.zipRight(ann.ask("task.renew", { task: second }), TestClock.adjust("10 seconds"))
      yield* eventually(
        Effect.zipRight(renewing, find(slow.eventId)),
        (record) => (record?.run?.attempt ?? 0) > 1 || record?.run?.state === "pending"
      )
      expect((yield* find(slow.eventId))?.run?.error).toMatch(/no progress for 50000 ms/)
      yield* eventually(
        Effect.sync(() => ann.told("CANCEL")),
        ({ length }) => length === 2
      )
    }).pipe(Effect.provide(serving({ limits: { runStallMs: 50_000 } })))
  )

  it.scoped("is whoever the configuration says, and nobody else", () =>
    Effect.gen(function* () {
      const ann = yield* connected(ANN, "agent")
      expect(codeOf(yield* serve(ann, { agents: ["agent"] }))).toBe("not-found")
      // Where nothing is said, the principal has the agent's name.
      expect(codeOf(yield* serve(ann, { agents: ["scribe"] }))).toBe("forbidden")
      const scribe = yield* connected("token-of-scribe", "agent")
      yield* serve(scribe, { agents: ["scribe"] })
      expect(codeOf(yield* serve(scribe))).toBe("forbidden")
      const { eventId } = yield* submit("write", "scribe")
      const [task] = yield* tasks(scribe, 1)
      expect(codeOf(yield* ann.ask("task.complete", { task, text: "mine", usage: USAGE }))).toBe("conflict")
      yield* scribe.ask("task.complete", { task, text: "written", usage: USAGE })
      // What it does not say, the configuration does.
      expect((yield* find(eventId))?.run).toMatchObject({ text: "written", model: "quill", costUsd: 0.000123 })
    }).pipe(
      Effect.provide(
        serving({
          tokens: { ann: { token: ANN, scopes: ["agent"] }, scribe: "token-of-scribe" },
          prices: { quill: { inputPerMillion: 1, outputPerMillion: 1 } }
        })
      )
    )
  )
})

describe("client.serve", { timeout: 60_000 }, () => {
  const fast = { token: ANN, role: "agent", minReconnectDelayMs: 5, maxReconnectDelayMs: 20 } as const

  it.scopedLive("answers tasks with what a function comes to; one that goes away leaves them to the next", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      const ada = yield* Client.make(url, { token: ADA })
      const begun = yield* Deferred.make<boolean>()
      const first = yield* Effect.promise(() => connect(url, fast))
      yield* Effect.promise(() =>
        first.serve("analyst", (_, { signal }) => {
          Deferred.unsafeDone(begun, Effect.succeed(signal.aborted))
          return new Promise(() => {})
        })
      )
      const asked = yield* Effect.fork(ada.ask("ops", "how is the disk?", { agentId: "analyst" }))
      expect(yield* Deferred.await(begun)).toBe(false)
      const second = yield* Effect.promise(() => connect(url, { ...fast, token: BEA }))
      const stop = yield* Effect.promise(() =>
        second.serve("analyst", async ({ attempt, description }, { progress }) => {
          await progress({ inputTokens: 1, outputTokens: 0 })
          if (attempt === 2) throw new TaskError({ message: "not yet", retryable: true, retryAfterMs: 1 })
          return { text: `attempt ${attempt}: ${description}`, usage: USAGE }
        })
      )
      yield* Effect.promise(first.close)
      expect(yield* Fiber.join(asked)).toMatchObject({ from: "analyst", text: expect.stringMatching(/^attempt 3: /) })

      yield* Effect.promise(stop)
      yield* eventually(analyst, (one) => one?.limit === 0)
      yield* Effect.promise(second.close)
    }).pipe(Effect.provide(serving()))
  )

  it.scopedLive("a task that is cancelled is interrupted; one whose function throws has failed", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      const gateway = yield* GatewayService
      const ann = yield* Effect.acquireRelease(
        Effect.promise(() => connect(url, fast)),
        (client) => Effect.promise(client.close)
      )
      const begun = yield* Deferred.make<void>()
      const aborted = yield* Deferred.make<void>()
      yield* Effect.promise(() =>
        ann.serve("analyst", ({ payload }, { signal }) => {
          if (payload.includes("throw")) throw new Error("no such disk")
          Deferred.unsafeDone(begun, Effect.void)
          signal.addEventListener("abort", () => Deferred.unsafeDone(aborted, Effect.void))
          return new Promise(() => {})
        })
      )
      const { eventId } = yield* submit("look")
      yield* Deferred.await(begun)
      yield* gateway.abort(eventId)
      yield* Deferred.await(aborted)
      expect((yield* outcome((yield* submit("throw")).eventId)).run).toMatchObject({
        state: "failed",
        error: "Error: no such disk"
      })
    }).pipe(Effect.provide(serving()))
  )

  it.scopedLive("takes its tasks again after a restart of the gateway in the middle of one", () =>
    Effect.gen(function* () {
      const storage = join(yield* tempDir, "ops.sqlite")
      const line = yield* cable
      const up = Effect.gen(function* () {
        const scope = yield* Scope.make()
        const context = yield* Scope.extend(Layer.build(serving({ storage })), scope)
        line.plug(Context.get(context, HttpAddress).port)
        return { scope, context }
      })
      const one = yield* up
      const attempts: Array<number> = []
      const client = yield* Client.make(`ws://127.0.0.1:${line.port}`, fast)
      yield* client.serve("analyst", ({ attempt }) => {
        attempts.push(attempt)
        return attempt > 1 ? Effect.succeed({ text: `attempt ${attempt}`, usage: USAGE }) : Effect.never
      })
      const { eventId } = yield* Effect.provide(submit("look"), one.context)
      yield* eventually(
        Effect.sync(() => attempts),
        ({ length }) => length === 1
      )
      yield* Scope.close(one.scope, Exit.void)
      const two = yield* up
      const { run } = yield* Effect.provide(outcome(eventId), two.context)
      expect(run).toMatchObject({ state: "completed", text: "attempt 2", attempt: 2 })
      expect(attempts).toEqual([1, 2])
      yield* Scope.close(two.scope, Exit.void)
    })
  )

  it.scopedLive("a connection that is resumed within the lease goes on with its task, and answers it", () =>
    Effect.gen(function* () {
      const line = yield* cable
      const context = yield* Layer.build(serving())
      line.plug(Context.get(context, HttpAddress).port)
      const go = yield* Deferred.make<void>()
      const client = yield* Client.make(`ws://127.0.0.1:${line.port}`, fast)
      let begun = 0
      yield* client.serve("analyst", () => {
        begun += 1
        return Effect.as(Deferred.await(go), { text: "done", usage: USAGE })
      })
      const { eventId } = yield* Effect.provide(submit("look"), context)
      yield* eventually(
        Effect.sync(() => begun),
        (count) => count === 1
      )
      line.cut(true)
      yield* Deferred.succeed(go, undefined)
      line.up()
      const { run } = yield* Effect.provide(outcome(eventId), context)
      expect(run).toMatchObject({ state: "completed", attempt: 1, text: "done" })
      expect(begun).toBe(1)
    })
  )
})
