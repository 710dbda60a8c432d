import { Context, Effect, Layer, type Scope } from "effect"
import type { GatewayError } from "../domain/Errors.ts"
import { ALL_AGENTS, type SwitchMode } from "../domain/Switch.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { Journal } from "../records/Journal.ts"
import { Store, type StoreError } from "../records/Store.ts"

export interface KillSwitchShape {
  /** Sets the mode of an agent, or of all with `"*"`. Durable: a restart finds it as it was left. */
  readonly set: (scope: string, mode: SwitchMode, by: string) => Effect.Effect<void, GatewayError>
  /** The stricter of the agent's mode and everyone's. */
  readonly mode: (agentId: string) => SwitchMode
  /** Every scope that is not `running`. */
  readonly modes: () => ReadonlyMap<string, SwitchMode>
  /** Calls `listener` after each change, until the scope closes. */
  readonly onChange: (listener: () => void) => Effect.Effect<void, never, Scope.Scope>
}

/** Stops, pauses and resumes agents, at the one point where runs are dispatched. */
export class KillSwitch extends Context.Tag("@postilion/gateway/KillSwitch")<KillSwitch, KillSwitchShape>() {}

const STRICTNESS: readonly SwitchMode[] = ["running", "paused", "stopped", "terminated"]

export const make = Effect.gen(function* () {
  const store = yield* Store
  const journal = yield* Journal
  const audit = yield* AuditLog
  const modes = new Map<string, SwitchMode>()
  const listeners = new Set<() => void>()
  const put = (scope: string, mode: SwitchMode): void => {
    if (mode === "running") modes.delete(scope)
    else modes.set(scope, mode)
  }
  const tell = (): void => {
    for (const listener of listeners) listener()
  }

  yield* journal.register(
    Effect.map(store.find("switches", {}), (rows) => {
      modes.clear()
      for (const row of rows) put(row.scope, row.mode)
      // After a withdrawn change: who acted on it looks again.
      tell()
    })
  )
  const modeOf = (scope: string): SwitchMode => modes.get(scope) ?? "running"

  return KillSwitch.of({
    set: (scope, mode, by) =>
      journal.step((tx) => {
        tx.write({ op: "put", table: "switches", row: { scope, mode, changed_at: tx.now, changed_by: by } })
        audit.append(tx, { kind: "switch.changed", data: { scope, mode, by } })
        tx.publish({ _tag: "SwitchChanged", at: tx.now, scope, mode, by })
        // Seen by the steps after this one, also those of the same commit: none of them begins a run.
        put(scope, mode)
        tx.onCommit(tell)
      }),
    mode: (agentId) => {
      const own = modeOf(agentId)
      const all = modeOf(ALL_AGENTS)
      return STRICTNESS.indexOf(own) > STRICTNESS.indexOf(all) ? own : all
    },
    modes: () => new Map(modes),
    onChange: (listener) =>
      Effect.acquireRelease(
        Effect.sync(() => void listeners.add(listener)),
        () => Effect.sync(() => void listeners.delete(listener))
      )
  })
})

export const layer: Layer.Layer<KillSwitch, StoreError, Store | Journal | AuditLog> = Layer.scoped(KillSwitch, make)
