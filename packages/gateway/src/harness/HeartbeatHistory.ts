import { Effect } from "effect"
import { EventSource } from "../domain/GatewayEvent.ts"
import type { PolicyDecision } from "../domain/PolicyDecision.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import { KEPT_TICKS } from "../records/Retention.ts"
import type { StoreShape } from "../records/Store.ts"

type History = PolicyState["heartbeat"]

/** Before an agent's first tick: whatever there is, it has not looked at it yet. */
const UNSEEN: History = { consecutiveSkips: 0, changed: true }

/** What each agent's heartbeats have seen: skips in a row, and whether anything has happened since the last tick. */
export class HeartbeatHistory {
  private readonly agents = new Map<string, History>()

  of(agentId: string): History {
    return this.agents.get(agentId) ?? UNSEEN
  }
  set(agentId: string, history: History): void {
    this.agents.set(agentId, history)
  }
  /** Something other than a heartbeat happened to the agent, and no run caused it. */
  changed(agentId: string): void {
    const history = this.of(agentId)
    if (!history.changed) this.agents.set(agentId, { ...history, changed: true })
  }
  /** A tick was decided. */
  ticked(agentId: string, decision: PolicyDecision): void {
    const consecutiveSkips = decision.action === "skip" ? this.of(agentId).consecutiveSkips + 1 : 0
    this.agents.set(agentId, { consecutiveSkips, changed: false })
  }
  /** Reads the history of these agents from the records. */
  load(store: StoreShape, agents: Iterable<string>) {
    return Effect.forEach(
      agents,
      (agentId) =>
        Effect.gen(this, function* () {
          const ticks = yield* store.find("events", {
            where: { source: "heartbeat", agent_id: agentId },
            orderBy: ["seq", "desc"],
            limit: KEPT_TICKS
          })
          const [last] = ticks
          if (last === undefined) return this.agents.delete(agentId)
          const fired = ticks.findIndex((tick) => tick.action !== "skip")
          const since = yield* store.find("events", {
            where: {
              agent_id: agentId,
              // What runs cause is no news: else what a tick's run does would wake the next tick, without end.
              caused_by: null,
              seq: { gt: last.seq },
              source: { in: EventSource.literals.filter((source) => source !== "heartbeat") }
            },
            limit: 1
          })
          const consecutiveSkips = fired === -1 ? ticks.length : fired
          return this.agents.set(agentId, { consecutiveSkips, changed: since.length > 0 })
        }),
      { discard: true }
    )
  }
}
