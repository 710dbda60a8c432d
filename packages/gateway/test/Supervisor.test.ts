import { describe, expect, it } from "@effect/vitest"
import { GatewayService } from "@postilion/gateway"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Deferred, Effect, Exit, Layer, Scope, TestClock } from "effect"
import * as Alarm from "../src/internal/Alarm.ts"
import * as Supervisor from "../src/internal/Supervisor.ts"
import { gateway, wrapStore } from "./TestGateway.ts"

const components = Effect.map(Supervisor.Supervisor, (supervisor) => supervisor.components())
/** Lets what is due happen. */
const settle = TestClock.adjust(0)

describe("the supervisor", () => {
  it.scoped("begins again what failed, died or was interrupted, later and later, and leaves the others alone", () =>
    Effect.gen(function* () {
      const starts: Array<number> = []
      const ends = [Effect.fail(new Error("no route")), Effect.die("out of luck"), Effect.interrupt]
      yield* Supervisor.supervise("steady", Effect.never)
      yield* Supervisor.supervise(
        "shaky",
        Effect.gen(function* () {
          starts.push(yield* Effect.clockWith((clock) => clock.currentTimeMillis))
          return yield* ends[starts.length - 1] ?? Effect.never
        })
      )
      const [steady, shaky] = yield* components
      expect([steady?.state, shaky?.name]).toEqual(["running", "shaky"])
      yield* settle
      expect(yield* components).toMatchObject([
        { name: "steady", state: "running", restarts: 0, lastError: undefined },
        { name: "shaky", state: "restarting", restarts: 0, lastError: "no route" }
      ])
      yield* TestClock.adjust("100 millis")
      expect((yield* components)[1]).toMatchObject({ restarts: 1, lastError: "out of luck" })
      yield* TestClock.adjust("200 millis")
      yield* TestClock.adjust("400 millis")
      expect((yield* components)[1]).toMatchObject({ state: "running", restarts: 3 })
      expect(starts).toEqual([0, 100, 300, 700])
    }).pipe(Effect.provide(Supervisor.layer))
  )

  it.scoped("calls failed what fails again and again, at most twice a minute, until it goes well for one", () =>
    Effect.gen(function* () {
      let broken = true
      let starts = 0
      yield* Supervisor.supervise(
        "shaky",
        Effect.suspend(() => {
          starts += 1
          return broken ? Effect.fail("down") : Effect.never
        })
      )
      yield* TestClock.adjust("10 minutes")
      expect(yield* components).toMatchObject([{ state: "failed", lastError: "down" }])
      const before = starts
      yield* TestClock.adjust("1 minute")
      expect(starts - before).toBe(2)
      broken = false
      yield* TestClock.adjust("30 seconds")
      expect(yield* components).toMatchObject([{ state: "running" }])
    }).pipe(Effect.provide(Supervisor.layer))
  )

  it.scoped("ends with its scope, and needs nobody to show it to", () =>
    Effect.gen(function* () {
      const ended = yield* Deferred.make<void>()
      const scope = yield* Scope.make()
      const shown = yield* Layer.build(Supervisor.layer)
      const component = Effect.onInterrupt(Effect.never, () => Deferred.succeed(ended, undefined))
      yield* Supervisor.supervise("a", component).pipe(Scope.extend(scope), Effect.provide(shown))
      yield* Supervisor.supervise("b", Effect.never).pipe(Scope.extend(scope))
      yield* settle
      expect(yield* Effect.provide(components, shown)).toMatchObject([{ name: "a" }])
      yield* Scope.close(scope, Exit.void)
      yield* Deferred.await(ended)
      expect(yield* Effect.provide(components, shown)).toEqual([])
    })
  )

  it.scoped("an alarm that failed goes off again for the same keys", () =>
    Effect.gen(function* () {
      const rang: Array<ReadonlyArray<string>> = []
      const alarm = yield* Alarm.make("bell", (keys) => {
        rang.push(keys)
        return rang.length === 1 ? Effect.die("stuck") : Effect.void
      })
      alarm.set("a", 1_000)
      alarm.set("b", 1_000)
      yield* TestClock.adjust("1 second")
      yield* TestClock.adjust("1 second")
      expect(rang).toEqual([
        ["a", "b"],
        ["a", "b"]
      ])
      expect(alarm.next()).toBeUndefined()
    }).pipe(Effect.provide(Supervisor.layer))
  )
})

describe("a gateway", () => {
  it.scoped("shows its components, and goes on while one of them fails", () => {
    let broken = true
    const failing = wrapStore((store) => ({
      ...store,
      find: (table, query) =>
        broken && table === "sessions" ? Effect.die("the table is gone") : store.find(table, query)
    })).pipe(Layer.provide(StoreMemory.layer))
    return Effect.gen(function* () {
      const gw = yield* GatewayService
      yield* settle
      const { components } = yield* gw.status()
      expect(components.filter(({ state }) => state !== "running").map(({ name }) => name)).toEqual(["pruning"])
      expect(components.filter(({ name }) => /^[a-z]/.test(name)).map(({ name, phase }) => [phase, name])).toEqual([
        ["bus", "journal"],
        ["bus", "storage watch"],
        ["services", "outbox"],
        ["services", "outbox sweep"],
        ["services", "holds"],
        ["services", "recheck"],
        ["services", "scheduler"],
        ["services", "slots"],
        ["services", "pruning"]
      ])
      expect(components.find(({ name }) => name === "pruning")?.lastError).toBe("the table is gone")
      expect(yield* gw.run({ source: "webhook", payload: {} })).toMatchObject({ state: "completed" })
      broken = false
      yield* TestClock.adjust("1 second")
      expect((yield* gw.status()).components.every(({ state }) => state === "running")).toBe(true)
    }).pipe(Effect.provide(gateway()), Effect.provide(failing))
  })
})
