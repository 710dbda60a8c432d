import { describe, expect, it } from "@effect/vitest"
import { AuditLog, decodeConfig, GatewayService, Journal, type RawInput, Store } from "@postilion/gateway"
import * as AuditLogModule from "@postilion/gateway/records/AuditLog"
import * as EventBusModule from "@postilion/gateway/records/EventBus"
import * as JournalModule from "@postilion/gateway/records/Journal"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import type { DeliveryRow } from "@postilion/gateway/records/Tables"
import * as CrashLoop from "@postilion/gateway/runs/CrashLoop"
import { Lanes, laneKey } from "@postilion/gateway/runs/DeliveryLanes"
import * as KillSwitchModule from "@postilion/gateway/runs/KillSwitch"
import * as Outbox from "@postilion/gateway/runs/Outbox"
import { Deferred, Effect, Layer, TestClock } from "effect"
import { LongestSleep } from "../src/internal/Alarm.ts"
import { channel, refusal, taken } from "./TestChannel.ts"
import { gateway, watch, wrapStore } from "./TestGateway.ts"

const open = {
  policies: { maxActionsPerHour: "unlimited" as const },
  limits: { maxConcurrentRuns: 1, maxConcurrentDeliveries: 3 }
}
const input = (target: string, text = target): RawInput => ({
  source: "state-change",
  payload: { text },
  replyTo: { channel: "test", target }
})
const submit = (one: RawInput) => Effect.flatMap(GatewayService, (gw) => gw.submit(one))
const inMemory = (test: ReturnType<typeof channel>, config: object = {}) =>
  gateway({ ...open, ...config }, undefined, { channels: [test] }).pipe(Layer.provideMerge(StoreMemory.layer))
const textsTo = ({ messages }: ReturnType<typeof channel>, target: string) =>
  messages.filter((message) => message.target === target).map(({ text }) => text)

describe("a target", () => {
  it.scoped("has one message at a time, in the order of their runs; a stuck one holds up nobody else", () =>
    Effect.gen(function* () {
      const unstick = yield* Deferred.make<void>()
      let underWay = 0
      let most = 0
      const test = channel(({ target }) => {
        if (target !== "stuck") return taken
        underWay += 1
        most = Math.max(most, underWay)
        return Effect.ensuring(
          Effect.as(Deferred.await(unstick), {}),
          Effect.sync(() => {
            underWay -= 1
          })
        )
      })
      yield* Effect.gen(function* () {
        const told = yield* watch
        for (let n = 0; n < 20; n++) {
          yield* submit(input("stuck", `s${n}`))
          yield* submit(input(n % 2 === 0 ? "ada" : "bob", `o${n}`))
        }
        yield* told.until("DeliverySent", 20)
        yield* told.until("DeliveryPrepared", 40)
        expect(textsTo(test, "stuck")).toEqual(["done: s0"])
        expect(textsTo(test, "ada")).toEqual([0, 2, 4, 6, 8, 10, 12, 14, 16, 18].map((n) => `done: o${n}`))
        yield* Deferred.succeed(unstick, undefined)
        yield* told.until("DeliverySent", 40)
        expect(textsTo(test, "stuck")).toEqual(Array.from({ length: 20 }, (_, n) => `done: s${n}`))
        expect(most).toBe(1)
      }).pipe(Effect.provide(inMemory(test)))
    })
  )

  it.scoped("keeps its order while its first message waits to be tried again", () => {
    let refused = 0
    const test = channel(({ text }) => {
      if (text !== "done: 1" || refused === 2) return taken
      refused += 1
      return refusal("not-sent")
    })
    return Effect.gen(function* () {
      const told = yield* watch
      yield* submit(input("ada", "1"))
      yield* told.until("DeliveryPostponed", 1)
      yield* submit(input("ada", "2"))
      yield* submit(input("bob", "3"))
      yield* told.until("DeliverySent", 1)
      yield* TestClock.adjust("5 seconds")
      yield* told.until("DeliveryPostponed", 2)
      yield* TestClock.adjust("10 seconds")
      yield* told.until("DeliverySent", 3)
      expect(textsTo(test, "ada")).toEqual(["done: 1", "done: 1", "done: 1", "done: 2"])
      expect(textsTo(test, "bob")).toEqual(["done: 3"])
    }).pipe(Effect.provide(inMemory(test)))
  })

  it.scoped("is one of so many that are sent to at a time", () =>
    Effect.gen(function* () {
      const go = yield* Deferred.make<void>()
      let underWay = 0
      let most = 0
      const test = channel(() =>
        Effect.suspend(() => {
          underWay += 1
          most = Math.max(most, underWay)
          return Effect.as(Deferred.await(go), {})
        }).pipe(
          Effect.ensuring(
            Effect.sync(() => {
              underWay -= 1
            })
          )
        )
      )
      yield* Effect.gen(function* () {
        const told = yield* watch
        yield* Effect.forEach(["a", "b", "c", "d", "e", "f"], (target) => submit(input(target)))
        yield* told.until("DeliveryPrepared", 6)
        yield* TestClock.adjust("1 second")
        expect((yield* (yield* GatewayService).status()).deliveries).toMatchObject({ sending: 3, prepared: 3 })
        yield* Deferred.succeed(go, undefined)
        yield* told.until("DeliverySent", 6)
        expect(most).toBe(3)
      }).pipe(Effect.provide(inMemory(test)))
    })
  )
})

describe("the kill switch", () => {
  it.scoped(
    "holds the deliveries of what is stopped or terminated, and lets them go on resume; a pause does not",
    () => {
      const test = channel(() => taken)
      const agents = { ops: {}, chat: {} }
      return Effect.gen(function* () {
        const told = yield* watch
        const gw = yield* GatewayService
        const store = yield* Store
        const outbox = yield* Outbox.Outbox
        const journal = yield* Journal
        const prepare = (agentId: string, target: string) =>
          journal.step((tx) =>
            outbox.prepare(tx, {
              event: {
                id: "evt_1",
                source: "cron",
                timestamp: new Date(0),
                payload: null,
                priority: "normal",
                metadata: {},
                replyTo: { channel: "test", target }
              },
              agentId,
              runId: "run_1",
              outcome: "completed",
              text: agentId
            })
          )
        yield* gw.stop({ agentId: "ops" })
        yield* prepare("ops", "ada")
        yield* prepare("chat", "ada")
        yield* told.until("DeliverySent", 1)
        expect(test.messages.map(({ agentId }) => agentId)).toEqual(["chat"])
        yield* gw.terminate()
        yield* prepare("chat", "bob")
        yield* TestClock.adjust("1 hour")
        expect(test.messages).toHaveLength(1)
        expect((yield* gw.status()).deliveries).toMatchObject({ prepared: 2, sent: 1 })
        yield* gw.resume()
        yield* told.until("DeliverySent", 2)
        expect(test.messages.map(({ target }) => target)).toEqual(["ada", "bob"])
        yield* gw.pause({ agentId: "ops" })
        yield* told.until("DeliverySent", 3)
        expect(yield* store.find("deliveries", { where: { state: "sent" } })).toHaveLength(3)
      }).pipe(Effect.provide(inMemory(test, { agents })))
    }
  )
})

describe("a switch that is thrown while a delivery is being begun", () => {
  it.scoped("still holds it", () => {
    const test = channel()
    let found: Effect.Effect<unknown> = Effect.void
    const store = wrapStore((store) => ({
      ...store,
      find: (table, query) =>
        Effect.tap(store.find(table, query), (rows) =>
          Effect.suspend(() => {
            if (table !== "deliveries" || rows.length === 0) return Effect.void
            const once = found
            found = Effect.void
            return once
          })
        )
    })).pipe(Layer.provideMerge(StoreMemory.layer))
    return Effect.gen(function* () {
      const told = yield* watch
      const gw = yield* GatewayService
      found = Effect.orDie(gw.terminate())
      yield* submit(input("ada"))
      yield* told.until("DeliveryPostponed", 1)
      yield* TestClock.adjust("1 hour")
      expect(test.messages).toEqual([])
      expect((yield* gw.status()).deliveries).toMatchObject({ prepared: 1, sending: 0 })
      yield* gw.resume()
      yield* told.until("DeliverySent", 1)
    }).pipe(Effect.provide(gateway(open, undefined, { channels: [test] }).pipe(Layer.provide(store))))
  })
})

describe("memory", () => {
  const outboxOf = (test: ReturnType<typeof channel>, maxLanes: number) =>
    Layer.unwrapEffect(
      Effect.map(decodeConfig(open), (config) =>
        Layer.provide(Outbox.layer(config, { channels: [test], maxLanes }), CrashLoop.layer(config))
      )
    ).pipe(
      Layer.provideMerge(KillSwitchModule.layer),
      Layer.provideMerge(AuditLogModule.layer()),
      Layer.provideMerge(JournalModule.layer()),
      Layer.provideMerge(EventBusModule.layer),
      Layer.provideMerge(StoreMemory.layer),
      Layer.provide(Layer.succeed(LongestSleep, Number.MAX_SAFE_INTEGER))
    )
  const rowOf = (seq: number, target: string): DeliveryRow => ({
    seq,
    id: `dlv_${seq}`,
    event_id: "evt_1",
    run_id: "run_1",
    agent_id: "agent",
    channel: "test",
    target,
    state: "prepared",
    attempt: 0,
    outcome: "completed",
    text: `${target} ${seq}`,
    created_at: 0,
    due_at: 0,
    reference: null,
    error: null,
    ended_at: null
  })

  it.scoped(
    "holds so many targets, and the others are found again: all is sent, in order, also what waits for its time",
    () => {
      const attempts = new Map<string, number>()
      const test = channel(({ key, target }) => {
        const attempt = (attempts.get(key) ?? 0) + 1
        attempts.set(key, attempt)
        return target.startsWith("late") && attempt < 3 ? refusal("not-sent") : taken
      })
      const targets = Array.from({ length: 20 }, (_, n) => (n < 10 ? `late${n}` : `soon${n}`))
      return Effect.gen(function* () {
        const told = yield* watch
        const store = yield* Store
        const rows = Array.from({ length: 80 }, (_, i) => rowOf(i + 1, targets[i % targets.length] ?? ""))
        yield* store.commit(rows.map((row) => ({ op: "insert", table: "deliveries", row }) as const))
        yield* (yield* Outbox.Outbox).resume
        // Those that can go on do, whatever waits.
        yield* told.until("DeliverySent", 40)
        while (told.all("DeliverySent").length < 80) yield* TestClock.adjust("5 seconds")
        for (const target of targets) {
          const order = [
            ...new Set(test.messages.filter((message) => message.target === target).map(({ text }) => text))
          ]
          expect(order).toEqual(rows.filter((row) => row.target === target).map(({ text }) => text))
        }
        expect([...attempts.values()].reduce((sum, n) => sum + n)).toBe(40 + 3 * 40)
        expect(yield* (yield* AuditLog).verify).toMatchObject({ valid: true })
      }).pipe(Effect.provide(outboxOf(test, 4)))
    }
  )

  it("counts its lanes right", () => {
    const lanes = new Lanes(4)
    const route = (n: number) => ({ channel: "c", target: String(n) })
    expect([1, 2, 3, 4, 5].map((n) => lanes.wake(route(n)))).toEqual([true, true, true, true, false])
    expect(lanes.wake(route(1))).toBe(true)
    const taken = [lanes.take(), lanes.take(), lanes.take(), lanes.take()]
    expect(lanes.take()).toBeUndefined()
    expect(lanes.active).toBe(4)
    const waits = taken.map((lane) => lane !== undefined && lanes.wait(lane))
    expect(waits).toEqual([true, true, false, false])
    expect([lanes.active, lanes.hasRoom]).toEqual([0, true])
    lanes.resume(laneKey(route(1)))
    expect(lanes.take()?.target).toBe("1")
    expect(laneKey({ channel: "a", target: "b:c" })).not.toBe(laneKey({ channel: "a:b", target: "c" }))
  })
})
