import { describe, expect, it } from "@effect/vitest"
import { type Channel, GatewayService } from "@postilion/gateway"
import { ChannelConnectionError } from "@postilion/gateway/domain/Errors"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Deferred, Effect, Exit, Fiber, Layer, Logger, LogLevel, Scope, TestClock } from "effect"
import { channel } from "./TestChannel.ts"
import { gateway, gatewayOn, tempFile, turn, watch } from "./TestGateway.ts"

/** What is logged of starting and stopping. */
const recorded = () => {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
  const layer = Layer.merge(Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(LogLevel.Debug))
  const of = (state: string) =>
    lines.flatMap((line) => {
      const [, name, said, phase] = /^(.+): (\w+) \((\w+)\)$/.exec(line) ?? []
      return said === state ? [`${phase} ${name}`] : []
    })
  return { lines, layer, of }
}
/** A channel that notes when it is opened and closed. */
const noting = (name: string, notes: Array<string>, change: Partial<Channel> = {}): Channel => ({
  ...channel(undefined, { name }),
  start: Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => notes.push(`${name} opened`)),
      () => Effect.sync(() => notes.push(`${name} closed`))
    )
  ),
  ...change
})
const refusing = (name: string): Channel => ({
  ...channel(undefined, { name }),
  start: new ChannelConnectionError({ channel: name, message: "the token is not good any more" })
})
const input = { source: "webhook", payload: {}, replyTo: { channel: "chat", target: "ada" } } as const

describe("O10: a gateway starts and stops in phases", () => {
  it.scoped("what records, what works, what leads outside; and in reverse", () =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const { layer, of } = recorded()
      const options = { channels: [noting("one", notes), noting("two", notes), channel()] }
      yield* Effect.gen(function* () {
        const { components } = yield* (yield* GatewayService).status()
        const shown = components.filter(({ name }) => /^[A-Z]|^channel/.test(name))
        expect(shown.map(({ name, phase, state }) => `${phase} ${name} ${state}`)).toEqual(
          of("running").map((started) => `${started} running`)
        )
        expect(notes).toEqual(["one opened", "two opened"])
      }).pipe(Effect.provide(gateway({}, undefined, options)), Effect.provide(StoreMemory.layer), Effect.provide(layer))
      expect(of("running")).toEqual([
        "bus EventBus",
        "bus Journal",
        "bus AuditLog",
        "bus StorageWatch",
        "bus SessionStore",
        "bus AgentHealth",
        "bus BudgetLedger",
        "services CrashLoop",
        "services KillSwitch",
        "services Outbox",
        "services Dispatcher",
        "services PolicyEngine",
        "services Admission",
        "services Scheduler",
        "services WebhookRouter",
        "services Reconfiguration",
        "services GatewayService",
        "channels channel one",
        "channels channel two",
        "channels Opening"
      ])
      expect(of("starting")).toEqual(of("running"))
      expect(of("stopping")).toEqual(of("running").toReversed())
      expect(of("stopped")).toEqual(of("stopping"))
      expect(notes).toEqual(["one opened", "two opened", "two closed", "one closed"])
    })
  )

  it.scoped("one that does not start undoes those before it, and says which, in which phase, and what was undone", () =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const { layer, of } = recorded()
      const options = { channels: [noting("one", notes), refusing("two"), noting("three", notes)] }
      const error = yield* GatewayService.pipe(
        Effect.provide(gateway({}, undefined, options)),
        Effect.provide(StoreMemory.layer),
        Effect.provide(layer),
        Effect.flip
      )
      expect(error).toMatchObject({
        _tag: "GatewayStartError",
        phase: "channels",
        component: "channel two",
        retryable: true,
        cause: { _tag: "ChannelConnectionError", channel: "two" }
      })
      expect(error.message).toMatch(
        /^channel two did not start \(phase channels\): the token is not good any more; stopped again: channel one, GatewayService, .*, EventBus$/
      )
      expect(notes).toEqual(["one opened", "one closed"])
      expect(of("stopped")).toEqual(["channels channel two", ...of("running").toReversed()])
    })
  )

  it.scoped("nothing of an earlier process is taken up before all have started: a failed start costs no attempt", () =>
    Effect.gen(function* () {
      const file = yield* tempFile
      const chat = channel(undefined, { name: "chat" })
      const { eventId } = yield* Effect.gen(function* () {
        const gw = yield* GatewayService
        yield* gw.pause()
        return yield* gw.submit(input)
      }).pipe(Effect.provide(gatewayOn(file, {}, undefined, { channels: [chat] })))
      yield* Effect.flatMap(GatewayService, (gw) => gw.resume()).pipe(
        Effect.provide(gatewayOn(file, {}, () => Effect.never, { channels: [chat] }))
      )
      const calls: Array<number> = []
      const respond = ({ attempt }: { readonly attempt: number }) =>
        Effect.zipRight(
          Effect.sync(() => calls.push(attempt)),
          Effect.never
        )
      yield* Effect.flip(
        Effect.provide(GatewayService, gatewayOn(file, {}, respond, { channels: [chat, refusing("two")] }))
      )
      expect(calls).toEqual([])

      // The channel takes its time: until it is there, nothing is run and nothing sent.
      const opened = yield* Deferred.make<void>()
      const slow = { ...chat, start: Deferred.await(opened) }
      const scope = yield* Effect.scope
      const building = yield* Effect.fork(
        Scope.extend(Layer.build(gatewayOn(file, {}, undefined, { channels: [slow] })), scope)
      )
      for (let i = 0; i < 20; i++) yield* turn
      expect(chat.messages).toEqual([])
      yield* Deferred.succeed(opened, undefined)
      yield* Effect.gen(function* () {
        const told = yield* watch
        const { run } = yield* (yield* GatewayService).outcome(eventId)
        expect(run).toMatchObject({ state: "completed" })
        if (chat.messages.length === 0) yield* told.until("DeliverySent", 1)
        expect(chat.messages).toHaveLength(1)
      }).pipe(Effect.provide(yield* Fiber.join(building)))
    })
  )

  it.scoped("a channel that does not close, or fails to, keeps nobody waiting", () => {
    const log = recorded()
    const { lines } = log
    return Effect.gen(function* () {
      const notes: Array<string> = []
      const closing = yield* Deferred.make<void>()
      const stuck = Effect.addFinalizer(() =>
        Effect.zipRight(Deferred.succeed(closing, undefined), Effect.interruptible(Effect.never))
      )
      const broken = Effect.addFinalizer(() => Effect.die("the socket was gone"))
      const channels = [
        noting("fine", notes),
        noting("broken", notes, { start: broken }),
        noting("stuck", notes, { start: stuck })
      ]
      const scope = yield* Scope.make()
      yield* Layer.build(gateway({}, undefined, { channels })).pipe(
        Scope.extend(scope),
        Effect.provide(StoreMemory.layer)
      )
      const closed = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* Deferred.await(closing)
      expect(notes).toEqual(["fine opened"])
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(closed)
      expect(notes).toEqual(["fine opened", "fine closed"])
      expect(lines.join("\n")).toContain('channel "stuck" did not close within 5000 ms')
      expect(lines.join("\n")).toContain('channel "broken" failed to close')
    }).pipe(Effect.provide(log.layer))
  })
})
