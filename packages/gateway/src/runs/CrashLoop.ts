import { Cause, Clock, Context, Effect, Exit, Layer, type Scope } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import type { GatewayError } from "../domain/Errors.ts"
import { makeIds } from "../domain/Ids.ts"
import type { Held } from "../domain/Status.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { Journal } from "../records/Journal.ts"
import { Store, type StoreError } from "../records/Store.ts"
import type { StartRow } from "../records/Tables.ts"

export interface CrashLoopShape {
  /** Why nothing is fired, dispatched or sent, and since when; `undefined` when that is not so. */
  readonly held: () => Held | undefined
  /** Lets go, and forgives the starts that led to it. Without effect where nothing is held. */
  readonly release: (by: string) => Effect.Effect<void, GatewayError>
  /** Calls `listener` when it is let go, until the scope closes. */
  readonly onRelease: (listener: () => void) => Effect.Effect<void, never, Scope.Scope>
}

/**
 * The crash-loop breaker: what brings the process down again and again is not tried for ever. A start is recorded when it
 * begins and taken out when it ends in order, so those that are left are the ones a crash ended.
 */
export class CrashLoop extends Context.Tag("@postilion/gateway/CrashLoop")<CrashLoop, CrashLoopShape>() {}

/** Starts further back do not count. Milliseconds. */
const WINDOW = 300_000

export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const audit = yield* AuditLog
    const { maxUncleanStarts } = config.limits
    const listeners = new Set<() => void>()
    const now = yield* Clock.currentTimeMillis
    const id = makeIds()("start", now)
    let held: Held | undefined

    const left = yield* store.find("starts", {})
    const unclean = left.filter((start) => now - start.started_at < WINDOW)
    if (maxUncleanStarts !== "unlimited" && unclean.length >= maxUncleanStarts) {
      const minutes = WINDOW / 60_000
      const reason = `${unclean.length} starts within ${minutes} minutes ended in a crash: events are kept, but none is run, nothing is sent and no job fires; find out why, then release the gateway`
      held = { reason, since: new Date(now) }
      yield* Effect.logError(reason)
    }
    const forget = (starts: ReadonlyArray<StartRow>) =>
      starts.map((start) => ({ op: "delete", table: "starts", where: { id: start.id } }) as const)

    yield* journal.step((tx) => {
      for (const write of forget(left.filter((start) => !unclean.includes(start)))) tx.write(write)
      tx.write({ op: "insert", table: "starts", row: { id, started_at: now } })
      if (held !== undefined) audit.append(tx, { kind: "gateway.held", data: { reason: held.reason } })
    })
    yield* Effect.addFinalizer((exit) =>
      Exit.isFailure(exit) && Cause.isDie(exit.cause)
        ? Effect.void
        : Effect.ignoreLogged(journal.step((tx) => tx.write({ op: "delete", table: "starts", where: { id } })))
    )

    return CrashLoop.of({
      held: () => held,
      release: (by) =>
        journal.step((tx) => {
          if (held === undefined) return
          for (const write of forget(unclean)) tx.write(write)
          audit.append(tx, { kind: "gateway.released", data: { by } })
          tx.onCommit(() => {
            held = undefined
            for (const listener of listeners) listener()
          })
        }),
      onRelease: (listener) =>
        Effect.acquireRelease(
          Effect.sync(() => void listeners.add(listener)),
          () => Effect.sync(() => void listeners.delete(listener))
        )
    })
  })

export const layer = (
  config: GatewayConfig
): Layer.Layer<CrashLoop, StoreError | GatewayError, Store | Journal | AuditLog> =>
  Layer.scoped(CrashLoop, make(config))
