import { describe, expect, it } from "@effect/vitest"
import { AuditLog, type GatewayConfigInput, GatewayService, Store } from "@postilion/gateway"
import { Effect, Exit, TestClock } from "effect"
import { channel } from "./TestChannel.ts"
import { answerOf, gatewayOn, tempFile, watch } from "./TestGateway.ts"

const config: GatewayConfigInput = {
  crons: [{ name: "every minute", schedule: "* * * * *", instruction: "look" }]
}
/** A gateway that goes down in disorder, `after` so long. */
const crash = (file: string, after = 0) =>
  Effect.gen(function* () {
    yield* GatewayService
    yield* TestClock.adjust(after)
    return yield* Effect.die("out of memory")
  }).pipe(Effect.provide(gatewayOn(file, config)), Effect.exit, Effect.map(Exit.isFailure))
const status = Effect.flatMap(GatewayService, (gw) => gw.status())
const held = (file: string, settings = config) =>
  Effect.map(status, ({ held }) => held !== undefined).pipe(Effect.provide(gatewayOn(file, settings)))

describe("N5: openclaw#16694: 900 restarts: the crash-loop breaker", () => {
  it.scoped("after three crashes within five minutes: kept, not run, not fired, until it is released", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      for (let i = 0; i < 3; i++) expect(yield* crash(file, 1_000)).toBe(true)
      const kept = yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const { held, isRunning, scheduler } = yield* gw.status()
        expect(held).toMatchObject({
          reason: expect.stringContaining("3 starts within 5 minutes"),
          since: new Date(3_000)
        })
        expect({ isRunning, running: scheduler.running }).toEqual({ isRunning: true, running: false })
        const receipt = yield* gw.submit({ source: "webhook", payload: {}, priority: "critical" })
        expect(receipt.decision).toBe("execute")
        yield* TestClock.adjust("2 minutes")
        expect((yield* gw.status()).pending).toMatchObject({ waiting: 1, running: 0 })
        return receipt
      }).pipe(Effect.provide(gatewayOn(file, config)))

      // An orderly stop in between changes nothing: nobody has looked into it.
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        expect((yield* gw.status()).held).toBeDefined()
        expect(yield* gw.find(kept.eventId)).toMatchObject({ run: { state: "pending" } })
        yield* gw.release({ by: "ada" })
        expect(yield* gw.status()).toMatchObject({ held: undefined, scheduler: { running: true } })
        expect(yield* gw.outcome(kept.eventId)).toMatchObject({ run: { state: "completed" } })
        yield* TestClock.adjust("1 minute")
        yield* told.until("ProactiveActionCompleted", 2)
        yield* gw.release()
        const kinds = (yield* (yield* AuditLog).query()).filter(({ kind }) => /held|released/.test(kind))
        expect(kinds.map(({ data, kind }) => [kind, data.by])).toEqual([
          ["gateway.held", undefined],
          ["gateway.held", undefined],
          ["gateway.released", "ada"]
        ])
        expect(yield* (yield* AuditLog).verify).toMatchObject({ valid: true })
      }).pipe(Effect.scoped, Effect.provide(gatewayOn(file, config)))
      expect(yield* held(file)).toBe(false)
    })
  )

  it.scoped("starts that ended in order do not count, nor those further back; nothing is kept of them", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      for (let i = 0; i < 5; i++) expect(yield* held(file)).toBe(false)
      yield* crash(file)
      yield* crash(file)
      yield* TestClock.adjust("5 minutes")
      yield* crash(file)
      yield* crash(file)
      expect(yield* held(file)).toBe(false)
      yield* Effect.gen(function* () {
        expect(yield* (yield* Store).find("starts", {})).toHaveLength(3)
      }).pipe(Effect.provide(gatewayOn(file, config)))
      yield* crash(file)
      expect(yield* held(file)).toBe(true)
      expect(yield* held(file, { ...config, limits: { maxUncleanStarts: "unlimited" } })).toBe(false)
    })
  )

  it.scoped("what is to be sent is not sent either, also when a person has it tried again, until it is released", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const test = channel()
      const answering = yield* Effect.makeLatch()
      const respond = () => Effect.as(answering.await, answerOf("hello yourself"))
      const opened = gatewayOn(file, config, respond, { channels: [test] })
      const prepared = Effect.gen(function* () {
        const gw = yield* GatewayService
        const { eventId } = yield* gw.submit({
          source: "webhook",
          payload: { text: "hello" },
          priority: "critical",
          replyTo: { channel: "test", target: "ada" }
        })
        // Stopped while it runs: what it answers is kept.
        yield* gw.stop()
        yield* answering.open
        yield* gw.outcome(eventId)
        return yield* gw.deliveries({ state: "prepared" })
      })
      expect(yield* Effect.provide(prepared, opened)).toHaveLength(1)
      for (let i = 0; i < 3; i++) expect(yield* crash(file)).toBe(true)
      yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        yield* gw.resume()
        const [kept] = yield* gw.deliveries({ state: "prepared" })
        yield* gw.replayDelivery(kept?.id ?? "")
        yield* TestClock.adjust("10 minutes")
        expect((yield* gw.status()).deliveries).toMatchObject({ prepared: 1, sent: 0 })
        expect(test.messages).toEqual([])
        yield* gw.release()
        yield* told.until("DeliverySent", 1)
        expect(test.messages).toMatchObject([{ key: kept?.id, target: "ada" }])
      }).pipe(Effect.scoped, Effect.provide(opened))
    })
  )

  it.scoped("a start that is refused, as for a wrong cron, ends in order", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const wrong: GatewayConfigInput = { crons: [{ schedule: "soon", instruction: "look" }] }
      for (let i = 0; i < 3; i++) {
        expect(yield* Effect.flip(Effect.provide(GatewayService, gatewayOn(file, wrong)))).toMatchObject({
          _tag: "SchedulerError"
        })
      }
      expect(yield* held(file)).toBe(false)
    })
  )
})
