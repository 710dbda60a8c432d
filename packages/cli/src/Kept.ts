import type { AuditLog, SessionStore, Store, StoreError } from "@postilion/gateway"
import { Effect, Layer } from "effect"

/** Subsystems on records that are only read: none of them writes by itself. */
const layer = Effect.promise(async () => {
  const [Audit, Bus, Journal, Sessions] = await Promise.all([
    import("@postilion/gateway/records/AuditLog"),
    import("@postilion/gateway/records/EventBus"),
    import("@postilion/gateway/records/Journal"),
    import("@postilion/gateway/records/SessionStore")
  ])
  return Sessions.layer.pipe(
    Layer.provideMerge(Audit.layer()),
    Layer.provide(Journal.layer()),
    Layer.provide(Bus.layer)
  )
})

/** Gives the audit and the sessions of records that are only read. */
export const withSubsystems = <A, E, R>(
  effect: Effect.Effect<A, E, R | AuditLog | SessionStore>
): Effect.Effect<A, E | StoreError, Exclude<R, AuditLog | SessionStore> | Store> =>
  Effect.flatMap(layer, (subsystems) => Effect.provide(effect, subsystems))
