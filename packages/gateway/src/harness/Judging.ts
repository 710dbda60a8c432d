import { DateTime, Effect } from "effect"
import { Moment, parseZone } from "../domain/Calendar.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import type { Judgement } from "../domain/PolicyDecision.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import { AgentHealth } from "../records/AgentHealth.ts"
import { BudgetLedger } from "../records/BudgetLedger.ts"
import { Dispatcher } from "../runs/Dispatcher.ts"
import type { Approvals } from "./Approvals.ts"
import { type Answers, CHANGED, type Suspended, settle } from "./Chain.ts"
import { describeTask } from "./Describe.ts"
import type { HeartbeatHistory } from "./HeartbeatHistory.ts"
import type { Holds } from "./Holds.ts"
import { PolicyEngine } from "./PolicyEngine.ts"
import type { RecentCounts } from "./RecentCounts.ts"
import { StateView } from "./StateView.ts"
import type { Case, Verdict } from "./Verdict.ts"

/** Of an event that no run caused. */
const OUTSIDE: PolicyState["chain"] = { depth: 0, count: 1 }

export interface JudgingParts {
  readonly holds: Holds
  readonly approvals: Approvals
  readonly heartbeats: HeartbeatHistory
  readonly senders: RecentCounts
  readonly toDispatch: Verdict["toDispatch"]
}

/** A judgement with the state it was made on, and the task a person is asked about where it is to ask one. */
export interface Judged {
  readonly _tag?: never
  readonly state: PolicyState
  readonly judgement: Judgement
  readonly task: () => string
}

/** Judges events in one go, and makes nothing of it. Plain code within a journal step. */
export const make = (config: GatewayConfig, { approvals, heartbeats, holds, senders, toDispatch }: JudgingParts) =>
  Effect.gen(function* () {
    const ledger = yield* BudgetLedger
    const health = yield* AgentHealth
    const engine = yield* PolicyEngine
    const dispatcher = yield* Dispatcher
    const zone = parseZone(config.timezone) ?? DateTime.zoneMakeOffset(0)

    const stateFor = (subject: Case, now: number): PolicyState => {
      const { approval, event, members, mergeKey } = subject
      const estimate = dispatcher.estimate(toDispatch(subject, describeTask(event)), now)
      return new StateView({
        now: new Moment(now, zone),
        budgets: ledger.budgets(now, subject.agentId, estimate),
        rate: ledger.rate(now),
        pending: {
          queued: holds.counts.queued,
          merging: holds.counts.merging,
          awaitingApproval: holds.counts.approval,
          running: dispatcher.running()
        },
        heartbeat: heartbeats.of(subject.agentId),
        merge: mergeKey === undefined ? null : { key: mergeKey, count: members.length },
        approval: approval?.decided_by == null ? null : { id: approval.id, by: approval.decided_by },
        chain: event.chain ?? OUTSIDE,
        sender: { count: event.sender === undefined ? 0 : senders.of(event.sender, now) },
        agent: health.of(subject.agentId)
      })
    }
    const fit = (subject: Case, state: PolicyState) => (judged: Judgement) =>
      settle(judged, subject.event, state, subject.abandoned !== undefined)

    /** What an event would have the agent do if a person approved it; `otherwise`, where no task comes of that. */
    const taskIfApproved = (subject: Case, now: number, otherwise: string): string => {
      const approval = { id: subject.approval?.id ?? "", by: "" }
      const state = Object.assign(stateFor(subject, now), { approval })
      const judged = engine.unsafeJudge(subject.event, state)
      if ("_tag" in judged) {
        judged.cancel()
        return otherwise
      }
      const { decision } = fit(subject, state)(judged)
      return decision.action === "execute" ? decision.taskDescription : otherwise
    }
    /** An approval is good for what was approved: for anything else, a person is asked anew. */
    const confirm = (subject: Case, judged: Judgement): Judgement => {
      const { approval } = subject
      if (judged.decision.action !== "execute" || approval === undefined) return judged
      if (!approvals.hasChanged(approval, toDispatch(subject, judged.decision.taskDescription))) return judged
      const reason = `${CHANGED} ${approval.decided_by} approved it`
      return { ...judged, decision: { action: "escalate", reason } }
    }
    /** Suspended, where it has to wait for a policy whose answer is not among `answers`. */
    const judge = (subject: Case, now: number, answers?: Answers): Judged | Suspended => {
      const state = stateFor(subject, now)
      const raw = engine.unsafeJudge(subject.event, state, answers)
      if ("_tag" in raw) return raw
      const settled = fit(subject, state)
      const asked = settled(raw)
      const shadows = engine.unsafeShadows(subject.event, state, raw, settled, answers)
      const confirmed = confirm(subject, asked)
      const task = (): string =>
        asked.decision.action === "execute"
          ? asked.decision.taskDescription
          : taskIfApproved(subject, now, describeTask(subject.event))
      return { state, judgement: shadows === undefined ? confirmed : { ...confirmed, shadows }, task }
    }
    return { judge, taskIfApproved }
  })
