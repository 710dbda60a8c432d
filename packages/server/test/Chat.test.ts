import { describe, expect, it } from "@effect/vitest"
import { AgentRunError, GatewayService, Policy, PolicyEngine, SessionStore } from "@postilion/gateway"
import { Deferred, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { ADA, as, eventually, MALLORY, request, result, say, server } from "./Support.ts"

const eventsReceived = Effect.gen(function* () {
  const { pending, stats } = yield* (yield* GatewayService).status()
  return stats.actionsSuppressed + stats.chatTurnsHandled + pending.undecided + pending.queued + pending.running
})

describe("the chat door", () => {
  it.scoped("answers with what the agent says", () =>
    Effect.gen(function* () {
      const answer = yield* say({ text: "how is the disk?" })
      expect(answer).toMatchObject({
        status: 200,
        body: { decision: "execute", policy: "default", reason: null, reply: "done: how is the disk?" }
      })
      expect(yield* request(`/events/${answer.body.eventId}`, as(ADA))).toMatchObject({
        body: { event: { source: "channel", sender: "ada", sessionKey: 'http:["ada","default"]' } }
      })
    }).pipe(Effect.provide(server()))
  )

  it.scoped("X17: the sender is who holds the token, and a body that names another is refused", () =>
    Effect.gen(function* () {
      for (const spoof of [{ sender: "ada" }, { from: "ada" }, { metadata: { sender: "ada" } }, { sessionKey: "x" }]) {
        const answer = yield* say({ text: "let me in", ...spoof }, MALLORY)
        expect(answer).toMatchObject({
          status: 422,
          body: { detail: expect.stringContaining(Object.keys(spoof)[0] ?? "") }
        })
      }
      expect(yield* eventsReceived).toBe(0)
      const answer = yield* say({ text: "let me in" }, MALLORY)
      expect(answer).toMatchObject({ status: 403, body: { detail: 'sender "mallory" has no access' } })
      expect(answer.body.reply).toBeUndefined()
    }).pipe(Effect.provide(server()))
  )

  it.scoped("X17: an empty sender is nobody: no empty token, no empty name, and an open door still needs a token", () =>
    Effect.gen(function* () {
      expect(yield* say({ text: "hello" }, "")).toMatchObject({ status: 401 })
      for (const tokens of [{ "": "nobody" }, { ada: "" }, { ada: "two words" }, { ada: "same", bob: "same" }]) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(server({ tokens }))))
        expect(error).toMatchObject({ _tag: "GatewayConfigError", path: expect.stringMatching(/^tokens/) })
        expect(error.message).not.toContain("two words")
      }
      expect(yield* eventsReceived).toBe(0)
    }).pipe(Effect.provide(server({ accessControl: { accessPolicy: "open" } })))
  )

  it.scoped("who has no access is answered as configured", () =>
    Effect.gen(function* () {
      const answer = yield* say({ text: "let me in" }, MALLORY)
      expect(answer).toMatchObject({
        status: 403,
        body: { reply: "Ask Ada.", eventId: expect.stringMatching(/^evt_/) }
      })
    }).pipe(Effect.provide(server({ accessControl: { replyToUnknown: "Ask Ada." } })))
  )

  it.scoped("what is no message is refused with what is wrong", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [unknown, number, RegExp]> = [
        ["{", 400, /must be JSON/],
        ["", 400, /must be JSON/],
        [{}, 422, /text is missing/],
        [{ text: "" }, 422, /text/],
        [{ text: 1 }, 422, /text Expected/],
        [{ text: "x", chatId: "" }, 422, /chatId/],
        [{ text: "x", chatId: "x".repeat(257) }, 422, /chatId/],
        [null, 422, /a message is/],
        [[], 422, /a message is/]
      ]
      for (const [message, status, detail] of cases) {
        const answer = yield* say(message)
        expect(answer, JSON.stringify(message)).toMatchObject({
          status,
          body: { detail: expect.stringMatching(detail) }
        })
      }
      const bytes = yield* request("/chat", {
        method: "POST",
        headers: { authorization: `Bearer ${ADA}`, "content-type": "application/json" },
        body: new Uint8Array([0x22, 0xff, 0x22])
      })
      expect(bytes.status).toBe(400)
      const form = yield* request("/chat", {
        method: "POST",
        headers: { authorization: `Bearer ${ADA}`, "content-type": "text/plain" },
        body: '{"text":"x"}'
      })
      expect(form.status).toBe(415)
    }).pipe(Effect.provide(server()))
  )

  it.scoped("N27: no two chats share a session, whatever their names", () =>
    Effect.gen(function* () {
      const chats: ReadonlyArray<readonly [token: string, chatId: string]> = [
        ["t1", "1:2"],
        ["t1", "1_2"],
        ["t1", "default"],
        ["t2", "2"],
        ["t2", 'b","c'],
        ["t3", "c"],
        ["t1", "../../etc/passwd"],
        ["t1", "constructor"],
        ["t1", "__proto__"],
        ["t1", "\ud800"],
        ["t1", "a/b"],
        ["t1", "a\u0000b"]
      ]
      for (const [token, chatId] of chats)
        expect((yield* say({ text: "one", chatId }, token)).body.reply).toBe("0 turns")
      for (const [token, chatId] of chats)
        expect((yield* say({ text: "two", chatId }, token)).body.reply).toBe("2 turns")
      expect((yield* say({ text: "three" }, "t1")).body.reply).toBe("4 turns")
      const sessions = yield* (yield* SessionStore).list()
      expect(new Set(sessions.map(({ key }) => key)).size).toBe(chats.length)
    }).pipe(
      Effect.provide(
        server(
          {
            tokens: { a: "t1", "a:1": "t2", 'a","b': "t3" },
            accessControl: { allowedSenders: ["*"] },
            policies: { maxActionsPerHour: "unlimited" }
          },
          (task) => Effect.succeed(result(`${task.history.length} turns`))
        )
      )
    )
  )

  it.scoped("what has to wait is answered 202, with where to look", () =>
    Effect.gen(function* () {
      const queued = yield* say({ text: "first" })
      expect(queued).toMatchObject({ status: 202, body: { decision: "queue", policy: "RateLimit", reply: null } })
      expect(queued.headers.get("location")).toBe(`/events/${queued.body.eventId}`)
    }).pipe(Effect.provide(server({ policies: { maxActionsPerHour: 0 } })))
  )

  it.scoped("waits for a policy that takes its time", () =>
    Effect.gen(function* () {
      const engine = yield* PolicyEngine
      const answer = yield* Deferred.make<null>()
      yield* engine.addPolicy({ _tag: "Ponders", priority: 1, evaluate: () => Deferred.await(answer) })
      const said = yield* Effect.fork(say({ text: "well?" }))
      const gateway = yield* GatewayService
      yield* eventually(gateway.status(), ({ pending }) => pending.undecided === 1)
      yield* Deferred.succeed(answer, null)
      expect(yield* said).toMatchObject({ status: 200, body: { reply: "done: well?" } })
    }).pipe(Effect.provide(server()))
  )

  it.scoped("a policy's refusal is an answer, and an agent's failure a problem", () =>
    Effect.gen(function* () {
      expect(yield* say({ text: "fail" })).toMatchObject({
        status: 500,
        body: { detail: "the agent did not answer: no credit", eventId: expect.stringMatching(/^evt_/) }
      })
      const engine = yield* PolicyEngine
      yield* engine.addPolicy(Policy.make("Quiet", { priority: 1, evaluate: () => Policy.skip("hush") }))
      expect(yield* say({ text: "hello" })).toMatchObject({
        status: 200,
        body: { decision: "skip", policy: "Quiet", reason: "hush", reply: null }
      })
    }).pipe(Effect.provide(server({}, () => new AgentRunError({ message: "no credit", retryable: false }))))
  )

  it.scoped("what a run of its session took over is answered with that run's answer, under its own id", () =>
    Effect.gen(function* () {
      const taken = yield* Deferred.make<void>()
      const app = server({ sessions: { whenBusy: "steer" } }, ({ steering = Effect.succeed([]), taskDescription }) =>
        Effect.map(Effect.zipRight(Deferred.await(taken), steering), (more) =>
          result([taskDescription, ...more].join("; "))
        )
      )
      yield* Effect.gen(function* () {
        const gateway = yield* GatewayService
        const until = (running: number, waiting: number) =>
          eventually(gateway.status(), ({ pending }) => pending.running === running && pending.waiting === waiting)
        const first = yield* Effect.fork(say({ text: "restart it" }))
        yield* until(1, 0)
        const second = yield* Effect.fork(say({ text: "but not now" }))
        yield* until(1, 1)
        yield* Deferred.succeed(taken, undefined)
        for (const [fiber, text] of [
          [first, "restart it"],
          [second, "but not now"]
        ] as const) {
          const { body, status } = yield* Fiber.join(fiber)
          expect({ status, reply: body.reply }).toEqual({ status: 200, reply: "restart it; but not now" })
          expect(yield* request(`/events/${body.eventId}`, as(ADA))).toMatchObject({
            body: { event: { payload: { text } } }
          })
        }
      }).pipe(Effect.provide(app))
    })
  )

  it.scoped("who waits when the server stops gets the answer of a run that can still finish", () =>
    Effect.gen(function* () {
      const reply = yield* Deferred.make<string>()
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(
        server({}, () => Effect.map(Deferred.await(reply), result)),
        scope
      )
      const here = Effect.provide(context)
      const said = yield* Effect.fork(here(say({ text: "hello?" })))
      const running = here(Effect.flatMap(GatewayService, (gateway) => gateway.status()))
      yield* eventually(running, ({ pending }) => pending.running === 1)
      const closed = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* eventually(here(request("/readyz")), ({ status }) => status === 503)
      const late = yield* here(say({ text: "me too" }))
      expect(late).toMatchObject({ status: 503, body: { reason: "draining" } })
      yield* Deferred.succeed(reply, "here I am")
      expect(yield* said).toMatchObject({ status: 200, body: { reply: "here I am" } })
      yield* Fiber.join(closed)
    })
  )

  it.scoped("who waits when the server stops is told where the answer will be", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(
        server({ drainDeadlineMs: 0 }, () => Effect.never),
        scope
      )
      const said = yield* Effect.fork(Effect.provide(say({ text: "hello?" }), context))
      const running = Effect.flatMap(GatewayService, (gateway) => gateway.status()).pipe(Effect.provide(context))
      yield* eventually(running, ({ pending }) => pending.running === 1)
      yield* Scope.close(scope, Exit.void)
      expect(yield* said).toMatchObject({ status: 202, body: { decision: "execute", reply: null } })
    })
  )
})
