import { describe, expect, it } from "@effect/vitest"
import { AuditLog, EventBus, GatewayError, GatewayService, Journal, Store, StoreError } from "@postilion/gateway"
import type { BusEvent } from "@postilion/gateway/domain/BusEvent"
import * as Audit from "@postilion/gateway/records/AuditLog"
import * as Bus from "@postilion/gateway/records/EventBus"
import type { JournalOptions } from "@postilion/gateway/records/Journal"
import * as JournalModule from "@postilion/gateway/records/Journal"
import type { Write } from "@postilion/gateway/records/Store"
import type { SwitchRow } from "@postilion/gateway/records/Tables"
import { Deferred, Effect, Exit, Fiber, Layer, TestClock } from "effect"
import { gateway, stores, watch, wrapStore } from "./TestGateway.ts"

/** What goes wrong with the store, and what was asked of it. */
class Faults {
  readonly commits: Array<ReadonlyArray<Write>> = []
  /** Fails the commits for which it says so, before anything is written. */
  failing: (writes: ReadonlyArray<Write>) => boolean = () => false
  /** What every commit waits for. */
  gate: Effect.Effect<unknown> = Effect.void

  readonly layer = wrapStore((store) => ({
    ...store,
    commit: (writes) =>
      Effect.zipRight(
        this.gate,
        Effect.suspend(() => {
          if (this.failing(writes)) return new StoreError({ message: "disk full" })
          this.commits.push(writes)
          return store.commit(writes)
        })
      )
  }))
  once(): void {
    this.failing = () => {
      this.failing = () => false
      return true
    }
  }
}

const put = (scope: string): Write => ({
  op: "put",
  table: "switches",
  row: { scope, mode: "paused", changed_at: 0, changed_by: "test" }
})
const told = (scope: string): BusEvent => ({ _tag: "SwitchChanged", at: 0, scope, mode: "paused", by: "test" })
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)

for (const [name, storeLayer] of stores) {
  const setup = (options?: JournalOptions) => {
    const faults = new Faults()
    const layer = Audit.layer().pipe(
      Layer.provideMerge(JournalModule.layer(options)),
      Layer.provideMerge(Bus.layer),
      Layer.provideMerge(faults.layer),
      Layer.provideMerge(storeLayer)
    )
    return { faults, layer }
  }

  describe(`the journal on ${name}`, () => {
    it.scoped("commits the steps of many fibers together, in the order they came", () => {
      const { faults, layer } = setup()
      return Effect.gen(function* () {
        const journal = yield* Journal
        const order: Array<number> = []
        const results = yield* Effect.forEach(
          numbers(1_000),
          (n) =>
            journal.step((tx) => {
              order.push(n)
              tx.write(put(`s${n}`))
              return n
            }),
          { concurrency: "unbounded" }
        )
        expect(results).toEqual(numbers(1_000))
        expect(order).toEqual(numbers(1_000))
        expect(faults.commits.length).toBeLessThanOrEqual(3)
        expect(faults.commits.flat()).toHaveLength(1_000)
        expect(yield* (yield* Store).find("switches", {})).toHaveLength(1_000)
      }).pipe(Effect.provide(layer))
    })

    it.scoped("what comes while a commit is under way forms the next batch; no batch is larger than the most", () => {
      const { faults, layer } = setup({ maxBatch: 10 })
      return Effect.gen(function* () {
        const journal = yield* Journal
        const gate = yield* Deferred.make<void>()
        const reached = yield* Deferred.make<void>()
        faults.gate = Effect.zipRight(Deferred.succeed(reached, undefined), Deferred.await(gate))
        const first = yield* Effect.fork(journal.step((tx) => tx.write(put("first"))))
        yield* Deferred.await(reached)
        const rest = yield* Effect.fork(
          Effect.forEach(numbers(25), (n) => journal.step((tx) => tx.write(put(`s${n}`))), { concurrency: "unbounded" })
        )
        yield* Effect.yieldNow()
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(first)
        yield* Fiber.join(rest)
        expect(faults.commits.map((writes) => writes.length)).toEqual([1, 10, 10, 5])
      }).pipe(Effect.provide(layer))
    })

    it.scoped("a step sees what the ones before it decided, and goes on, is told and acted on after the commit", () => {
      const { faults, layer } = setup()
      return Effect.gen(function* () {
        const journal = yield* Journal
        const bus = yield* EventBus
        const seen: Array<string> = []
        yield* bus.listen((event) => seen.push(`told ${"scope" in event ? event.scope : ""}`))
        faults.gate = Effect.sync(() => seen.push("commit"))
        let count = 0
        yield* Effect.forEach(
          [1, 2],
          (n) =>
            Effect.map(
              journal.step((tx) => {
                count += 1
                seen.push(`step ${count}`)
                tx.write(put(`s${n}`))
                tx.publish(told(`s${n}`))
                tx.onCommit(() => seen.push(`act ${n}`))
              }),
              () => seen.push(`done ${n}`)
            ),
          { concurrency: "unbounded" }
        )
        expect(seen).toEqual(["step 1", "step 2", "commit", "act 1", "act 2", "told s1", "told s2", "done 1", "done 2"])
      }).pipe(Effect.provide(layer))
    })

    it.scoped("adds no delay when idle: a step is on its way at the next turn of the event loop", () => {
      const { faults, layer } = setup()
      return Effect.gen(function* () {
        const journal = yield* Journal
        let turns = 0
        let counting = true
        const turn = (): void => {
          turns += 1
          if (counting) setImmediate(turn)
        }
        for (const n of numbers(20)) {
          // The last one's turn is over before the next one is counted.
          yield* Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))
          const began = turns
          if (n === 0) setImmediate(turn)
          let committedAt = Number.NaN
          faults.gate = Effect.sync(() => {
            committedAt = turns
          })
          yield* journal.step((tx) => tx.write(put(`s${n}`)))
          expect(committedAt - began).toBeLessThanOrEqual(1)
        }
        counting = false
        expect(faults.commits).toHaveLength(20)
      }).pipe(Effect.provide(layer))
    })

    it.scoped("a step that writes nothing costs no transaction", () => {
      const { faults, layer } = setup()
      return Effect.gen(function* () {
        expect(yield* (yield* Journal).step((tx) => tx.now)).toBe(0)
        expect(faults.commits).toEqual([])
      }).pipe(Effect.provide(layer))
    })

    it.scoped(
      "a step that throws fails alone: what it wrote is dropped, the chain stays whole, the others commit",
      () => {
        const { layer } = setup()
        return Effect.gen(function* () {
          const journal = yield* Journal
          const audit = yield* AuditLog
          const bus = yield* EventBus
          const heard: Array<string> = []
          let acted = 0
          yield* bus.listen((event) => heard.push("scope" in event ? event.scope : ""))
          const exits = yield* Effect.forEach(
            numbers(6),
            (n) =>
              Effect.exit(
                journal.step((tx) => {
                  tx.write(put(`s${n}`))
                  audit.append(tx, { kind: "switch.changed", data: { n } })
                  tx.publish(told(`s${n}`))
                  tx.onCommit(() => {
                    acted += 1
                  })
                  if (n === 1 || n === 4) throw new Error(`step ${n}`)
                  return n
                })
              ),
            { concurrency: "unbounded" }
          )
          expect(exits.map(Exit.isSuccess)).toEqual([true, false, true, true, false, true])
          expect(exits[1]).toEqual(Exit.die(new Error("step 1")))
          expect(acted).toBe(4)
          expect(heard).toEqual(["s0", "s2", "s3", "s5"])
          const rows = yield* (yield* Store).find("switches", {})
          expect(rows.map(({ scope }) => scope).sort()).toEqual(["s0", "s2", "s3", "s5"])
          expect(yield* audit.verify).toMatchObject({ valid: true, records: 4 })
          yield* journal.step((tx) => audit.append(tx, { kind: "switch.changed", data: { n: 6 } }))
          expect(yield* audit.verify).toMatchObject({ valid: true, records: 5 })
        }).pipe(Effect.provide(layer))
      }
    )

    it.scoped("a failing commit withdraws the whole batch, loads all state again, and the next step works", () => {
      const { faults, layer } = setup()
      return Effect.gen(function* () {
        const journal = yield* Journal
        const audit = yield* AuditLog
        const store = yield* Store
        const bus = yield* EventBus
        let known: ReadonlyArray<SwitchRow> = []
        let heard = 0
        let acted = 0
        yield* bus.listen(() => {
          heard += 1
        })
        yield* journal.register(
          Effect.map(store.find("switches", {}), (rows) => {
            known = rows
          })
        )
        const change = (scope: string) =>
          journal.step((tx) => {
            const write = put(scope)
            tx.write(write)
            if (write.table === "switches" && write.op === "put") known = [...known, write.row]
            audit.append(tx, { kind: "switch.changed", data: { scope } })
            tx.publish(told(scope))
            tx.onCommit(() => {
              acted += 1
            })
          })
        yield* change("kept")
        faults.once()
        const failed = yield* Effect.forEach(numbers(5), (n) => Effect.flip(change(`lost ${n}`)), {
          concurrency: "unbounded"
        })
        for (const error of failed) {
          expect(error).toBeInstanceOf(GatewayError)
          expect(error).toMatchObject({
            reason: "storage",
            retryable: true,
            message: "nothing was recorded: disk full"
          })
        }
        expect(known.map(({ scope }) => scope)).toEqual(["kept"])
        expect({ acted, heard }).toEqual({ acted: 1, heard: 1 })
        yield* change("after")
        expect(known.map(({ scope }) => scope)).toEqual(["kept", "after"])
        expect(yield* audit.verify).toMatchObject({ valid: true, records: 2 })
      }).pipe(Effect.provide(layer))
    })

    it.scoped("a write the database refuses withdraws its batch, as a full disk does", () => {
      const { layer } = setup()
      return Effect.gen(function* () {
        const journal = yield* Journal
        const row = { key: "k", agent_id: "a", updated_at: 0 }
        yield* journal.step((tx) => tx.write({ op: "insert", table: "sessions", row }))
        const exits = yield* Effect.forEach(
          ["fine", "k"],
          (key) =>
            Effect.exit(journal.step((tx) => tx.write({ op: "insert", table: "sessions", row: { ...row, key } }))),
          { concurrency: "unbounded" }
        )
        expect(exits.map(Exit.isSuccess)).toEqual([false, false])
        yield* journal.step((tx) => tx.write({ op: "insert", table: "sessions", row: { ...row, key: "fine" } }))
        expect(yield* (yield* Store).find("sessions", {})).toHaveLength(2)
      }).pipe(Effect.provide(layer))
    })

    it.scoped("a full inbox refuses what is sheddable, and never what the gateway owes", () => {
      const { faults, layer } = setup({ maxInbox: 3 })
      return Effect.gen(function* () {
        const journal = yield* Journal
        const gate = yield* Deferred.make<void>()
        const reached = yield* Deferred.make<void>()
        faults.gate = Effect.zipRight(Deferred.succeed(reached, undefined), Deferred.await(gate))
        const first = yield* Effect.fork(journal.step((tx) => tx.write(put("first"))))
        yield* Deferred.await(reached)
        const full = yield* Deferred.make<void>()
        const shed = (n: number) =>
          journal
            .step((tx) => tx.write(put(`s${n}`)), { sheddable: true })
            .pipe(
              Effect.tapError(() => Deferred.succeed(full, undefined)),
              Effect.exit
            )
        const waiting = yield* Effect.fork(Effect.forEach(numbers(5), shed, { concurrency: "unbounded" }))
        yield* Deferred.await(full)
        const owed = yield* Effect.fork(journal.step((tx) => tx.write(put("owed"))))
        yield* Effect.yieldNow()
        yield* Deferred.succeed(gate, undefined)
        const exits = yield* Fiber.join(waiting)
        expect(exits.map(Exit.isSuccess)).toEqual([true, true, true, false, false])
        expect(exits[3]).toMatchObject({ cause: { error: { reason: "overloaded", retryAfterSeconds: 1 } } })
        yield* Fiber.join(first)
        yield* Fiber.join(owed)
        expect(yield* (yield* Store).find("switches", {})).toHaveLength(5)
      }).pipe(Effect.provide(layer))
    })

    it.scoped("a caller that is interrupted does not undo its step, nor hold up the others", () => {
      const { faults, layer } = setup()
      return Effect.gen(function* () {
        const journal = yield* Journal
        const gate = yield* Deferred.make<void>()
        const reached = yield* Deferred.make<void>()
        faults.gate = Effect.zipRight(Deferred.succeed(reached, undefined), Deferred.await(gate))
        const gone = yield* Effect.fork(journal.step((tx) => tx.write(put("gone"))))
        yield* Deferred.await(reached)
        const interrupting = yield* Effect.fork(Fiber.interrupt(gone))
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(interrupting)
        yield* journal.step((tx) => tx.write(put("next")))
        expect(yield* (yield* Store).find("switches", {})).toHaveLength(2)
      }).pipe(Effect.provide(layer))
    })
  })

  describe(`a whole gateway whose store fails (${name})`, () => {
    const webhook = (n: number, metadata = {}) =>
      ({ source: "webhook", payload: { n }, metadata, idempotencyKey: `d${n}` }) as const

    it.scoped("a submit that could not be stored has not happened: budget, holds, chain and keys are as before", () => {
      const faults = new Faults()
      return Effect.gen(function* () {
        const gw = yield* GatewayService
        const audit = yield* AuditLog
        const bus = yield* watch
        yield* gw.submit(webhook(0, { mergeKey: "k" }))
        const before = yield* gw.status()
        const told = bus.events.length
        const records = (yield* audit.query()).length
        faults.once()
        const exits = yield* Effect.forEach(
          [webhook(1), webhook(2, { mergeKey: "k" }), webhook(3, { category: "deploy" }), webhook(4)],
          (input) => Effect.exit(gw.submit(input)),
          { concurrency: "unbounded" }
        )
        expect(exits.map(Exit.isSuccess)).toEqual([false, false, false, false])
        const after = yield* gw.status()
        expect({ ...after, uptime: 0 }).toEqual({ ...before, uptime: 0 })
        expect(bus.events).toHaveLength(told)
        expect(yield* audit.query()).toHaveLength(records)

        // Sent again, all of it works, under the same keys.
        const again = yield* Effect.forEach(
          [webhook(1), webhook(2, { mergeKey: "k" }), webhook(3, { category: "deploy" })],
          gw.submit,
          { concurrency: "unbounded" }
        )
        expect(again.map(({ decision, duplicate }) => [decision, duplicate])).toEqual([
          ["execute", false],
          ["merge", false],
          ["escalate", false]
        ])
        expect(yield* gw.outcome(again[0]?.eventId ?? "")).toMatchObject({ run: { state: "completed" } })
        yield* TestClock.adjust("5 minutes")
        yield* bus.until("EventsMerged", 1)
        expect(bus.all("EventsMerged")).toMatchObject([{ count: 2 }])
        expect(yield* audit.verify).toMatchObject({ valid: true })
      }).pipe(
        Effect.provide(
          gateway({ policies: { requireApprovalFor: ["deploy"] } }).pipe(
            Layer.provideMerge(faults.layer),
            Layer.provide(storeLayer)
          )
        )
      )
    })

    it.scoped("whatever commit fails, every event that was taken ends, once, and the ledger equals the runs", () => {
      const faults = new Faults()
      return Effect.gen(function* () {
        const gw = yield* GatewayService
        const audit = yield* AuditLog
        const bus = yield* watch
        let commits = 0
        // Every third commit fails: of submits, starts, ends, window closings alike.
        faults.failing = () => {
          commits += 1
          return commits % 3 === 0
        }
        const submitted = yield* Effect.forEach(numbers(12), (n) =>
          gw.submit(webhook(n, n % 4 === 0 ? { mergeKey: "k" } : {})).pipe(
            Effect.retry({ times: 2 }),
            Effect.map(({ eventId }) => eventId)
          )
        )
        const done = yield* Effect.fork(Effect.forEach(submitted, (id) => gw.outcome(id), { concurrency: "unbounded" }))
        // What could not be written is tried again each second.
        for (let i = 0; i < 12; i++) yield* TestClock.adjust("1 minute")
        const records = yield* Fiber.join(done)
        faults.failing = () => false
        expect(records.filter(({ state }) => state === "executed")).toHaveLength(10)
        expect(records.filter(({ state }) => state === "merged")).toHaveLength(2)
        expect(records.every(({ run, state }) => state === "merged" || run?.state === "completed")).toBe(true)
        expect((yield* gw.status()).budget).toMatchObject({ used: 1_000, reserved: 0 })
        expect(bus.all("ProactiveActionCompleted")).toHaveLength(10)
        expect(yield* audit.verify).toMatchObject({ valid: true })
        expect(yield* (yield* Store).find("events", {})).toHaveLength(12)
      }).pipe(Effect.provide(gateway().pipe(Layer.provideMerge(faults.layer), Layer.provide(storeLayer))))
    })

    it.scoped("a bus listener that throws hurts neither the step nor the others (N31)", () =>
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const bus = yield* EventBus
        yield* bus.listen(() => {
          throw new Error("a dying subscriber")
        })
        const heard = yield* watch
        const { eventId } = yield* gw.submit(webhook(1))
        expect(yield* gw.outcome(eventId)).toMatchObject({ run: { state: "completed" } })
        expect(heard.all("ProactiveActionCompleted")).toHaveLength(1)
      }).pipe(Effect.provide(gateway().pipe(Layer.provide(storeLayer))))
    )
  })
}
