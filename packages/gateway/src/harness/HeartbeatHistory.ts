import { Effect } from "effect"
import { EventSource } from "../domain/GatewayEvent.ts"
import type { PolicyDecision } from "../domain/PolicyDecision.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import { KEPT_TICKS } from "../records/Retention.ts"
import type { Condition, StoreShape } from "../records/Store.ts"

interface History {
  readonly consecutiveSkips: number
  /** What has happened to the agent, counted. */
  readonly changes: number
  /** How much of it had happened when the last tick that was decided came. */
  readonly seen: number
}

/** Before an agent's first tick: whatever there is, it has not looked at it yet. */
const UNSEEN: History = { consecutiveSkips: 0, changes: 1, seen: 0 }

const OTHERS = EventSource.literals.filter((source) => source !== "heartbeat")
/** Sessions, and turns of theirs, that are looked at for what is new. */
const MOST_SESSIONS = 100
const MOST_TURNS = 1_000

/** What each agent's heartbeats have seen: skips in a row, and whether anything has happened since the last tick. */
export class HeartbeatHistory {
  private readonly agents = new Map<string, History>()
  /** Ticks that are not decided: what had happened when they came. What happens meanwhile is for the next tick. */
  private readonly undecided = new Map<string, number>()

  of(agentId: string): PolicyState["heartbeat"] {
    const { changes, consecutiveSkips, seen } = this.get(agentId)
    return { consecutiveSkips, changed: changes > seen }
  }
  private get(agentId: string): History {
    return this.agents.get(agentId) ?? UNSEEN
  }
  /** Something other than a heartbeat happened to the agent, or left something in its memory, and no run caused it. */
  changed(agentId: string): void {
    const { changes, consecutiveSkips, seen } = this.get(agentId)
    this.agents.set(agentId, { consecutiveSkips, changes: changes + 1, seen })
  }
  /** A tick has come, and is about to be judged. */
  came(agentId: string, tickId: string): void {
    this.undecided.set(tickId, this.get(agentId).changes)
  }
  /** A tick was decided. */
  ticked(agentId: string, tickId: string, decision: PolicyDecision): void {
    const { changes, consecutiveSkips, seen } = this.get(agentId)
    this.agents.set(agentId, {
      consecutiveSkips: decision.action === "skip" ? consecutiveSkips + 1 : 0,
      changes,
      seen: Math.max(seen, this.undecided.get(tickId) ?? seen)
    })
    this.undecided.delete(tickId)
  }
  /** Reads the history of these agents from the records. */
  load(store: StoreShape, agents: Iterable<string>) {
    this.undecided.clear()
    this.agents.clear()
    return Effect.forEach(agents, (agentId) => this.loadAgent(store, agentId), { discard: true })
  }
  private loadAgent(store: StoreShape, agentId: string) {
    return Effect.gen(this, function* () {
      const ticks = yield* store.find("events", {
        where: { source: "heartbeat", agent_id: agentId },
        orderBy: ["seq", "desc"],
        limit: KEPT_TICKS
      })
      if (ticks.length === 0) return
      const decided = ticks.filter(({ action }) => action !== null)
      const fired = decided.findIndex(({ action }) => action !== "skip")
      const [last] = decided
      let changes = last === undefined ? UNSEEN.changes : 0
      let from = last?.seq ?? Number.MAX_SAFE_INTEGER
      for (const { id, seq } of ticks.filter(({ action }) => action === null).reverse()) {
        if (seq > from && (yield* happened(store, agentId, { gt: from, lte: seq }))) changes += 1
        from = Math.max(last?.seq ?? seq, seq)
        this.undecided.set(id, changes)
      }
      if (yield* happened(store, agentId, { gt: from })) changes += 1
      if (last?.decided_at != null && (yield* remembered(store, agentId, last.decided_at))) changes += 1
      const consecutiveSkips = fired === -1 ? decided.length : fired
      this.agents.set(agentId, { consecutiveSkips, changes, seen: UNSEEN.seen })
    })
  }
}

/** Whether anything but heartbeats came for the agent. What runs cause is no news: else a tick's run would wake the next, without end. */
const happened = (store: StoreShape, agentId: string, seq: Condition<number>) =>
  Effect.map(
    store.find("events", {
      where: { agent_id: agentId, caused_by: null, seq, source: { in: OTHERS } },
      limit: 1
    }),
    (rows) => rows.length > 0
  )

/** Whether a conversation of the agent has had a turn since, and no run caused it. */
const remembered = (store: StoreShape, agentId: string, since: number) =>
  Effect.gen(function* () {
    const sessions = yield* store.find("sessions", {
      where: { agent_id: agentId, updated_at: { gte: since } },
      limit: MOST_SESSIONS
    })
    if (sessions.length === 0) return false
    const turns = yield* store.find("turns", {
      where: { session_key: { in: sessions.map(({ key }) => key) }, at: { gte: since } },
      limit: MOST_TURNS
    })
    if (turns.some(({ event_id }) => event_id === null)) return true
    const ids = [...new Set(turns.flatMap(({ event_id }) => (event_id === null ? [] : [event_id])))]
    const events = yield* store.find("events", { where: { id: { in: ids }, caused_by: null }, limit: 1 })
    return events.length > 0
  })
