import { Exit } from "effect"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import type { Action, Judgement, ShadowAnswer } from "../domain/PolicyDecision.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import { type Answers, type Ask, Chain, sameDecision } from "./Chain.ts"
import type { SchedulingPolicy } from "./Policy.ts"

/** How a shadow policy has done since it was added, or since the gateway started. */
export interface ShadowReport {
  readonly policy: string
  readonly priority: number
  readonly since: Date
  /** Decisions that would have been the same with it in place. */
  readonly agreed: number
  readonly differed: number
  /** Decisions it could not say anything about at once: shadows are not waited for. */
  readonly late: number
  /** The decisions that differ: what was decided, and what would have been. */
  readonly changes: ReadonlyArray<{ readonly from: Action; readonly to: Action; readonly count: number }>
}

/** Most shadows at a time: each costs every decision as much as the policies it is asked beside. */
export const MOST_SHADOWS = 16

interface Shadow {
  readonly policy: SchedulingPolicy
  /** The live chain with it in place. */
  chain: Chain
  readonly since: number
  agreed: number
  differed: number
  late: number
  readonly changes: Map<string, { readonly from: Action; readonly to: Action; count: number }>
}

const withShadow = (live: Chain, policy: SchedulingPolicy): Chain =>
  new Chain([...live.policies.filter(({ _tag }) => _tag !== policy._tag), policy])

/** Policies that are asked what they would have decided, and decide nothing. */
export class Shadows {
  private readonly byTag = new Map<string, Shadow>()

  get policies(): ReadonlyArray<SchedulingPolicy> {
    return [...this.byTag.values()].map(({ policy }) => policy)
  }
  get(tag: string): SchedulingPolicy | undefined {
    return this.byTag.get(tag)?.policy
  }
  add(policy: SchedulingPolicy, live: Chain, since: number): void {
    const chain = withShadow(live, policy)
    this.byTag.set(policy._tag, { policy, chain, since, agreed: 0, differed: 0, late: 0, changes: new Map() })
  }
  remove(tag: string): void {
    this.byTag.delete(tag)
  }
  /** The live chain is another one. */
  setLive(live: Chain): void {
    for (const shadow of this.byTag.values()) shadow.chain = withShadow(live, shadow.policy)
  }

  /**
   * What each would have made of it, in its place among the policies that decided `live`, made to fit by `settle`. None is
   * waited for, and one that fails is one that has the event wait for a person.
   */
  judge(
    event: GatewayEvent,
    state: PolicyState,
    live: Judgement,
    {
      answers,
      ask,
      settle
    }: { readonly answers: Answers; readonly ask: Ask; readonly settle: (j: Judgement) => Judgement }
  ): ReadonlyArray<ShadowAnswer> | undefined {
    if (this.byTag.size === 0) return undefined
    const known = new Map(answers)
    for (const tag of live.passed) known.set(tag, Exit.succeed(null))
    known.set(live.policy, Exit.succeed(live.decision))
    const decided = settle(live).decision
    return [...this.byTag.values()].map(({ chain, policy: { _tag: policy } }): ShadowAnswer => {
      // A live policy of the same name answers for itself alone.
      const others = known.has(policy) ? new Map([...known].filter(([tag]) => tag !== policy)) : known
      const found = chain.judge(event, state, ask, others)
      if ("_tag" in found) {
        found.cancel()
        return { policy, answer: "late", decision: undefined, by: found.policy, reason: undefined, agrees: undefined }
      }
      const { decision } = settle(found)
      return {
        policy,
        answer: found.passed.includes(policy)
          ? "passed"
          : found.notAsked.includes(policy)
            ? "not-asked"
            : found.failed
              ? "failed"
              : "answered",
        decision: decision.action,
        by: found.policy,
        reason: "reason" in decision ? decision.reason : undefined,
        agrees: sameDecision(decided, decision)
      }
    })
  }
  /** Counts what was recorded with a decision. */
  count(decided: Action, answers: ReadonlyArray<ShadowAnswer>): void {
    for (const { agrees, decision, policy } of answers) {
      const shadow = this.byTag.get(policy)
      if (shadow === undefined) continue
      if (decision === undefined) shadow.late += 1
      else if (agrees === true) shadow.agreed += 1
      else {
        shadow.differed += 1
        const key = `${decided} ${decision}`
        const change = shadow.changes.get(key) ?? { from: decided, to: decision, count: 0 }
        change.count += 1
        shadow.changes.set(key, change)
      }
    }
  }
  report(): ReadonlyArray<ShadowReport> {
    return [...this.byTag.values()].map(({ agreed, changes, differed, late, policy, since }) => ({
      policy: policy._tag,
      priority: policy.priority,
      since: new Date(since),
      agreed,
      differed,
      late,
      changes: [...changes.values()].map((change) => ({ ...change })).sort((a, b) => b.count - a.count)
    }))
  }
}
