import type { DateTime } from "effect"
import type { Amount, Budget } from "../../domain/Budget.ts"
import { windowOf } from "../../domain/Calendar.ts"
import type { PolicyDecision } from "../../domain/PolicyDecision.ts"
import { Ledger, type LedgerConfig } from "../../records/Ledger.ts"
import { RecentCounts } from "../RecentCounts.ts"
import type { Facts, Place } from "./Subject.ts"

type Side = "recorded" | "replayed"

/**
 * What a replay has more or less of than the record, of all that policies see. It is added to what they were recorded to have
 * seen: so where nothing differs, they see the same to the last digit, however little of the history before is left.
 */
export class Differences {
  /** Only what differs is counted in these. */
  private readonly ledgers: { readonly [S in Side]: Ledger }
  private counted = false
  private readonly pending = { queued: 0, merging: 0, approval: 0, running: 0 }
  private pendingDiffers = 0
  /** Of agents whose heartbeats were decided otherwise: skips in a row, as the replay has it. */
  private readonly skips = new Map<string, number>()
  /** Events of a chain that did not come. */
  private readonly absent = new RecentCounts()

  constructor(config: LedgerConfig, zone: DateTime.TimeZone) {
    this.ledgers = { recorded: new Ledger(config, zone), replayed: new Ledger(config, zone) }
  }

  move(side: Side, from: Place, to: Place): void {
    const sign = side === "replayed" ? 1 : -1
    if (from !== "gone") this.count(from, -sign)
    if (to !== "gone") this.count(to, sign)
  }
  private count(place: Exclude<Place, "gone">, change: number): void {
    const before = this.pending[place]
    this.pending[place] = before + change
    this.pendingDiffers += (before + change === 0 ? 0 : 1) - (before === 0 ? 0 : 1)
  }
  reserve(side: Side, runId: string, agentId: string, amount: Amount, now: number): void {
    this.counted = true
    this.ledgers[side].reserve(runId, { agentId, ...amount }, now)
  }
  settle(side: Side, runId: string, amount: Amount, now: number): void {
    this.ledgers[side].settle(runId, amount, now)
  }
  /**
   * A tick was decided, where `seen` was the history in the record: `recorded` is what was decided then, if it was then. What
   * has changed between ticks is the same whatever became of them.
   */
  ticked(agentId: string, seen: Facts["heartbeat"], decision: PolicyDecision, recorded?: string): void {
    const skipped = decision.action === "skip"
    const before = this.skips.get(agentId)
    if (before === undefined && skipped === (recorded === "skip")) return
    this.skips.set(agentId, skipped ? (before ?? seen.consecutiveSkips) + 1 : 0)
  }
  notCaused(root: string, at: number): void {
    this.absent.add(root, at)
  }

  /** What policies see in the replay where `facts` were recorded, of an event of this agent and chain. */
  see(facts: Facts, agentId: string, root: string | undefined, now: number): Facts {
    if (!this.counted && this.pendingDiffers === 0 && this.skips.size === 0 && this.absent.size === 0) return facts
    const { chain, pending } = facts
    const gone = root === undefined ? 0 : this.absent.of(root, now)
    return {
      ...facts,
      ...(this.counted ? this.tally(facts, agentId, now) : {}),
      pending: {
        queued: pending.queued + this.pending.queued,
        merging: pending.merging + this.pending.merging,
        awaitingApproval: pending.awaitingApproval + this.pending.approval,
        running: Math.max(0, pending.running + this.pending.running)
      },
      heartbeat: this.heartbeat(agentId, facts.heartbeat),
      chain: gone === 0 ? chain : { depth: chain.depth, count: chain.count - gone }
    }
  }
  private tally(facts: Facts, agentId: string, now: number): Pick<Facts, "budget" | "budgets" | "rate"> {
    const { budgets, rate } = facts
    const { recorded, replayed } = this.ledgers
    const less = recorded.budgets(now, agentId)
    const more = replayed.budgets(now, agentId)
    const seen = budgets.map((budget): Budget => {
      const i = more.findIndex(
        ({ scope, unit, window }) => scope === budget.scope && unit === budget.unit && window === budget.window
      )
      const [plus, minus] = [more[i], less[i]]
      if (plus === undefined || minus === undefined) return budget
      return {
        ...budget,
        used: budget.used + plus.used - minus.used,
        reserved: budget.reserved + plus.reserved - minus.reserved
      }
    })
    const count = rate.count + replayed.rate(now).count - recorded.rate(now).count
    return { budget: seen[0] ?? facts.budget, budgets: seen, rate: { ...rate, count } }
  }
  private heartbeat(agentId: string, seen: Facts["heartbeat"]): Facts["heartbeat"] {
    const consecutiveSkips = this.skips.get(agentId)
    if (consecutiveSkips === undefined) return seen
    // The same again: from here on it goes by the record.
    if (consecutiveSkips === seen.consecutiveSkips) this.skips.delete(agentId)
    return { ...seen, consecutiveSkips }
  }
}

interface Seen {
  readonly facts: Facts
  readonly executed: boolean
}
/** What was to be seen once the decision was made. */
const after = (seen: Seen | undefined): Facts | undefined =>
  seen?.executed === true
    ? {
        ...seen.facts,
        budgets: seen.facts.budgets.map((budget) => ({ ...budget, reserved: budget.reserved + budget.estimate })),
        rate: { ...seen.facts.rate, count: seen.facts.rate.count + 1 }
      }
    : seen?.facts

/** What was last recorded to have been seen: what an event sees that the replay judges at a time of its own. */
export class LastSeen {
  private latest: Seen | undefined
  private readonly byAgent = new Map<string, Seen>()
  private readonly zone: DateTime.TimeZone

  constructor(zone: DateTime.TimeZone) {
    this.zone = zone
  }
  /** Was seen when an event of this agent was decided; `executed`: and let through, which the next one sees. */
  saw(agentId: string, facts: Facts, executed: boolean): void {
    this.latest = { facts, executed }
    this.byAgent.set(agentId, this.latest)
  }
  /** As it would be seen at `now`, with the estimates of `own`. */
  at(now: number, agentId: string, own: Facts): Facts {
    const latest = after(this.latest) ?? own
    const ofAgent = after(this.byAgent.get(agentId)) ?? own
    const budgets = own.budgets.map((budget): Budget => {
      const from = budget.scope === agentId ? ofAgent : latest
      const last =
        from.budgets.find(
          ({ scope, unit, window }) => scope === budget.scope && unit === budget.unit && window === budget.window
        ) ?? budget
      const over = now >= last.resetsAt.getTime()
      const resetsAt = over ? new Date(windowOf(now, last.window, this.zone).end) : last.resetsAt
      return { ...last, estimate: budget.estimate, resetsAt, ...(over ? { used: 0, reserved: 0 } : {}) }
    })
    const hourIsOver = now >= latest.rate.resetsAt.getTime()
    return {
      ...own,
      heartbeat: ofAgent.heartbeat,
      agent: ofAgent.agent,
      now: new Date(now),
      budget: budgets[0] ?? own.budget,
      budgets,
      rate: hourIsOver
        ? { ...latest.rate, count: 0, resetsAt: new Date(windowOf(now, "hour", this.zone).end) }
        : latest.rate,
      pending: latest.pending,
      merge: null,
      approval: null
    }
  }
}
