import { Cause, Effect, Exit, Runtime, Scheduler } from "effect"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import type { Judgement, PolicyDecision } from "../domain/PolicyDecision.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import { describeTask } from "./Describe.ts"
import type { SchedulingPolicy } from "./Policy.ts"

export type Answer = Exit.Exit<PolicyDecision | null, unknown>

/** What asynchronous policies have answered about one event, by `_tag`. */
export type Answers = ReadonlyMap<string, Answer>
export const NOBODY: Answers = new Map()

/** A policy needs time to answer. Judge again with its answer among the `Answers`. */
export interface Suspended {
  readonly _tag: "Suspended"
  readonly policy: string
  /** Never fails; a policy that takes longer than its timeout answers with that failure. */
  readonly answer: Effect.Effect<Answer>
  /** Has the policy stop thinking, where nobody is going to wait for its answer. */
  readonly cancel: () => void
}

/** Asks one policy, as far as it goes without waiting. */
export type Ask = (policy: SchedulingPolicy, event: GatewayEvent, state: PolicyState) => Answer | Suspended

/** Runs policies as far as they go without waiting. Most answer at once, and cost no fiber at all. `timeout` in milliseconds; default: 5,000. */
export const makeAsk = (runtime: Runtime.Runtime<never>, timeout = 5_000): Ask => {
  const runFork = Runtime.runFork(runtime)
  return (policy, event, state) => {
    let effect: Effect.Effect<PolicyDecision | null, unknown>
    try {
      effect = policy.evaluate(event, state)
    } catch (defect) {
      return Exit.die(defect)
    }
    if (Exit.isExit(effect)) return effect as Answer
    if (!Effect.isEffect(effect)) return Exit.die(new TypeError("evaluate did not return an Effect"))
    const scheduler = new Scheduler.SyncScheduler()
    const fiber = runFork(effect, { scheduler })
    scheduler.flush()
    const exit = fiber.unsafePoll()
    if (exit !== null) return exit
    const answer = fiber.await.pipe(
      Effect.timeoutTo({
        duration: timeout,
        onSuccess: (exit) => exit,
        onTimeout: (): Answer => Exit.fail(`no answer within ${timeout} ms`)
      }),
      Effect.ensuring(fiber.interruptAsFork(fiber.id()))
    )
    const cancel = () => fiber.unsafeInterruptAsFork(fiber.id())
    return { _tag: "Suspended", policy: policy._tag, answer, cancel }
  }
}

/** Who decided when every policy passed. */
export const DEFAULT_POLICY = "default"

/** What keeps an answer from being a decision. The types forbid it, but not to plain JavaScript. */
const flawOf = (decision: PolicyDecision): string | undefined => {
  switch (decision.action) {
    case "execute":
      return typeof decision.taskDescription === "string" ? undefined : "`execute` without a taskDescription"
    case "queue":
      if (decision.until !== undefined && !(decision.until instanceof Date && decision.until.getTime() < Infinity)) {
        return "`queue` with an `until` that is no date"
      }
      return typeof decision.reason === "string" ? undefined : "`queue` without a reason"
    case "skip":
    case "escalate":
      return typeof decision.reason === "string" ? undefined : `\`${decision.action}\` without a reason`
    case "merge":
      if (decision.windowMs !== undefined && !(decision.windowMs >= 0 && decision.windowMs < Infinity)) {
        return "`merge` with a windowMs that is no number of milliseconds"
      }
      return typeof decision.mergeKey === "string" ? undefined : "`merge` without a mergeKey"
    default:
      return `the unknown action "${String((decision as { readonly action: unknown }).action)}"`
  }
}

/** Policies in the order they are asked: by priority, then as they were given. */
export class Chain {
  readonly policies: ReadonlyArray<SchedulingPolicy>
  /** For each place in the chain, who passed when it decides, and who is not asked any more. */
  private readonly passed: ReadonlyArray<ReadonlyArray<string>>
  private readonly notAsked: ReadonlyArray<ReadonlyArray<string>>

  constructor(policies: ReadonlyArray<SchedulingPolicy>) {
    // Array.prototype.sort is stable: ties stay in the order they were given.
    this.policies = [...policies].sort((a, b) => a.priority - b.priority)
    const names = this.policies.map(({ _tag }) => _tag)
    const places = [...names.keys(), names.length]
    this.passed = places.map((place) => names.slice(0, place))
    this.notAsked = places.map((place) => names.slice(place + 1))
  }
  has(tag: string): boolean {
    return this.policies.some(({ _tag }) => _tag === tag)
  }
  /**
   * The first that answers decides. One that cannot answer at once suspends it, unless its answer is among `answers`. `describe`:
   * the task where all pass.
   */
  judge(
    event: GatewayEvent,
    state: PolicyState,
    ask: Ask,
    answers: Answers,
    describe: (event: GatewayEvent) => string = describeTask
  ): Judgement | Suspended {
    const { policies } = this
    for (let i = 0; i < policies.length; i++) {
      const policy = policies[i] as SchedulingPolicy
      const answer = answers.get(policy._tag) ?? ask(policy, event, state)
      if (answer._tag === "Suspended") return answer
      if (answer._tag === "Failure") {
        const failure = Cause.squash(answer.cause)
        const why = failure instanceof Error ? failure.message : String(failure)
        return this.decided(i, { action: "escalate", reason: `policy ${policy._tag} failed: ${why}` }, true)
      }
      const decision = answer.value
      if (decision == null) continue
      const flaw = flawOf(decision)
      if (flaw === undefined) return this.decided(i, decision, false)
      return this.decided(i, { action: "escalate", reason: `policy ${policy._tag} answered with ${flaw}` }, true)
    }
    return this.decided(policies.length, { action: "execute", taskDescription: describe(event) }, false)
  }
  private decided(place: number, decision: PolicyDecision, failed: boolean): Judgement {
    return {
      decision,
      policy: this.policies[place]?._tag ?? DEFAULT_POLICY,
      passed: this.passed[place] ?? [],
      notAsked: this.notAsked[place] ?? [],
      failed
    }
  }
}

/**
 * A judgement, made to fit where the event stands: a closed window or an approval is not asked for twice, and what is merged
 * would be run as something else than what was approved, or was abandoned.
 */
export const settle = (
  judged: Judgement,
  event: GatewayEvent,
  { approval, merge }: Pick<PolicyState, "approval" | "merge">,
  abandoned: boolean
): Judgement => {
  const { action } = judged.decision
  const settled =
    (action === "merge" && (merge !== null || approval !== null || abandoned)) ||
    (action === "escalate" && approval !== null)
  return settled ? { ...judged, decision: { action: "execute", taskDescription: describeTask(event) } } : judged
}

/** How the reason begins for which a person is asked anew about what was approved. */
export const CHANGED = "what would run has changed since"

/** Whether the same comes of both, whatever the reasons. */
export const sameDecision = (a: PolicyDecision, b: PolicyDecision): boolean => {
  switch (a.action) {
    case "execute":
      return b.action === "execute" && a.taskDescription === b.taskDescription
    case "queue":
      return b.action === "queue" && a.until?.getTime() === b.until?.getTime()
    case "merge":
      return b.action === "merge" && a.mergeKey === b.mergeKey && a.windowMs === b.windowMs
    default:
      return a.action === b.action
  }
}
