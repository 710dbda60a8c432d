import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService, Journal, SessionStore } from "@postilion/gateway"
import type { Turn } from "@postilion/gateway/domain/Session"
import * as Audit from "@postilion/gateway/records/AuditLog"
import * as Bus from "@postilion/gateway/records/EventBus"
import * as JournalModule from "@postilion/gateway/records/Journal"
import type { ImportedSession, NewTurn } from "@postilion/gateway/records/SessionStore"
import * as Sessions from "@postilion/gateway/records/SessionStore"
import type { Write } from "@postilion/gateway/records/Store"
import { Deferred, Effect, Fiber, FastCheck as fc, Layer, Stream, TestClock } from "effect"
import { answerOf, gateway, gatewayOn, type Respond, stores, tempFile, wrapStore } from "./TestGateway.ts"

/** What was read and written through a store. */
class Traffic {
  rowsRead = 0
  readonly writes: Array<Write> = []
  readonly layer = wrapStore((store) => ({
    commit: (writes) => Effect.tap(store.commit(writes), () => Effect.sync(() => this.writes.push(...writes))),
    totals: store.totals,
    view: store.view,
    find: (table, query) =>
      Effect.tap(store.find(table, query), (rows) =>
        Effect.sync(() => {
          this.rowsRead += rows.length
        })
      )
  }))
  take(): { readonly rowsRead: number; readonly written: number } {
    const taken = { rowsRead: this.rowsRead, written: this.writes.length }
    this.rowsRead = 0
    this.writes.length = 0
    return taken
  }
}

const sessions = Sessions.layer.pipe(
  Layer.provideMerge(Audit.layer()),
  Layer.provideMerge(JournalModule.layer()),
  Layer.provideMerge(Bus.layer)
)
const say = (key: string, ...turns: ReadonlyArray<NewTurn>) =>
  Effect.flatMap(Journal, (journal) =>
    Effect.flatMap(SessionStore, (store) => journal.step((tx) => store.append(tx, key, "agent", turns)))
  )
const user = (content: string): NewTurn => ({ role: "user", content })
const assistant = (content: string): NewTurn => ({ role: "assistant", content })
const texts = (turns: ReadonlyArray<Turn>) => turns.map(({ content }) => content)

describe("alignHistory", () => {
  const turnOf = (role: "user" | "assistant", length: number, seq: number): Turn => ({
    seq,
    role,
    content: "x".repeat(length),
    at: new Date(0)
  })

  it("is the longest tail that fits and starts with a user's turn", () => {
    const turns = fc.array(fc.tuple(fc.constantFrom("user" as const, "assistant" as const), fc.nat(30)), {
      maxLength: 20
    })
    fc.assert(
      fc.property(turns, fc.nat(200), (all, characters) => {
        const history = all.map(([role, length], i) => turnOf(role, length, i))
        const tails = [...history.keys()].map((from) => history.slice(from))
        const fits = tails.find(
          (tail) => tail[0]?.role === "user" && tail.reduce((sum, { content }) => sum + content.length, 0) <= characters
        )
        expect(Sessions.alignHistory(history, characters)).toEqual(fits ?? [])
      })
    )
  })
})

for (const [name, storeLayer] of stores) {
  describe(`sessions on ${name}`, () => {
    it.scoped("N27: keys `a:1:2` and `a:1_2` shared one file: here keys are data, whatever they are", () =>
      Effect.gen(function* () {
        const store = yield* SessionStore
        const keys = [
          "a:1:2",
          "a:1_2",
          "a/1/2",
          "../../etc/passwd",
          "A:1:2",
          "",
          " ",
          "a:1:2 ",
          "constructor",
          "__proto__",
          "'; DROP TABLE turns; --",
          "%",
          "nul\u0000l",
          "🐎",
          "x".repeat(10_000)
        ]
        for (const [n, key] of keys.entries()) yield* say(key, user(`I am ${n}`), assistant("hello"))
        for (const [n, key] of keys.entries()) {
          expect(texts(yield* store.history(key))).toEqual([`I am ${n}`, "hello"])
        }
        expect(yield* store.list()).toHaveLength(keys.length)
        yield* store.delete("a:1:2")
        expect(yield* store.get("a:1:2")).toBeUndefined()
        expect(yield* store.history("a:1:2")).toEqual([])
        for (const [n, key] of keys.slice(1).entries()) {
          expect(texts(yield* store.history(key))).toEqual([`I am ${n + 1}`, "hello"])
        }
      }).pipe(Effect.provide(sessions), Effect.provide(storeLayer))
    )

    it.scoped("history is the recent turns, oldest first, beginning with the user, within turns and characters", () =>
      Effect.gen(function* () {
        const store = yield* SessionStore
        for (let n = 1; n <= 30; n++) yield* say("s", user(`q${n}`), assistant(`a${n}`))
        const whole = yield* store.history("s")
        expect(whole).toHaveLength(40)
        expect(texts(whole).slice(0, 2)).toEqual(["q11", "a11"])
        expect(texts(whole).at(-1)).toBe("a30")
        expect(texts(yield* store.history("s", { turns: 3 }))).toEqual(["q30", "a30"])
        expect(texts(yield* store.history("s", { turns: 4 }))).toEqual(["q29", "a29", "q30", "a30"])
        expect(texts(yield* store.history("s", { characters: 11 }))).toEqual(["q30", "a30"])
        expect(texts(yield* store.history("s", { characters: 5 }))).toEqual([])
        yield* say("s", user("x".repeat(8_001)))
        expect(yield* store.history("s")).toEqual([])
        yield* say("s", assistant("that was long"), user("sorry"))
        expect(texts(yield* store.history("s"))).toEqual(["sorry"])
        expect(yield* store.history("unknown")).toEqual([])
      }).pipe(Effect.provide(sessions), Effect.provide(storeLayer))
    )

    it.scoped("a turn keeps who said it, when, and for which event", () =>
      Effect.gen(function* () {
        const store = yield* SessionStore
        yield* TestClock.adjust("1 second")
        yield* say("s", { ...user("hi"), sender: "ada", eventId: "evt_1" }, assistant("hello"))
        expect(yield* store.history("s")).toEqual([
          { seq: 1, role: "user", content: "hi", at: new Date(1_000), sender: "ada", eventId: "evt_1" },
          { seq: 2, role: "assistant", content: "hello", at: new Date(1_000) }
        ])
        expect(yield* store.get("s")).toEqual({ key: "s", agentId: "agent", updatedAt: new Date(1_000) })
      }).pipe(Effect.provide(sessions), Effect.provide(storeLayer))
    )

    it.scoped("lists the most recently used first, so many", () =>
      Effect.gen(function* () {
        const store = yield* SessionStore
        for (const key of ["a", "b", "c", "a"]) {
          yield* TestClock.adjust("1 second")
          yield* say(key, user("hi"))
        }
        const keys = (limit?: number) =>
          Effect.map(store.list(limit === undefined ? {} : { limit }), (found) => found.map(({ key }) => key))
        expect(yield* keys()).toEqual(["a", "c", "b"])
        expect(yield* keys(2)).toEqual(["a", "c"])
      }).pipe(Effect.provide(sessions), Effect.provide(storeLayer))
    )

    it.scoped("lists page by page, each session once, also those used at the same instant", () =>
      Effect.gen(function* () {
        const store = yield* SessionStore
        for (const keys of [["e", "b", "d", "", "a", "c"], ["z", "y"], ["f"]]) {
          yield* TestClock.adjust("1 second")
          for (const key of keys) yield* say(key, user("hi"))
        }
        for (const limit of [1, 2, 3, 4, 100]) {
          const seen: Array<string> = []
          for (let page = yield* store.list({ limit }); page.length > 0; ) {
            seen.push(...page.map(({ key }) => key))
            const after = page.at(-1)
            page = after === undefined ? [] : yield* store.list({ limit, after })
          }
          expect(seen).toEqual(["f", "y", "z", "", "a", "b", "c", "d", "e"])
        }
      }).pipe(Effect.provide(sessions), Effect.provide(storeLayer))
    )

    it.scoped("shows turns page by page, the last ones first, each page oldest first", () =>
      Effect.gen(function* () {
        const store = yield* SessionStore
        for (let n = 1; n <= 5; n++) yield* say("s", user(`q${n}`))
        yield* say("other", user("no"))
        const last = yield* store.turns("s", { limit: 2 })
        expect(texts(last)).toEqual(["q4", "q5"])
        expect(texts(yield* store.turns("s", { before: last[0]?.seq }))).toEqual(["q1", "q2", "q3"])
        expect(yield* store.turns("none")).toEqual([])
      }).pipe(Effect.provide(sessions), Effect.provide(storeLayer))
    )

    it.scoped("C5: what is exported can be imported, where it is as it was", () =>
      Effect.gen(function* () {
        const store = yield* SessionStore
        for (const key of ["", "a/1", "🐎"]) {
          for (let n = 1; n <= 3; n++) {
            yield* TestClock.adjust("1 second")
            const asked = { ...user(`${key} ${n}`), sender: "ada", eventId: "evt_1" }
            yield* say(key, ...Array.from({ length: 200 }, () => [asked, assistant("yes")]).flat())
          }
        }
        const lines = Effect.map(Stream.runCollect(store.export), (found) => [...found])
        const before = yield* lines
        expect(before).toHaveLength(3 * 1_201)
        const imported: Array<ImportedSession & { turns: Array<Omit<Turn, "seq">> }> = []
        for (const line of before) {
          if ("session" in line) imported.push({ ...line.session, turns: [] })
          else imported.at(-1)?.turns.push(line.turn)
        }
        const refused = yield* Effect.flip(
          store.import([{ ...imported[0], key: "new" } as ImportedSession, ...imported])
        )
        expect(refused).toMatchObject({ reason: "conflict" })
        expect(yield* store.get("new")).toBeUndefined()
        yield* say("a/1", user("later"))
        yield* store.delete("🐎", "ada")
        yield* store.import(imported, { replace: true, by: "ada" })
        expect(yield* lines).toEqual(before)
        const kept = yield* (yield* AuditLog).query({ kind: "session.imported" })
        expect(kept.map(({ data }) => data)).toEqual(
          imported.map(({ key }) => ({ sessionKey: key, turns: 1_200, by: "ada" }))
        )
      }).pipe(Effect.provide(sessions), Effect.provide(storeLayer))
    )

    it.scoped("delete takes a session with its turns, and says whether there was one; clear leaves it empty", () =>
      Effect.gen(function* () {
        const store = yield* SessionStore
        yield* say("a", user("1"))
        yield* say("b", user("2"))
        yield* store.clear("a")
        expect(yield* store.history("a")).toEqual([])
        expect(yield* store.get("a")).toMatchObject({ key: "a" })
        expect(yield* store.delete("a")).toBe(true)
        expect(yield* store.delete("a")).toBe(false)
        expect((yield* store.list()).map(({ key }) => key)).toEqual(["b"])
        expect(texts(yield* store.history("b"))).toEqual(["2"])
        const deleted = yield* (yield* AuditLog).query({ kind: "session.deleted" })
        expect(deleted.map(({ data }) => data)).toEqual([{ sessionKey: "a", by: "program" }])
        // Numbers of turns are not used again while there are later ones.
        yield* say("a", user("3"))
        expect((yield* store.history("a"))[0]?.seq).toBe(3)
      }).pipe(Effect.provide(sessions), Effect.provide(storeLayer))
    )

    it.scoped("prune drops what is idle longer than the TTL, page by page, and never what is active", () =>
      Effect.gen(function* () {
        const store = yield* SessionStore
        const old = Array.from({ length: 250 }, (_, n) => `old ${n}`)
        yield* Effect.forEach(old, (key) => say(key, user("hi")), { concurrency: "unbounded" })
        yield* TestClock.adjust("30 days")
        yield* say("young", user("hi"))
        const isActive = (key: string) => key.endsWith("7")
        // Exactly the TTL is not longer than it.
        expect(yield* store.prune(30 * 86_400_000, isActive)).toBe(0)
        yield* TestClock.adjust(1)
        expect(yield* store.prune(30 * 86_400_000, isActive)).toBe(225)
        const left = (yield* store.list()).map(({ key }) => key)
        expect(left.sort()).toEqual([...old.filter(isActive), "young"].sort())
        for (const key of left) expect(yield* store.history(key)).toHaveLength(1)
        expect(yield* store.prune(30 * 86_400_000)).toBe(25)
        expect(yield* store.prune(30 * 86_400_000)).toBe(0)
        expect(yield* (yield* AuditLog).verify).toMatchObject({ valid: true, records: 250 })
      }).pipe(Effect.provide(sessions), Effect.provide(storeLayer))
    )

    it.scoped("a session that becomes active while it is about to be pruned stays", () => {
      let beforePrune: Effect.Effect<void> = Effect.void
      const pausing = wrapStore((store) => ({
        ...store,
        find: (table, query) =>
          Effect.tap(store.find(table, query), () => {
            if (table !== "sessions" || !Object.hasOwn(query.where ?? {}, "updated_at")) return Effect.void
            const run = beforePrune
            beforePrune = Effect.void
            return run
          })
      }))
      return Effect.gen(function* () {
        const store = yield* SessionStore
        const journal = yield* Journal
        yield* say("s", user("hi"))
        yield* TestClock.adjust("1 day")
        const active = new Set<string>()
        // A step that comes in ahead of the prune's own: the session's next run is dispatched.
        beforePrune = Effect.zipRight(Effect.forkDaemon(journal.step(() => active.add("s"))), Effect.yieldNow())
        expect(yield* store.prune(1_000, (key) => active.has(key))).toBe(0)
        expect(texts(yield* store.history("s"))).toEqual(["hi"])
      }).pipe(Effect.provide(sessions), Effect.provide(pausing), Effect.provide(storeLayer))
    })

    it.scoped("an append costs the same for the first turn and the ten-thousandth", () => {
      const traffic = new Traffic()
      return Effect.gen(function* () {
        const store = yield* SessionStore
        const cost = Effect.gen(function* () {
          traffic.take()
          yield* say("long", user("hi"), assistant("hello"))
          return traffic.take()
        })
        const first = yield* cost
        yield* Effect.forEach(
          Array.from({ length: 5_000 }, (_, n) => n),
          (n) => say("long", user(`q${n}`), assistant(`a${n}`)),
          { concurrency: "unbounded" }
        )
        expect(yield* cost).toEqual(first)
        expect(first).toEqual({ rowsRead: 0, written: 3 })
        // Reading costs what is shown, not what there is.
        traffic.take()
        expect(yield* store.history("long")).toHaveLength(40)
        expect(traffic.take().rowsRead).toBe(40)
      }).pipe(Effect.provide(sessions), Effect.provide(traffic.layer), Effect.provide(storeLayer))
    })
  })
}

describe("chat", () => {
  const message = (text: string, sessionKey = "telegram:1") =>
    ({ source: "channel", payload: { text }, sender: "ada", sessionKey }) as const
  const allowed = { accessControl: { allowedSenders: ["ada"] } }
  /** Answers with what it was shown. */
  const recall: Respond = ({ history, taskDescription }) =>
    Effect.succeed(
      answerOf(`${taskDescription} after [${history.map(({ content, role }) => `${role}: ${content}`).join(" | ")}]`)
    )

  it.scoped("what was said before reaches the agent's next task, also after a restart, and no other session's", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const ask = (text: string, key?: string) =>
        Effect.flatMap(GatewayService, (gw) => Effect.map(gw.run(message(text, key)), ({ text }) => text))
      yield* Effect.gen(function* () {
        expect(yield* ask("one")).toBe("one after []")
        expect(yield* ask("two")).toBe("two after [user: one | assistant: one after []]")
        expect(yield* ask("hi", "telegram:2")).toBe("hi after []")
        expect((yield* (yield* GatewayService).status()).stats.chatTurnsHandled).toBe(3)
      }).pipe(Effect.provide(gatewayOn(file, allowed, recall)))
      yield* Effect.gen(function* () {
        expect(yield* ask("three")).toMatch(/^three after \[user: one \| assistant: .* \| user: two \| assistant: /)
      }).pipe(Effect.provide(gatewayOn(file, allowed, recall)))
    })
  )

  it.scoped("`task` mode keeps nothing", () =>
    Effect.gen(function* () {
      const gw = yield* GatewayService
      for (const text of ["one", "two"]) expect((yield* gw.run(message(text))).text).toBe(`${text} after []`)
      expect(yield* (yield* SessionStore).list()).toEqual([])
    }).pipe(
      Effect.provide(gateway({ accessControl: { allowedSenders: ["ada"], mode: "task" } }, recall)),
      Effect.provide(stores[0]?.[1] ?? Layer.die("no store"))
    )
  )

  it.scoped("messages of one session run one after the other, of different sessions at once", () =>
    Effect.gen(function* () {
      const gates = new Map<string, Deferred.Deferred<void>>()
      const begun: Array<string> = []
      const reached = new Map<string, Deferred.Deferred<void>>()
      for (const text of ["a1", "a2", "b1"]) {
        gates.set(text, yield* Deferred.make<void>())
        reached.set(text, yield* Deferred.make<void>())
      }
      const of = (map: Map<string, Deferred.Deferred<void>>, key: string) => {
        const found = map.get(key)
        if (found === undefined) throw new Error(key)
        return found
      }
      const respond: Respond = ({ taskDescription }) =>
        Effect.gen(function* () {
          begun.push(taskDescription)
          yield* Deferred.succeed(of(reached, taskDescription), undefined)
          yield* Deferred.await(of(gates, taskDescription))
          return answerOf("ok")
        })
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const run = (text: string, key: string) => Effect.fork(gw.run(message(text, key)))
        const a1 = yield* run("a1", "a")
        yield* Deferred.await(of(reached, "a1"))
        const a2 = yield* run("a2", "a")
        const b1 = yield* run("b1", "b")
        yield* Deferred.await(of(reached, "b1"))
        expect(begun).toEqual(["a1", "b1"])
        yield* Deferred.succeed(of(gates, "b1"), undefined)
        yield* Fiber.join(b1)
        expect(begun).toEqual(["a1", "b1"])
        yield* Deferred.succeed(of(gates, "a1"), undefined)
        yield* Deferred.await(of(reached, "a2"))
        yield* Deferred.succeed(of(gates, "a2"), undefined)
        yield* Fiber.join(a1)
        yield* Fiber.join(a2)
        expect(begun).toEqual(["a1", "b1", "a2"])
      }).pipe(Effect.provide(gateway(allowed, respond)), Effect.provide(stores[0]?.[1] ?? Layer.die("no store")))
    })
  )
})
