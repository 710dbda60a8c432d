import type { Budget } from "../domain/Budget.ts"
import type { Evidence } from "../domain/EventRecord.ts"
import type { Action, Judgement, ShadowAnswer } from "../domain/PolicyDecision.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import { ALL_AGENTS } from "../domain/Switch.ts"

/** Who passed, who was not asked any more, whether who decided failed, and what shadows said, where there were any. */
type PackedAsked = readonly [
  passed: ReadonlyArray<string>,
  notAsked: ReadonlyArray<string>,
  failed: 0 | 1,
  shadows?: ReadonlyArray<PackedShadow>
]
type PackedShadow = readonly [
  policy: string,
  answer: ShadowAnswer["answer"],
  decision: Action | null,
  by: string,
  reason: string | null,
  agrees: boolean | null
]

const packShadow = ({ agrees, answer, by, decision, policy, reason }: ShadowAnswer): PackedShadow => [
  policy,
  answer,
  decision ?? null,
  by,
  reason ?? null,
  agrees ?? null
]
const unpackShadow = ([policy, answer, decision, by, reason, agrees]: PackedShadow): ShadowAnswer => ({
  policy,
  answer,
  decision: decision ?? undefined,
  by,
  reason: reason ?? undefined,
  agrees: agrees ?? undefined
})

/**
 * The state a decision was made on, as it is kept with every event: a tuple rather than an object, since it is written for
 * each one and read for few. Instants are Unix milliseconds. New facts go at the end.
 */
type Packed = readonly [
  asked: PackedAsked,
  now: number,
  limit: number | null,
  used: number,
  reserved: number,
  estimate: number,
  budgetResetsAt: number,
  rateLimit: number | null,
  count: number,
  rateResetsAt: number,
  queued: number,
  merging: number,
  awaitingApproval: number,
  running: number,
  consecutiveSkips: number,
  changed: 0 | 1,
  merge: PolicyState["merge"],
  approval: PolicyState["approval"],
  chainDepth: number,
  chainCount: number,
  senderCount: number,
  failures: number,
  failedAt: number | null,
  /** The budgets besides the day's tokens; not there when there are none. */
  budgets?: ReadonlyArray<PackedBudget>
]

type PackedBudget = readonly [
  scope: string,
  unit: Budget["unit"],
  window: Budget["window"],
  limit: number | null,
  used: number,
  reserved: number,
  estimate: number,
  resetsAt: number,
  unpriced?: string
]

const pack = ({ estimate, limit, reserved, resetsAt, scope, unit, unpriced, used, window }: Budget): PackedBudget => {
  const packed = [scope, unit, window, limit, used, reserved, estimate, resetsAt.getTime()] as const
  return unpriced === undefined ? packed : [...packed, unpriced]
}
const unpack = ([scope, unit, window, limit, used, reserved, estimate, resetsAt, unpriced]: PackedBudget): Budget => {
  const budget = { scope, unit, window, limit, used, reserved, estimate, resetsAt: new Date(resetsAt) }
  return unpriced === undefined ? budget : { ...budget, unpriced }
}

export const encode = ({ failed, notAsked, passed, shadows }: Judgement, state: PolicyState): string => {
  const asked = [passed, notAsked, failed ? 1 : 0] as const
  const { agent, approval, budget, budgets, chain, heartbeat, merge, now, pending, rate, sender } = state
  const packed: Packed = [
    shadows === undefined ? asked : [...asked, shadows.map(packShadow)],
    now.epochMillis,
    budget.limit,
    budget.used,
    budget.reserved,
    budget.estimate,
    budget.resetsAt.getTime(),
    rate.limit,
    rate.count,
    rate.resetsAt.getTime(),
    pending.queued,
    pending.merging,
    pending.awaitingApproval,
    pending.running,
    heartbeat.consecutiveSkips,
    heartbeat.changed ? 1 : 0,
    merge,
    approval,
    chain.depth,
    chain.count,
    sender.count,
    agent.failures,
    agent.lastAt === null ? null : agent.lastAt.getTime()
  ]
  return JSON.stringify(budgets.length > 1 ? [...packed, budgets.slice(1).map(pack)] : packed)
}

export const decode = (text: string): Evidence => {
  const packed = JSON.parse(text) as Packed
  const budget: Budget = {
    scope: ALL_AGENTS,
    unit: "tokens",
    window: "day",
    limit: packed[2],
    used: packed[3],
    reserved: packed[4],
    estimate: packed[5],
    resetsAt: new Date(packed[6])
  }
  return {
    passed: packed[0][0],
    notAsked: packed[0][1],
    failed: packed[0][2] === 1,
    shadows: packed[0][3]?.map(unpackShadow) ?? [],
    state: {
      now: new Date(packed[1]),
      budget,
      budgets: [budget, ...(packed[23] ?? []).map(unpack)],
      rate: { limit: packed[7], count: packed[8], resetsAt: new Date(packed[9]) },
      pending: { queued: packed[10], merging: packed[11], awaitingApproval: packed[12], running: packed[13] },
      heartbeat: { consecutiveSkips: packed[14], changed: packed[15] === 1 },
      merge: packed[16],
      approval: packed[17],
      chain: { depth: packed[18], count: packed[19] },
      sender: { count: packed[20] },
      agent: { failures: packed[21], lastAt: packed[22] === null ? null : new Date(packed[22]) }
    }
  }
}
