import { Context, Effect, Layer } from "effect"
import type { PolicyState } from "../domain/PolicyState.ts"
import type { RunState } from "../domain/Run.ts"
import { Journal, type Tx } from "./Journal.ts"
import { Store, type StoreError } from "./Store.ts"
import type { FailureRow } from "./Tables.ts"

export interface AgentHealthShape {
  readonly of: (agentId: string) => PolicyState["agent"]
  /** A run of the agent was let through. Within the step that records it. */
  readonly began: (tx: Tx, agentId: string) => void
  /** A run of the agent ended so; one that was cut off or given up says nothing of it. Within the step that records it. */
  readonly ended: (tx: Tx, agentId: string, state: RunState) => void
}

/** How each agent's runs go: the failures in a row, for policies that give an agent a rest. */
export class AgentHealth extends Context.Tag("@postilion/gateway/AgentHealth")<AgentHealth, AgentHealthShape>() {}

const WELL: PolicyState["agent"] = { failures: 0, lastAt: null }

export const make = Effect.gen(function* () {
  const store = yield* Store
  const journal = yield* Journal
  const failing = new Map<string, FailureRow>()

  yield* journal.register(
    Effect.map(store.find("failures", {}), (rows) => {
      failing.clear()
      for (const row of rows) failing.set(row.agent_id, row)
    })
  )
  const put = (tx: Tx, row: FailureRow): void => {
    failing.set(row.agent_id, row)
    tx.write({ op: "put", table: "failures", row })
  }

  return AgentHealth.of({
    of: (agentId) => {
      const row = failing.get(agentId)
      return row === undefined ? WELL : { failures: row.count, lastAt: new Date(row.at) }
    },
    began: (tx, agentId) => {
      const row = failing.get(agentId)
      if (row !== undefined) put(tx, { ...row, at: tx.now })
    },
    ended: (tx, agentId, state) => {
      const row = failing.get(agentId)
      if (state === "failed") {
        put(tx, { agent_id: agentId, count: (row?.count ?? 0) + 1, at: tx.now })
      } else if (state === "completed" && row !== undefined) {
        failing.delete(agentId)
        tx.write({ op: "delete", table: "failures", where: { agent_id: agentId } })
      }
    }
  })
})

export const layer: Layer.Layer<AgentHealth, StoreError, Store | Journal> = Layer.scoped(AgentHealth, make)
