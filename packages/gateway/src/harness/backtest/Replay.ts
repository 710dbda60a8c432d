import type { DateTime } from "effect"
import type { ReportFields } from "../../domain/BacktestFields.ts"
import { Moment } from "../../domain/Calendar.ts"
import type { GatewayConfig } from "../../domain/Config.ts"
import type { Judgement, PolicyDecision } from "../../domain/PolicyDecision.ts"
import { type Answer, type Ask, CHANGED, type Chain, NOBODY, type Suspended, settle } from "../Chain.ts"
import { type Hold, Holds, RECHECK_AFTER } from "../Holds.ts"
import { StateView } from "../StateView.ts"
import { Costs } from "./Costs.ts"
import { Differences, LastSeen } from "./Differences.ts"
import { Findings, reasonOf } from "./Findings.ts"
import { type Facts, factsOf, join, type Occasion, type Place, type RunPart, type Subject, untilOf } from "./Subject.ts"
import { type Steps, Timers } from "./Timers.ts"

/** Runs that did not come about, of those that events may still name as their cause. */
const MOST_DROPPED = 100_000
const NO_TASK = (): string => ""

/**
 * Judges recorded events again, each where it was judged, for as long as it stands where it stood; once it was decided otherwise,
 * at times of its own. Plain code, a step for each decision.
 */
export class Replay {
  readonly findings: Findings
  readonly costs = new Costs()
  private readonly differences: Differences
  private readonly lastSeen: LastSeen
  /** The merge windows of the replay. */
  private readonly holds = new Holds()
  /** Events that are in a window, or differ: by id, for as long as anything may come of them. */
  private readonly subjects = new Map<string, Subject>()
  private readonly timers = new Timers()
  private readonly dropped = new Set<string>()
  private readonly config: GatewayConfig
  private readonly zone: DateTime.TimeZone
  private readonly chain: Chain
  private readonly ask: Ask

  constructor(
    config: GatewayConfig,
    zone: DateTime.TimeZone,
    { ask, chain, examples }: { readonly chain: Chain; readonly ask: Ask; readonly examples: number }
  ) {
    this.config = config
    this.zone = zone
    this.chain = chain
    this.ask = ask
    this.findings = new Findings(examples)
    this.differences = new Differences(config, zone)
    this.lastSeen = new LastSeen(zone)
  }

  /** An event that differs, and is not forgotten yet. */
  known(id: string): Subject | undefined {
    return this.subjects.get(id)
  }

  /** A decision of the record, in order. */
  *occasion(occasion: Occasion): Steps {
    const { at, subject } = occasion
    if (this.timers.nextAt <= at) yield* this.advance(at, subject.id)
    const facts = factsOf(occasion)
    const first = subject.facts === undefined
    subject.facts ??= facts
    this.lastSeen.saw(subject.agentId, facts, occasion.action === "execute")
    if (first) this.came(subject, at)
    if (subject.differs) return this.record(occasion)

    const state = this.see(subject, facts, at)
    const asked = this.chain.judge(subject.event, state, this.ask, NOBODY, NO_TASK)
    const raw = "_tag" in asked ? yield* this.wait(subject, state, asked) : asked
    const judged = settle(raw, subject.event, state, subject.recordedRuns > 0)
    this.findings.decisions += 1
    const { decision, policy } = judged
    // What a person approved, and whether that is what would run, is as it was recorded.
    if (facts.approval !== null && decision.action === "execute" && occasion.reason?.startsWith(CHANGED) === true)
      return
    const same = this.isSame(occasion, decision)
    if (!same || policy !== occasion.policy) this.findings.differs(occasion, decision, policy)
    else if ((reasonOf(decision) ?? null) !== occasion.reason) this.findings.reworded += 1
    if (subject.event.source === "heartbeat") {
      this.differences.ticked(subject.agentId, facts.heartbeat, decision, occasion.action)
    }
    if (same) return this.follow(occasion)
    subject.differs = true
    subject.merged = state.merge
    subject.approval = facts.approval
    subject.joined = 0
    this.record(occasion)
    this.act(subject, judged, at)
  }

  /** What the replay does by itself until `now`, and then, as a gateway does, in the order of ids until that of `upTo`. */
  *advance(now: number, upTo?: string): Steps {
    for (let next = this.timers.take(now, upTo); next !== undefined; next = this.timers.take(now, upTo)) {
      const steps = next.fire(next.subject, next.at)
      if (steps !== undefined) yield* steps
    }
  }

  report(): Omit<ReportFields, "events"> {
    const { changed, changes, decisions, examples, notCaused, reworded } = this.findings
    let stillHeld = 0
    for (const { differs, replayed } of this.subjects.values()) {
      if (differs && replayed !== "gone" && replayed !== "running") stillHeld += 1
    }
    const { estimated, recorded, replayed } = this.costs
    return { decisions, changed, reworded, notCaused, stillHeld, ...changes, recorded, replayed, estimated, examples }
  }

  private *wait(subject: Subject, state: StateView, first: Suspended): Generator<Suspended, Judgement, Answer> {
    const answers = new Map<string, Answer>()
    let asked: Judgement | Suspended = first
    while ("_tag" in asked) {
      answers.set(asked.policy, yield asked)
      asked = this.chain.judge(subject.event, state, this.ask, answers, NO_TASK)
    }
    return asked
  }
  private see({ agentId, event, joined }: Subject, recorded: Facts, now: number): StateView {
    const facts = this.differences.see(recorded, agentId, event.chain?.root, now)
    const { merge } = facts
    return new StateView({
      ...facts,
      now: new Moment(now, this.zone),
      merge: merge === null || joined === 0 ? merge : { ...merge, count: merge.count + joined }
    })
  }
  private came(subject: Subject, at: number): void {
    const { event, runs } = subject
    if (event.causedBy === undefined || !this.dropped.has(event.causedBy)) return
    this.findings.notCaused += 1
    if (event.chain !== undefined) this.differences.notCaused(event.chain.root, at)
    subject.differs = true
    this.dropRuns(runs)
  }
  /** Whether what was decided leaves the event where the record has it. */
  private isSame({ action, at, dueAt, mergeKey, mergedInto, subject }: Occasion, decision: PolicyDecision): boolean {
    if (decision.action !== action) return false
    if (decision.action === "queue") return (untilOf(decision, at) ?? null) === dueAt
    if (decision.action !== "merge") return true
    const leader = this.leaderOf(subject, decision.mergeKey)
    if (decision.mergeKey !== mergeKey) return false
    if (mergedInto === null) return leader === undefined && at + this.windowOf(decision) === dueAt
    // A window that opened before the first event that is replayed is as it was recorded.
    return leader === undefined ? !this.subjects.has(mergedInto) : leader.event.id === mergedInto
  }
  private leaderOf({ agentId, event }: Subject, mergeKey: string): Hold | undefined {
    return this.holds.window(agentId, mergeKey, event.replyTo)
  }
  private windowOf({ windowMs }: PolicyDecision & { readonly action: "merge" }): number {
    return windowMs ?? this.config.policies.mergeWindowMs
  }

  /** Replayed as it was recorded: what later ones need to know of it. */
  private follow({ action, mergeKey, mergedInto, subject }: Occasion): void {
    this.leaveWindow(subject)
    if (action === "execute") subject.recordedRuns = subject.replayedRuns = subject.recordedRuns + 1
    if (action !== "merge" || mergeKey === null) return
    if (mergedInto === null) this.openWindow(subject, mergeKey)
    else {
      // Of a leader that differs, the replay alone knows how many it leads.
      const leader = this.subjects.get(mergedInto)
      if (leader?.differs === true) join(leader)
    }
  }
  /** The record goes on without the replay. */
  private record({ action, at, dueAt, mergedInto, subject }: Occasion): void {
    if (action === "execute") this.runRecorded(subject, at)
    else if (action === "queue") this.moveRecorded(subject, "queued")
    else if (action === "merge" && dueAt !== null) this.moveRecorded(subject, "merging")
    else if (action === "escalate") {
      this.moveRecorded(subject, "approval")
      const answer = subject.approvals.at(-1)
      // A yes is followed by another decision.
      if (answer?.decided_at == null || answer.state === "approved") return
      this.timers.set(`recorded:${subject.id}`, answer.decided_at, subject, () => {
        this.moveRecorded(subject, "gone")
        return undefined
      })
    } else {
      this.moveRecorded(subject, "gone")
      const leader = mergedInto === null ? undefined : this.subjects.get(mergedInto)
      if (leader !== undefined && !leader.differs) leader.joined -= 1
    }
  }
  private runRecorded(subject: Subject, at: number): void {
    const run = subject.runs[subject.recordedRuns]
    subject.recordedRuns += 1
    this.moveRecorded(subject, run === undefined ? "gone" : "running")
    if (run === undefined) return
    this.costs.drop(run)
    const held = { tokens: run.reserved_tokens, usd: run.reserved_usd }
    this.differences.reserve("recorded", run.id, subject.agentId, held, at)
    this.timers.set(`recorded:${run.id}`, run.ended_at ?? Number.POSITIVE_INFINITY, subject, (_, now) => {
      const used = { tokens: run.input_tokens + run.output_tokens, usd: run.cost_usd }
      this.differences.settle("recorded", run.id, used, now)
      this.moveRecorded(subject, "gone")
      return undefined
    })
  }
  /** The replay goes on without the record. */
  private act(subject: Subject, { decision }: Judgement, at: number): void {
    const judgeAt = (dueAt: number) =>
      this.timers.set(`due:${subject.id}`, dueAt, subject, (subject, at) => this.judge(subject, at))
    this.leaveWindow(subject)
    if (decision.action === "execute") this.run(subject, at)
    else if (decision.action === "skip") this.end(subject)
    else if (decision.action === "escalate") this.askPerson(subject, at)
    else if (decision.action === "queue") {
      subject.until = untilOf(decision, at)
      this.moveReplayed(subject, "queued")
      judgeAt(subject.until ?? at + RECHECK_AFTER)
    } else {
      const leader = this.leaderOf(subject, decision.mergeKey)
      if (leader === undefined) {
        subject.merged = { key: decision.mergeKey, count: 1 }
        this.openWindow(subject, decision.mergeKey)
        this.moveReplayed(subject, "merging")
        judgeAt(at + this.windowOf(decision))
        return
      }
      const leading = this.subjects.get(leader.event.id)
      if (leading !== undefined) join(leading)
      this.end(subject)
    }
  }
  /** Who was asked about it in the record, if at another time, takes as long and says the same; of others, nobody answers. */
  private askPerson(subject: Subject, at: number): void {
    this.moveReplayed(subject, "approval")
    const answer = subject.approvals.findLast(({ decided_at }) => decided_at !== null)
    const said = answer === undefined || answer.state === "expired" ? undefined : answer
    const after = said?.decided_at == null ? this.config.limits.approvalTtlMs : said.decided_at - said.requested_at
    this.timers.set(`due:${subject.id}`, at + after, subject, (subject, at) => {
      if (said?.state !== "approved") {
        this.end(subject)
        return undefined
      }
      subject.approval = { id: said.id, by: said.decided_by ?? "" }
      return this.judge(subject, at)
    })
  }
  /** Judges an event at a time of the replay's own. */
  private *judge(subject: Subject, at: number): Steps {
    const { agentId, event, facts, until } = subject
    if (facts === undefined) return
    const seen = this.lastSeen.at(at, agentId, facts)
    const state = this.see(subject, { ...seen, merge: subject.merged, approval: subject.approval }, at)
    const asked = this.chain.judge(event, state, this.ask, NOBODY, NO_TASK)
    const raw = "_tag" in asked ? yield* this.wait(subject, state, asked) : asked
    const judged = settle(raw, event, state, subject.replayedRuns > 0)
    const { decision } = judged
    const again = subject.replayed === "queued" && decision.action === "queue" && untilOf(decision, at) === until
    if (event.source === "heartbeat" && !again) this.differences.ticked(agentId, seen.heartbeat, decision)
    this.act(subject, judged, at)
  }
  private run(subject: Subject, at: number): void {
    const { agentId, facts, id, runs } = subject
    const [tokens, usd] = [
      facts?.budget.estimate ?? 0,
      facts?.budgets.find(({ unit }) => unit === "usd")?.estimate ?? null
    ]
    const use = this.costs.replay(agentId, runs[subject.replayedRuns] ?? runs.at(-1), { tokens, usd })
    const runId = `${id} ${subject.replayedRuns}`
    subject.replayedRuns += 1
    this.moveReplayed(subject, "running")
    this.differences.reserve("replayed", runId, agentId, { tokens, usd }, at)
    this.timers.set(`replayed:${runId}`, at + use.duration, subject, (subject, now) => {
      this.differences.settle("replayed", runId, use, now)
      this.moveReplayed(subject, "gone")
      return undefined
    })
  }
  /** Nothing comes of it in the replay. */
  private end(subject: Subject): void {
    if (subject.replayedRuns === 0) this.dropRuns(subject.runs)
    this.moveReplayed(subject, "gone")
  }
  private dropRuns(runs: ReadonlyArray<RunPart>): void {
    for (const { id } of runs) this.dropped.add(id)
    for (const id of this.dropped) {
      if (this.dropped.size <= MOST_DROPPED) return
      this.dropped.delete(id)
    }
  }

  private openWindow(subject: Subject, mergeKey: string): void {
    const { agentId, event, id } = subject
    this.subjects.set(id, subject)
    this.holds.set({
      event,
      agentId,
      payloadText: "",
      kind: "merging",
      dueAt: undefined,
      onChange: false,
      mergeKey,
      members: [],
      approval: undefined,
      abandoned: undefined
    })
  }
  private leaveWindow(subject: Subject): void {
    if (this.holds.get(subject.id) === undefined) return
    this.holds.remove(subject.id)
    if (!subject.differs) this.subjects.delete(subject.id)
  }
  private moveRecorded(subject: Subject, to: Place): void {
    this.differences.move("recorded", subject.recorded, to)
    subject.recorded = to
    this.remember(subject)
  }
  private moveReplayed(subject: Subject, to: Place): void {
    this.differences.move("replayed", subject.replayed, to)
    subject.replayed = to
    this.remember(subject)
  }
  /** Until nothing more comes of it, recorded or replayed. One whose run was abandoned may still be judged again. */
  private remember(subject: Subject): void {
    const { id, recorded, replayed, runs } = subject
    const gone = recorded === "gone" && replayed === "gone" && !runs.some(({ state }) => state === "abandoned")
    if (gone) this.subjects.delete(id)
    else this.subjects.set(id, subject)
  }
}
