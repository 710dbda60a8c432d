import { describe, expect, it } from "@effect/vitest"
import { AuditLog, Gateway, GatewayService, type RawInput, Scheduler, Store, StoreError } from "@postilion/gateway"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import type { DeliveryRow } from "@postilion/gateway/records/Tables"
import { Deferred, Effect, Fiber, Layer, TestClock } from "effect"
import { channel, refusal, taken } from "./TestChannel.ts"
import { answerOf, gateway, gatewayOn, sqlite, tempFile, watch, wrapStore } from "./TestGateway.ts"

const to = (target: string, name = "test") => ({ channel: name, target })
const input = (target: string, change: Partial<RawInput> = {}): RawInput => ({
  source: "state-change",
  payload: { text: `for ${target}` },
  replyTo: to(target),
  ...change
})
const open = { policies: { maxActionsPerHour: "unlimited" as const }, accessControl: { accessPolicy: "open" as const } }

/** A gateway in memory with these channels, and what the bus told. */
const inMemory = (...channels: ReadonlyArray<ReturnType<typeof channel>>) =>
  gateway(open, undefined, { channels }).pipe(Layer.provideMerge(StoreMemory.layer))

const submit = (one: RawInput) => Effect.flatMap(GatewayService, (gw) => gw.submit(one))
const list = Effect.flatMap(GatewayService, (gw) => gw.deliveries())
const counts = Effect.flatMap(GatewayService, (gw) => Effect.map(gw.status(), ({ deliveries }) => deliveries))
/** Waits until nothing is to be sent any more. */
const settled = Effect.repeat(Effect.zipRight(Effect.yieldNow(), counts), {
  until: ({ prepared, sending }) => prepared + sending === 0
})
const kindsOf = (eventId: string) =>
  Effect.flatMap(AuditLog, (audit) =>
    Effect.map(audit.query({ eventId }), (records) => records.map(({ data, kind }) => [kind, data.state]))
  )
/** Lets the time of this many retries pass: each is set when the one before has happened. */
const pass = (retries: number) => Effect.repeatN(TestClock.adjust("15 minutes"), retries - 1)

describe("an answer", () => {
  it.scoped("goes to its event's route, and every step of it is told and recorded", () => {
    const test = channel()
    return Effect.gen(function* () {
      const told = yield* watch
      const { eventId } = yield* submit(input("ada"))
      const [sent] = yield* told.until("DeliverySent", 1)
      const gw = yield* GatewayService
      const record = yield* gw.find(eventId)
      const delivery = record?.delivery
      expect(test.messages).toEqual([
        {
          key: delivery?.id,
          seq: 1,
          target: "ada",
          text: "done: for ada",
          outcome: "completed",
          agentId: "agent",
          eventId,
          runId: record?.run?.id,
          preparedAt: new Date(0)
        }
      ])
      expect(record?.event.replyTo).toEqual(to("ada"))
      expect(delivery).toMatchObject({ seq: 1, state: "sent", attempt: 1, reference: "ok", to: to("ada") })
      expect(sent).toEqual({
        _tag: "DeliverySent",
        at: 0,
        eventId,
        agentId: "agent",
        deliveryId: delivery?.id,
        runId: record?.run?.id,
        to: to("ada"),
        attempt: 1,
        reference: "ok"
      })
      expect(told.events.slice(-4).map(({ _tag }) => _tag)).toEqual([
        "DeliveryPrepared",
        "ProactiveActionCompleted",
        "DeliveryStarted",
        "DeliverySent"
      ])
      expect(yield* kindsOf(eventId)).toEqual([
        ["event.decided", undefined],
        ["run.started", undefined],
        ["run.ended", "completed"],
        ["delivery.prepared", undefined],
        ["delivery.started", undefined],
        ["delivery.ended", "sent"]
      ])
      expect(yield* (yield* AuditLog).verify).toMatchObject({ valid: true })
      expect(yield* counts).toEqual({ prepared: 0, sending: 0, unknown: 0, failed: 0, sent: 1 })
    }).pipe(Effect.provide(inMemory(test)))
  })

  it.scoped("N32: is written with the end of its run, in one commit", () => {
    const commits: Array<ReadonlyArray<string>> = []
    const store = wrapStore((store) => ({
      ...store,
      commit: (writes) => {
        commits.push(writes.map(({ op, table }) => `${op} ${table}`))
        return store.commit(writes)
      }
    })).pipe(Layer.provideMerge(StoreMemory.layer))
    return Effect.gen(function* () {
      const told = yield* watch
      yield* submit(input("ada"))
      yield* told.until("DeliverySent", 1)
      const [kept] = commits.filter((writes) => writes.includes("insert deliveries"))
      expect(kept).toContain("update runs")
    }).pipe(Effect.provide(gateway(open, undefined, { channels: [channel()] }).pipe(Layer.provide(store))))
  })

  it.scoped("goes nowhere without a route, and nothing is sent that says nothing", () => {
    const test = channel()
    const blank = gateway(open, () => Effect.succeed(answerOf(" \n")), { channels: [test] })
    return Effect.gen(function* () {
      const gw = yield* GatewayService
      yield* gw.run(input("ada"))
      yield* gw.run({ source: "state-change", payload: null })
      expect(yield* list).toEqual([])
    }).pipe(Effect.provide(blank.pipe(Layer.provide(StoreMemory.layer))))
  })

  it.scoped("that will not come is said, not why; a run that a person ended says nothing", () => {
    const test = channel()
    const started: Array<string> = []
    const layer = gateway(
      open,
      ({ event, runId }) => {
        started.push(runId)
        return event.payload === "hang"
          ? Effect.never
          : Effect.fail(new AgentRunError({ message: "key sk-123 is invalid", retryable: false }))
      },
      { channels: [test] }
    )
    return Effect.gen(function* () {
      const told = yield* watch
      const gw = yield* GatewayService
      yield* submit(input("ada"))
      yield* told.until("DeliverySent", 1)
      expect(test.messages).toMatchObject([{ outcome: "failed", text: expect.stringContaining("could not answer") }])
      expect(test.messages[0]?.text).not.toContain("sk-123")
      const { eventId } = yield* submit(input("bob", { payload: "hang" }))
      yield* told.until("ProactiveActionInitiated", 2)
      yield* gw.terminate()
      expect(yield* gw.outcome(eventId)).toMatchObject({ run: { state: "cancelled" }, delivery: undefined })
    }).pipe(Effect.provide(layer.pipe(Layer.provide(StoreMemory.layer))))
  })

  it.scoped("that a crash cut off too often is said not to come, by the start that gives it up", () => {
    const test = channel()
    const config = { ...open, limits: { maxAttempts: 1 } }
    return Effect.gen(function* () {
      const file = yield* tempFile
      yield* Effect.gen(function* () {
        const told = yield* watch
        yield* submit(input("ada"))
        yield* told.until("ProactiveActionInitiated", 1)
      }).pipe(Effect.provide(gatewayOn(file, config, () => Effect.never, { channels: [test] })))
      yield* settled.pipe(Effect.provide(gatewayOn(file, config, undefined, { channels: [test] })))
      expect(test.messages).toMatchObject([{ target: "ada", outcome: "failed" }])
    })
  })

  it.scoped("N16: goes where its own event said, whatever came later in the session, or was to be merged", () => {
    const test = channel()
    return Effect.gen(function* () {
      const told = yield* watch
      const message = (target: string) => input(target, { source: "channel", sender: "x", sessionKey: "s" })
      yield* Effect.forEach(["ada", "bob", "ada"], (target) => submit(message(target)))
      yield* told.until("DeliverySent", 3)
      expect(test.messages.map(({ target, text }) => [target, text])).toEqual([
        ["ada", "done: for ada"],
        ["bob", "done: for bob"],
        ["ada", "done: for ada"]
      ])
      const metadata = { mergeKey: "k" }
      const merged = yield* Effect.forEach(["ada", "bob", "ada"], (target) => submit(input(target, { metadata })))
      yield* TestClock.adjust("5 minutes")
      yield* told.until("DeliverySent", 5)
      expect(test.messages.slice(3).map(({ eventId, target }) => [eventId, target])).toEqual([
        [merged[0]?.eventId, "ada"],
        [merged[1]?.eventId, "bob"]
      ])
      expect(test.messages[3]?.text).toContain("Handle these 2 events together")
    }).pipe(Effect.provide(inMemory(test)))
  })

  it.scoped("to a channel there is not, or to nobody, is refused where it is asked for", () =>
    Effect.gen(function* () {
      const unknown = yield* Effect.flip(submit(input("ada", { replyTo: to("ada", "sms") })))
      expect(unknown).toMatchObject({ reason: "invalid-input" })
      expect(unknown.message).toBe('replyTo: there is no channel "sms"; channels: test')
      const nobody = yield* Effect.flip(submit(input("")))
      expect(nobody.message).toBe("replyTo: target is missing; say whom the channel is to reach")
      const half = yield* Effect.flip(submit(input("a\ud800")))
      expect(half.message).toContain("half a surrogate pair")
      const twice = Gateway.layerTest({}, undefined, { channels: [channel(), channel()] })
      expect((yield* Effect.flip(Effect.scoped(Layer.build(twice)))).message).toContain(
        '"test" is the name of two channels'
      )
      const wrong = [
        [{ heartbeat: { intervalMs: 1, deliverTo: to("a", "x") } }, "heartbeat.deliverTo"],
        [{ heartbeat: [{ intervalMs: 1, deliverTo: to("a", "x") }] }, "heartbeat[0].deliverTo"],
        [{ crons: [{ schedule: "* * * * *", instruction: "i", deliverTo: to("a", "x") }] }, "crons[0].deliverTo"],
        [
          { webhooks: [{ path: "/a", adapter: "generic", unsigned: true, deliverTo: to("a", "x") }] },
          "webhooks[0].deliverTo"
        ]
      ] as const
      for (const [config, path] of wrong) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(Gateway.layerTest(config))))
        expect(error).toMatchObject({ _tag: "GatewayConfigError", path })
        expect(error.message).toContain(`configuration: ${path}: there is no channel "x"; channels: none`)
      }
    }).pipe(Effect.provide(inMemory(channel())))
  )
})

describe("a job", () => {
  it.scoped("sends its answers where it was told to, and is left alone when that channel is gone", () => {
    const test = channel()
    const job = { name: "report", instruction: "Report", schedule: { kind: "every", everyMs: 60_000 } } as const
    return Effect.gen(function* () {
      const file = yield* tempFile
      yield* Effect.gen(function* () {
        const told = yield* watch
        const scheduler = yield* Scheduler
        const refused = yield* Effect.flip(scheduler.add({ ...job, deliverTo: to("ada", "sms") }))
        expect(refused.message).toBe('job "report": deliverTo: there is no channel "sms"; channels: test')
        expect(yield* scheduler.add({ ...job, deliverTo: to("ada") })).toMatchObject({ deliverTo: to("ada") })
        yield* TestClock.adjust("1 minute")
        yield* told.until("DeliverySent", 1)
        expect(test.messages).toMatchObject([{ target: "ada", text: "done: Report" }])
      }).pipe(Effect.provide(gatewayOn(file, open, undefined, { channels: [test] })))
      const listed = Effect.map(Scheduler, (scheduler) => scheduler.list().map(({ deliverTo }) => deliverTo))
      expect(yield* listed.pipe(Effect.provide(gatewayOn(file)))).toEqual([])
      const again = gatewayOn(file, open, undefined, { channels: [test] })
      expect(yield* listed.pipe(Effect.provide(again))).toEqual([to("ada")])
    })
  })
})

describe("a message that was not sent", () => {
  it.scoped("is tried again, later and later and not before the platform asked, under the same key", () => {
    const test = channel((_, before) => (before < 2 ? refusal("not-sent", before === 1 ? 600_000 : undefined) : taken))
    return Effect.gen(function* () {
      const told = yield* watch
      yield* submit(input("ada"))
      const [first] = yield* told.until("DeliveryPostponed", 1)
      expect(first).toMatchObject({ attempt: 1, error: "it was not-sent" })
      expect(first?.dueAt).toBeGreaterThanOrEqual(2_500)
      expect(first?.dueAt).toBeLessThanOrEqual(5_000)
      expect(yield* list).toMatchObject([{ state: "prepared", attempt: 1, dueAt: new Date(first?.dueAt ?? 0) }])
      yield* TestClock.setTime((first?.dueAt ?? 0) - 1)
      expect(test.messages).toHaveLength(1)
      yield* TestClock.adjust(1)
      const [, second] = yield* told.until("DeliveryPostponed", 2)
      expect((second?.dueAt ?? 0) - (second?.at ?? 0)).toBe(600_000)
      yield* TestClock.adjust(600_000)
      yield* told.until("DeliverySent", 1)
      expect(new Set(test.messages.map(({ key }) => key)).size).toBe(1)
      expect(yield* list).toMatchObject([{ state: "sent", attempt: 3, error: undefined }])
    }).pipe(Effect.provide(inMemory(test)))
  })

  it.scoped("is a dead letter after the last attempt, which can be listed, replayed and dropped", () => {
    let up = false
    const test = channel(() => (up ? taken : refusal("not-sent")))
    return Effect.gen(function* () {
      const told = yield* watch
      const gw = yield* GatewayService
      yield* submit(input("ada"))
      yield* submit(input("bob"))
      yield* told.until("DeliveryPostponed", 2)
      yield* pass(10)
      expect(yield* told.until("DeliveryFailed", 2)).toMatchObject([
        { attempt: 8, error: "it was not-sent (attempt 8 of limits.maxDeliveryAttempts)" },
        { attempt: 8 }
      ])
      expect(test.messages).toHaveLength(16)
      expect(yield* counts).toMatchObject({ prepared: 0, failed: 2 })
      const failed = yield* gw.deliveries({ state: "failed" })
      expect(failed.map((delivery) => delivery.to.target).sort()).toEqual(["ada", "bob"])
      expect(yield* gw.deliveries({ state: "failed", after: failed[0]?.seq ?? 0 })).toEqual(failed.slice(1))
      expect(yield* gw.deliveries({ limit: 1 })).toEqual(failed.slice(0, 1))

      up = true
      const [one = "", two = ""] = failed.map(({ id }) => id)
      expect(yield* gw.replayDelivery(one, "eve")).toMatchObject({ state: "prepared", attempt: 0 })
      yield* told.until("DeliverySent", 1)
      expect(test.messages.at(-1)?.key).toBe(one)
      expect(told.all("DeliveryReplayed")).toMatchObject([{ deliveryId: one, by: "eve" }])
      expect(yield* gw.dropDelivery(two)).toMatchObject({ state: "dropped" })
      expect(yield* gw.dropDelivery(two)).toMatchObject({ state: "dropped" })
      expect(told.all("DeliveryDropped")).toMatchObject([{ deliveryId: two, by: "program" }])
      for (const refused of [gw.replayDelivery(one), gw.dropDelivery(one)]) {
        expect(yield* Effect.flip(refused)).toMatchObject({
          reason: "conflict",
          message: expect.stringContaining("was sent")
        })
      }
      expect(yield* Effect.flip(gw.replayDelivery("dlv_0"))).toMatchObject({ reason: "not-found" })
      expect(yield* counts).toEqual({ prepared: 0, sending: 0, unknown: 0, failed: 0, sent: 1 })
      const audit = yield* AuditLog
      expect(yield* audit.query({ kind: "delivery.replayed" })).toMatchObject([{ data: { from: "failed", by: "eve" } }])
      expect(yield* audit.query({ kind: "delivery.dropped" })).toMatchObject([{ data: { deliveryId: two } }])
      // What was dropped by mistake can be taken back.
      yield* gw.replayDelivery(two)
      yield* told.until("DeliverySent", 2)
    }).pipe(Effect.provide(inMemory(test)))
  })

  it.scoped("is a dead letter at once when the platform says that it never will be", () => {
    const test = channel(() => refusal("rejected"))
    return Effect.gen(function* () {
      const told = yield* watch
      yield* submit(input("ada"))
      expect(yield* told.until("DeliveryFailed", 1)).toMatchObject([{ attempt: 1, error: "it was rejected" }])
    }).pipe(Effect.provide(inMemory(test)))
  })

  it.scoped("waits for its time no longer when a person has it replayed", () => {
    const test = channel((_, before) => (before === 0 ? refusal("not-sent") : taken))
    return Effect.gen(function* () {
      const told = yield* watch
      yield* submit(input("ada"))
      const [postponed] = yield* told.until("DeliveryPostponed", 1)
      yield* (yield* GatewayService).replayDelivery(postponed?.deliveryId ?? "")
      yield* told.until("DeliverySent", 1)
    }).pipe(Effect.provide(inMemory(test)))
  })
})

describe("N14: a message that may have been sent", () => {
  const doubtful = [
    ["the channel cannot tell", refusal("unknown"), "it was unknown"],
    ["the channel dies", Effect.die(new Error("boom")), "the channel died: boom"],
    ["the channel interrupts itself", Effect.interrupt, "cut off while it was being sent"],
    ["the channel takes too long", Effect.never, "took longer than 30000 ms"],
    ["and cannot be interrupted", Effect.uninterruptible(Effect.never), "took longer than 30000 ms"]
  ] as const
  for (const [what, answer, error] of doubtful) {
    it.scoped(`is not sent again: ${what}`, () => {
      const test = channel(({ target }) => (target === "ada" ? answer : taken))
      return Effect.gen(function* () {
        const told = yield* watch
        yield* submit(input("ada"))
        yield* told.until("DeliveryStarted", 1)
        yield* TestClock.adjust("30 seconds")
        const [unknown] = yield* told.until("DeliveryUnknown", 1)
        expect(unknown?.error).toContain(error)
        yield* pass(3)
        expect(test.messages).toHaveLength(1)
        expect(yield* counts).toMatchObject({ unknown: 1, prepared: 0, sending: 0 })
        expect(yield* list).toMatchObject([{ state: "unknown", attempt: 1 }])
      }).pipe(Effect.provide(inMemory(test)))
    })
    it.scoped(`is sent again under the same key where the platform deduplicates: ${what}`, () => {
      const test = channel((_, before) => (before === 0 ? answer : taken), { deduplicates: true })
      return Effect.gen(function* () {
        const told = yield* watch
        yield* submit(input("ada"))
        yield* told.until("DeliveryStarted", 1)
        yield* TestClock.adjust("30 seconds")
        yield* told.until("DeliveryPostponed", 1)
        yield* TestClock.adjust("5 seconds")
        yield* told.until("DeliverySent", 1)
        expect(test.messages.map(({ key }) => key)).toEqual([test.messages[0]?.key, test.messages[0]?.key])
      }).pipe(Effect.provide(inMemory(test)))
    })
  }

  it.scoped("lets those behind it go on, and goes out again when a person says so", () => {
    const test = channel((_, before) => (before === 0 ? refusal("unknown") : taken))
    return Effect.gen(function* () {
      const told = yield* watch
      yield* submit(input("ada"))
      yield* submit(input("ada"))
      yield* told.until("DeliverySent", 1)
      const gw = yield* GatewayService
      const [unknown] = yield* gw.deliveries({ state: "unknown" })
      yield* gw.replayDelivery(unknown?.id ?? "")
      yield* told.until("DeliverySent", 2)
      expect(test.messages[2]?.key).toBe(test.messages[0]?.key)
    }).pipe(Effect.provide(inMemory(test)))
  })

  const row = (seq: number, change: Partial<DeliveryRow> = {}): DeliveryRow => ({
    seq,
    id: `dlv_${seq}`,
    event_id: `evt_${seq}`,
    run_id: `run_${seq}`,
    agent_id: "agent",
    channel: "test",
    target: "ada",
    state: "prepared",
    attempt: 1,
    outcome: "completed",
    text: `text ${seq}`,
    created_at: 0,
    due_at: 0,
    reference: null,
    error: null,
    ended_at: null,
    ...change
  })
  const kept = (...rows: ReadonlyArray<DeliveryRow>) =>
    Effect.flatMap(Store, (store) =>
      store.commit(rows.map((row) => ({ op: "insert", table: "deliveries", row }) as const))
    )

  it.scoped("when its process ended: unknown, and sent again only where the platform deduplicates", () => {
    const once = channel()
    const twice = channel(() => taken, { name: "dedup", deduplicates: true })
    return Effect.gen(function* () {
      const file = yield* tempFile
      yield* kept(
        row(1, { state: "sending" }),
        row(2, { state: "sending", channel: "dedup" }),
        row(3, { state: "sending", channel: "dedup", target: "bob", attempt: 8 }),
        row(4),
        row(5, { channel: "gone" }),
        row(6, { state: "sending", channel: "gone" })
      ).pipe(Effect.provide(sqlite(file)))
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        yield* settled
        const states = (yield* list).map(({ id, state }) => [id, state])
        expect(states).toEqual([
          ["dlv_1", "unknown"],
          ["dlv_2", "sent"],
          ["dlv_3", "unknown"],
          ["dlv_4", "sent"],
          ["dlv_5", "failed"],
          ["dlv_6", "unknown"]
        ])
        expect(once.messages.map(({ key }) => key)).toEqual(["dlv_4"])
        expect(twice.messages.map(({ key }) => key)).toEqual(["dlv_2"])
        expect(yield* counts).toEqual({ prepared: 0, sending: 0, unknown: 3, failed: 1, sent: 2 })
        expect((yield* gw.deliveries({ state: "failed" }))[0]?.error).toContain('no channel "gone" any more')
        expect(yield* (yield* AuditLog).verify).toMatchObject({ valid: true })
      }).pipe(Effect.provide(gatewayOn(file, open, undefined, { channels: [once, twice] })))
      // Another start finds nothing to do: nothing is sent again.
      yield* Effect.gen(function* () {
        yield* pass(2)
        expect(yield* counts).toEqual({ prepared: 0, sending: 0, unknown: 3, failed: 1, sent: 0 })
      }).pipe(Effect.provide(gatewayOn(file, open, undefined, { channels: [once, twice] })))
      expect([once.messages.length, twice.messages.length]).toEqual([1, 1])
    })
  })

  it.scoped("when the gateway closes: what is being sent gets its time, what it leaves is not lost", () => {
    const release = Effect.runSync(Deferred.make<void>())
    const slow = channel(({ target }) => (target === "ada" ? Effect.as(Deferred.await(release), {}) : Effect.never))
    return Effect.gen(function* () {
      const file = yield* tempFile
      yield* Effect.gen(function* () {
        const told = yield* watch
        const gw = yield* GatewayService
        yield* Effect.forEach(["ada", "bob", "bob"], (target) => submit(input(target)))
        yield* told.until("DeliveryPrepared", 3)
        yield* told.until("DeliveryStarted", 2)
        const draining = yield* Effect.fork(gw.drain(10_000))
        yield* Deferred.succeed(release, undefined)
        yield* told.until("DeliverySent", 1)
        yield* TestClock.adjust("10 seconds")
        expect(yield* Fiber.join(draining)).toMatchObject({ finished: false, running: 0 })
      }).pipe(Effect.provide(gatewayOn(file, open, undefined, { channels: [slow] })))
      const after = channel()
      yield* Effect.gen(function* () {
        yield* settled
        expect((yield* list).map(({ state }) => state).sort()).toEqual(["sent", "sent", "unknown"])
        expect(after.messages).toMatchObject([{ target: "bob" }])
      }).pipe(Effect.provide(gatewayOn(file, open, undefined, { channels: [after] })))
    })
  })

  it.scoped("when its receipt cannot be written: it is written once it can be, and nothing is sent again", () => {
    const test = channel()
    let refused = 0
    const store = wrapStore((store) => ({
      ...store,
      commit: (writes) => {
        const receipt = writes.some(
          (write) => write.table === "deliveries" && write.op === "update" && write.set.state === "sent"
        )
        if (!receipt || refused === 3) return store.commit(writes)
        refused += 1
        return Effect.fail(new StoreError({ message: "the disk is full" }))
      }
    })).pipe(Layer.provideMerge(StoreMemory.layer))
    return Effect.gen(function* () {
      const told = yield* watch
      yield* submit(input("ada"))
      yield* told.until("DeliveryStarted", 1)
      yield* Effect.repeatN(TestClock.adjust("1 second"), 4)
      yield* told.until("DeliverySent", 1)
      expect([refused, test.messages.length]).toEqual([3, 1])
      expect(yield* counts).toMatchObject({ sent: 1, sending: 0, prepared: 0 })
    }).pipe(Effect.provide(gateway(open, undefined, { channels: [test] }).pipe(Layer.provide(store))))
  })
})
