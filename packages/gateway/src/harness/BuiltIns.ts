import type { GatewayConfig } from "../domain/Config.ts"
import * as AccessControl from "./AccessControl.ts"
import type { SchedulingPolicy } from "./Policy.ts"
import * as AdaptiveHeartbeat from "./policies/AdaptiveHeartbeat.ts"
import * as BusinessHours from "./policies/BusinessHours.ts"
import * as CircuitBreaker from "./policies/CircuitBreaker.ts"
import * as CostBudget from "./policies/CostBudget.ts"
import * as EventMerging from "./policies/EventMerging.ts"
import * as LoopGuard from "./policies/LoopGuard.ts"
import * as QuietHours from "./policies/QuietHours.ts"
import * as RateLimit from "./policies/RateLimit.ts"
import * as RequireApproval from "./policies/RequireApproval.ts"
import * as SenderRate from "./policies/SenderRate.ts"

/** Built-in policies: those that decide, those that are only asked, and of each, by its `_tag`, what the configuration says of it. */
export interface BuiltIns {
  readonly policies: ReadonlyArray<SchedulingPolicy>
  readonly shadows: ReadonlyArray<SchedulingPolicy>
  readonly said: ReadonlyMap<string, string>
}

/** The built-in policies a configuration asks for. */
export const make = (
  { accessControl, policies }: GatewayConfig,
  { classify }: Pick<RequireApproval.RequireApprovalOptions, "classify">
): BuiltIns => {
  const { businessHours, quietHours, requireApprovalFor } = policies
  const all: ReadonlyArray<readonly [policy: SchedulingPolicy, said: unknown]> = [
    [AccessControl.make(accessControl), accessControl],
    [LoopGuard.make(policies.loopGuard), policies.loopGuard],
    [AdaptiveHeartbeat.make({ policy: policies.heartbeatPolicy }), policies.heartbeatPolicy],
    ...(businessHours === undefined ? [] : [[BusinessHours.make(businessHours), businessHours] as const]),
    ...(quietHours === undefined ? [] : [[QuietHours.make(quietHours), quietHours] as const]),
    [CircuitBreaker.make(policies.circuitBreaker), policies.circuitBreaker],
    [CostBudget.make(), [policies.dailyTokenBudget, policies.budget]],
    [SenderRate.make(policies.maxPerSenderPerMinute), policies.maxPerSenderPerMinute],
    [RateLimit.make(), policies.maxActionsPerHour],
    ...(requireApprovalFor.length === 0
      ? []
      : [[RequireApproval.make(requireApprovalFor, { classify }), requireApprovalFor] as const]),
    [EventMerging.make({ mergeWindowMs: policies.mergeWindowMs }), policies.mergeWindowMs]
  ]
  const isShadow = ({ _tag }: SchedulingPolicy) => policies.shadow.some((tag) => tag === _tag)
  const made = all.map(([policy]) => policy)
  return {
    policies: made.filter((policy) => !isShadow(policy)),
    shadows: made.filter(isShadow),
    said: new Map(all.map(([{ _tag }, said]) => [_tag, JSON.stringify(said)]))
  }
}
