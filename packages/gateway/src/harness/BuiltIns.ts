import { Array } from "effect"
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

/** The built-in policies a configuration asks for: those that decide, and those that are only asked. */
export const make = (
  { accessControl, policies }: GatewayConfig,
  { classify }: Pick<RequireApproval.RequireApprovalOptions, "classify">
): { readonly policies: ReadonlyArray<SchedulingPolicy>; readonly shadows: ReadonlyArray<SchedulingPolicy> } => {
  const all = [
    AccessControl.make(accessControl),
    LoopGuard.make(policies.loopGuard),
    AdaptiveHeartbeat.make({ policy: policies.heartbeatPolicy }),
    ...(policies.businessHours === undefined ? [] : [BusinessHours.make(policies.businessHours)]),
    ...(policies.quietHours === undefined ? [] : [QuietHours.make(policies.quietHours)]),
    CircuitBreaker.make(policies.circuitBreaker),
    CostBudget.make(),
    SenderRate.make(policies.maxPerSenderPerMinute),
    RateLimit.make(),
    ...(policies.requireApprovalFor.length === 0
      ? []
      : [RequireApproval.make(policies.requireApprovalFor, { classify })]),
    EventMerging.make({ mergeWindowMs: policies.mergeWindowMs })
  ]
  const [decide, shadows] = Array.partition(all, ({ _tag }) => policies.shadow.some((tag) => tag === _tag))
  return { policies: decide, shadows }
}
