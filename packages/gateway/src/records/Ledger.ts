import type { DateTime } from "effect"
import {
  type Amount,
  type Budget,
  type BudgetUnit,
  type BudgetWindow,
  type Estimate,
  fromNanos,
  toNanos
} from "../domain/Budget.ts"
import { type CalendarWindow, windowOf } from "../domain/Calendar.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import { ALL_AGENTS } from "../domain/Switch.ts"

/** What a ledger is made of: the limits, and how they are read. */
export type LedgerConfig = {
  readonly agents: { readonly [id: string]: Pick<GatewayConfig["agents"][string], "budget"> }
  readonly policies: Pick<
    GatewayConfig["policies"],
    "dailyTokenBudget" | "budget" | "budgetWarnAt" | "unknownModel" | "maxActionsPerHour"
  >
}

const WINDOWS: ReadonlyArray<BudgetWindow> = ["hour", "day", "month"]
const NEVER = { start: Number.NEGATIVE_INFINITY, end: Number.NEGATIVE_INFINITY, endsAt: new Date(0) }
const NOTHING: Estimate = { tokens: 0, usd: 0, model: "" }

const nameOf = ({ scope, unit, window }: Pick<Budget, "scope" | "unit" | "window">): string =>
  `${unit}:${window}:${scope}`

/** One budget: its limit, and what the window under way has used of it. Tokens, or billionths of a dollar. */
class Meter {
  used = 0
  reserved = 0
  /** The windows, by their start, in which it was told that little is left, and that nothing is. */
  readonly told = { warning: Number.NaN, exhausted: Number.NaN }
  readonly scope: string
  readonly unit: BudgetUnit
  readonly window: BudgetWindow
  readonly limit: number | null
  readonly name: string
  constructor(scope: string, unit: BudgetUnit, window: BudgetWindow, limit: number | null) {
    this.name = nameOf({ scope, unit, window })
    this.scope = scope
    this.unit = unit
    this.window = window
    this.limit = limit
  }
}

/** What is told of a budget once in a window. */
export interface Notice {
  /** Its unit, window and scope: `tokens:day:*`. */
  readonly budget: string
  readonly notice: "warning" | "exhausted"
  /** When the window began. */
  readonly since: number
}
/** A notice that has not been given yet, and how the budget stands. */
export type DueNotice = Notice & { readonly stands: Budget }

/** By how much a run used more than was held for it. */
export interface Overshoot {
  readonly tokens: number
  /** US dollars, where money is counted. */
  readonly usd?: number
}

interface Reservation {
  readonly at: number
  readonly agentId: string
  readonly tokens: number
  readonly nanos: number
}

const METERED = [
  ["tokens", "hour", "tokensPerHour"],
  ["tokens", "day", "tokensPerDay"],
  ["tokens", "month", "tokensPerMonth"],
  ["usd", "hour", "usdPerHour"],
  ["usd", "day", "usdPerDay"],
  ["usd", "month", "usdPerMonth"]
] as const

const metersOf = (scope: string, limits: { readonly [K in (typeof METERED)[number][2]]?: number | undefined } = {}) =>
  METERED.flatMap(([unit, window, key]) => {
    const limit = limits[key]
    return limit === undefined ? [] : [new Meter(scope, unit, window, unit === "usd" ? toNanos(limit) : limit)]
  })

/**
 * Reserve, then settle: what runs may use and have used, in memory alone. A run counts in the hour, day and month it was
 * decided in. The windows only move forward: while a clock that was set back has not caught up, what is decided counts in the
 * window that was under way before. Instants are Unix milliseconds.
 */
export class Ledger {
  /** Whether money is counted: whether `reserve` and `budgets` have to be told what a run may cost. */
  readonly hasMoney: boolean
  /** The windows that anything is counted in. */
  readonly windows: ReadonlyArray<BudgetWindow>
  readonly #config: LedgerConfig["policies"]
  readonly #zone: DateTime.TimeZone
  /** The first is the day's tokens over all agents. */
  readonly #global: ReadonlyArray<Meter>
  readonly #byAgent: ReadonlyMap<string, ReadonlyArray<Meter>>
  readonly #meters: ReadonlyArray<Meter>
  readonly #reservations = new Map<string, Reservation>()
  readonly #current: Record<BudgetWindow, CalendarWindow & { readonly endsAt: Date }> = {
    hour: NEVER,
    day: NEVER,
    month: NEVER
  }
  #latest = Number.NEGATIVE_INFINITY
  /** When the next of the windows ends. */
  #rollsAt = Number.NEGATIVE_INFINITY
  #actions = 0

  constructor({ agents, policies }: LedgerConfig, zone: DateTime.TimeZone) {
    const { budget, dailyTokenBudget } = policies
    this.#config = policies
    this.#zone = zone
    this.#global = [
      new Meter(ALL_AGENTS, "tokens", "day", dailyTokenBudget === "unlimited" ? null : dailyTokenBudget),
      ...metersOf(ALL_AGENTS, budget)
    ]
    const own = Object.entries(agents).map(([id, { budget }]) => [id, metersOf(id, budget)] as const)
    this.#byAgent = new Map(own.map(([id, meters]) => [id, [...this.#global, ...meters]]))
    this.#meters = [...this.#global, ...own.flatMap(([, meters]) => meters)]
    this.hasMoney = this.#meters.some(({ unit }) => unit === "usd")
    this.windows = WINDOWS.filter(
      (window) => window === "hour" || this.#meters.some((meter) => meter.window === window)
    )
  }

  /** Forgets all it knows, and begins with the windows that contain `now`. */
  reset(now: number): void {
    this.#latest = Number.NEGATIVE_INFINITY
    this.#rollsAt = Number.NEGATIVE_INFINITY
    for (const window of WINDOWS) this.#current[window] = NEVER
    this.#reservations.clear()
    for (const { told } of this.#meters) told.warning = told.exhausted = Number.NaN
    this.roll(now)
  }
  /** Begins the windows that contain `now`, where those under way have ended. The instant to count at: never one before another. */
  roll(now: number): number {
    if (now > this.#latest) this.#latest = now
    if (this.#latest < this.#rollsAt) return this.#latest
    this.#rollsAt = Number.POSITIVE_INFINITY
    for (const window of this.windows) {
      if (this.#latest >= this.#current[window].end) {
        const next = windowOf(this.#latest, window, this.#zone)
        this.#current[window] = { ...next, endsAt: new Date(next.end) }
        if (window === "hour") this.#actions = 0
        for (const meter of this.#meters) if (meter.window === window) meter.used = meter.reserved = 0
      }
      this.#rollsAt = Math.min(this.#rollsAt, this.#current[window].end)
    }
    return this.#latest
  }
  /** When the window under way began. */
  startOf(window: BudgetWindow): number {
    return this.#current[window].start
  }

  /** Holds what a run may use, and counts one action. The instant it counts at. */
  reserve(runId: string, { agentId, ...amount }: Amount & { readonly agentId: string }, now: number): number {
    const at = this.roll(now)
    this.hold(runId, agentId, amount, at)
    this.#actions += 1
    return at
  }
  /** Holds what a run that was decided at `at` may use. */
  hold(runId: string, agentId: string, { tokens, usd }: Amount, at: number): void {
    const reservation = { at, agentId, tokens, nanos: toNanos(usd ?? 0) }
    this.#reservations.set(runId, reservation)
    for (const meter of this.#applying(agentId)) {
      if (at >= this.startOf(meter.window)) meter.reserved += meter.unit === "tokens" ? tokens : reservation.nanos
    }
  }
  /**
   * Replaces what is held for a run by what it used; what that cost is all that was held for it when it is not known. By how
   * much it used more than was held, if it did.
   */
  settle(runId: string, { tokens, usd }: Amount, now: number): Overshoot | undefined {
    this.roll(now)
    const reservation = this.#reservations.get(runId)
    if (reservation === undefined) return undefined
    this.#reservations.delete(runId)
    const nanos = usd === null ? reservation.nanos : toNanos(usd)
    for (const meter of this.#applying(reservation.agentId)) {
      if (reservation.at < this.startOf(meter.window)) continue
      meter.reserved -= meter.unit === "tokens" ? reservation.tokens : reservation.nanos
      meter.used += meter.unit === "tokens" ? tokens : nanos
    }
    const over = { tokens: Math.max(0, tokens - reservation.tokens), nanos: Math.max(0, nanos - reservation.nanos) }
    if (!this.hasMoney) return over.tokens > 0 ? { tokens: over.tokens } : undefined
    return over.tokens > 0 || over.nanos > 0 ? { tokens: over.tokens, usd: fromNanos(over.nanos) } : undefined
  }
  /** Adds what an agent's ended runs used in the window under way: to the budgets of that window alone. */
  addUsed(window: BudgetWindow, agentId: string, { tokens, usd }: Amount): void {
    const nanos = toNanos(usd ?? 0)
    for (const meter of this.#applying(agentId)) {
      if (meter.window === window) meter.used += meter.unit === "tokens" ? tokens : nanos
    }
  }
  /** Adds to the actions of the hour under way. */
  addActions(count: number): void {
    this.#actions += count
  }

  /** The day's tokens over all agents. */
  budget(now: number, estimate = NOTHING): Budget {
    this.roll(now)
    return this.#show(this.#global[0] as Meter, estimate)
  }
  /** All budgets a run of this agent would count in, the day's tokens over all agents first; without an agent, all there are. */
  budgets(now: number, agentId?: string, estimate = NOTHING): ReadonlyArray<Budget> {
    this.roll(now)
    const meters = agentId === undefined ? this.#meters : this.#applying(agentId)
    return meters.map((meter) => this.#show(meter, estimate))
  }
  /** The hour's actions. */
  rate(now: number): PolicyState["rate"] {
    this.roll(now)
    const { maxActionsPerHour } = this.#config
    return {
      limit: maxActionsPerHour === "unlimited" ? null : maxActionsPerHour,
      count: this.#actions,
      resetsAt: this.#current.hour.endsAt
    }
  }

  /** The budgets that have come to `policies.budgetWarnAt`, each once in a window, unless it was told that nothing is left. */
  takeWarnings(): ReadonlyArray<DueNotice> {
    const due: Array<DueNotice> = []
    for (const meter of this.#meters) {
      if (meter.limit === null || meter.used + meter.reserved < meter.limit * this.#config.budgetWarnAt) continue
      if (meter.told.exhausted === this.startOf(meter.window)) continue
      this.#take(meter, "warning", this.#show(meter, NOTHING), due)
    }
    return due
  }
  /** Of budgets that an event did not fit into, those of which it was not told yet, each once in a window. */
  takeExhausted(refused: ReadonlyArray<Budget>): ReadonlyArray<DueNotice> {
    const due: Array<DueNotice> = []
    for (const budget of refused) {
      const name = nameOf(budget)
      for (const meter of this.#meters) if (meter.name === name) this.#take(meter, "exhausted", budget, due)
    }
    return due
  }
  /** What was told already, of budgets there still are. */
  wasTold({ budget, notice, since }: Notice): void {
    for (const meter of this.#meters) if (meter.name === budget) meter.told[notice] = since
  }

  #take(meter: Meter, notice: Notice["notice"], stands: Budget, due: Array<DueNotice>): void {
    const since = this.startOf(meter.window)
    if (meter.told[notice] === since) return
    meter.told[notice] = since
    due.push({ budget: meter.name, notice, since, stands })
  }
  #applying(agentId: string): ReadonlyArray<Meter> {
    return this.#byAgent.get(agentId) ?? this.#global
  }
  #show({ limit, reserved, scope, unit, used, window }: Meter, estimate: Estimate): Budget {
    const resetsAt = this.#current[window].endsAt
    if (unit === "tokens") return { scope, unit, window, limit, used, reserved, estimate: estimate.tokens, resetsAt }
    const shown = {
      scope,
      unit,
      window,
      limit: limit === null ? null : fromNanos(limit),
      used: fromNanos(used),
      reserved: fromNanos(reserved),
      estimate: estimate.usd ?? 0,
      resetsAt
    }
    const refused = estimate.usd === null && this.#config.unknownModel === "refuse"
    return refused ? { ...shown, unpriced: estimate.model } : shown
  }
}
