/** What is counted: tokens, or US dollars. */
export type BudgetUnit = "tokens" | "usd"
/** By the calendar of the gateway's zone. */
export type BudgetWindow = "hour" | "day" | "month"

/** How a budget stands in the window under way, for an event that is judged. In tokens or US dollars, as `unit` says. */
export interface Budget {
  /** An agent's id, or `*`: all agents together. */
  readonly scope: string
  readonly unit: BudgetUnit
  readonly window: BudgetWindow
  /** `null`: unlimited. */
  readonly limit: number | null
  /** What ended runs used. */
  readonly used: number
  /** What is held for runs that have not ended. */
  readonly reserved: number
  /** The most this event's run could use. */
  readonly estimate: number
  readonly resetsAt: Date
  /** US dollars only: the model the run would be of, when it has no price. What it may cost is not known then. */
  readonly unpriced?: string
}

/** What a run may use, or has used. */
export interface Amount {
  readonly tokens: number
  /** US dollars; `null`: not known. */
  readonly usd: number | null
}

/** The most an event's run could use. */
export interface Estimate extends Amount {
  /** The model it would be of, as the agents' runner names it. */
  readonly model: string
}

/** Money is counted in billionths of a dollar, which are whole numbers: sums come out the same in every order. */
const NANO = 1_000_000_000
export const toNanos = (usd: number): number => Math.round(usd * NANO)
export const fromNanos = (nanos: number): number => nanos / NANO

/** Whether the event's run fits into what is left, whatever it and those under way come to use. */
export const fits = ({ estimate, limit, reserved, unit, unpriced, used }: Budget): boolean => {
  if (limit === null) return true
  if (unpriced !== undefined) return false
  return unit === "tokens"
    ? used + reserved + estimate <= limit
    : toNanos(used) + toNanos(reserved) + toNanos(estimate) <= toNanos(limit)
}

/** Days of the calendar in the gateway's zone, written as `2026-01-31`, both inclusive. */
export interface BudgetRange {
  /** Default: the first of the month of `to`. */
  readonly from?: string | undefined
  /** Default: today. */
  readonly to?: string | undefined
}

/** What runs that ended used. A run counts in the day it was decided in. */
export interface Spending {
  readonly runs: number
  readonly inputTokens: number
  readonly outputTokens: number
  /** US dollars, of the runs whose cost is known; `null` when that is none of them. */
  readonly costUsd: number | null
  /** The runs whose cost is not known: their model had no price, or they were abandoned. */
  readonly unknownCost: number
}
export interface NamedSpending extends Spending {
  readonly name: string
}

/** What may be used, and what was. */
export interface BudgetReport {
  /** Every budget there is: those over all agents first, then each agent's. */
  readonly budgets: ReadonlyArray<Omit<Budget, "estimate" | "unpriced">>
  /** Actions this hour. */
  readonly rate: { readonly limit: number | null; readonly count: number; readonly resetsAt: Date }
  readonly from: string
  readonly to: string
  readonly total: Spending
  /** What was used most of comes first. */
  readonly byAgent: ReadonlyArray<NamedSpending>
  readonly bySource: ReadonlyArray<NamedSpending>
  /** By the model that answered; a run without one, since it failed, is `unknown`. */
  readonly byModel: ReadonlyArray<NamedSpending>
  /** Days with runs, in order. */
  readonly byDay: ReadonlyArray<NamedSpending>
}
