import { Cause, Context, Effect, Exit, Layer, Runtime, Scheduler, type Scope } from "effect"
import { GatewayConfigError } from "../domain/Errors.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import type { Judgement, PolicyDecision } from "../domain/PolicyDecision.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import { describeTask } from "./Describe.ts"
import type { SchedulingPolicy } from "./Policy.ts"

type Answer = Exit.Exit<PolicyDecision | null, unknown>

/** What asynchronous policies have answered about one event, by `_tag`. */
export type Answers = ReadonlyMap<string, Answer>

/** A policy needs time to answer. Judge again with its answer among the `Answers`. */
export interface Suspended {
  readonly _tag: "Suspended"
  readonly policy: string
  /** Never fails; a policy that takes longer than its timeout answers with that failure. */
  readonly answer: Effect.Effect<Answer>
  /** Has the policy stop thinking, where nobody is going to wait for its answer. */
  readonly cancel: () => void
}

export interface PolicyEngineShape {
  /** Adds a policy to the chain. Fails when one of its `_tag` is there already, or its priority is not a number. */
  readonly addPolicy: (policy: SchedulingPolicy) => Effect.Effect<void, GatewayConfigError>
  /** Takes the policy with this `_tag` out of the chain. Fails, naming those there are, when there is none. */
  readonly removePolicy: (tag: string) => Effect.Effect<void, GatewayConfigError>
  /** The chain as it is asked: by priority, then in the order they were added. */
  readonly policies: ReadonlyArray<SchedulingPolicy>
  /** Asks the chain. A policy that fails, dies, or takes too long decides `escalate`, with the cause as the reason. */
  readonly evaluate: (event: GatewayEvent, state: PolicyState) => Effect.Effect<Judgement>
  /**
   * Asks the chain in one go, for code that must decide and act on one state. A policy that cannot answer at once
   * suspends it, unless its answer is among `answers`.
   */
  readonly unsafeJudge: (event: GatewayEvent, state: PolicyState, answers?: Answers) => Judgement | Suspended
  /** Calls `listener` after each change of the chain, until the scope closes. */
  readonly onChange: (listener: () => void) => Effect.Effect<void, never, Scope.Scope>
}

/** Decides, without a model, what happens to an event. */
export class PolicyEngine extends Context.Tag("@postilion/gateway/PolicyEngine")<PolicyEngine, PolicyEngineShape>() {}

export interface PolicyEngineOptions {
  /** Policies to start with. Default: none. */
  readonly policies?: ReadonlyArray<SchedulingPolicy>
  /** Milliseconds an asynchronous policy may take to answer. Default: 5,000. */
  readonly policyTimeoutMs?: number
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
const NOBODY: Answers = new Map()

export const make = (options: PolicyEngineOptions = {}) =>
  Effect.gen(function* () {
    const runFork = Runtime.runFork(yield* Effect.runtime<never>())
    const timeout = options.policyTimeoutMs ?? 5_000
    let chain: ReadonlyArray<SchedulingPolicy> = []
    /** For each place in the chain, who passed when it decides, and who is not asked any more. */
    let passedBefore: ReadonlyArray<ReadonlyArray<string>> = [[]]
    let notAskedAfter: ReadonlyArray<ReadonlyArray<string>> = [[]]
    const listeners = new Set<() => void>()

    const setChain = (policies: ReadonlyArray<SchedulingPolicy>): void => {
      // Array.prototype.sort is stable: ties stay in the order they were added.
      chain = [...policies].sort((a, b) => a.priority - b.priority)
      const names = chain.map(({ _tag }) => _tag)
      passedBefore = [...names.keys(), names.length].map((count) => names.slice(0, count))
      notAskedAfter = [...names.keys(), names.length].map((count) => names.slice(count + 1))
      for (const listener of listeners) listener()
    }
    const taken = (tag: string) => chain.some((policy) => policy._tag === tag)

    const addPolicy: PolicyEngineShape["addPolicy"] = (policy) =>
      Effect.suspend(() => {
        const problem = !Number.isFinite(policy.priority)
          ? `its priority is ${policy.priority}; it must be a number`
          : policy._tag === "" || policy._tag === DEFAULT_POLICY
            ? "it needs a _tag of its own"
            : taken(policy._tag)
              ? "a policy of this _tag is there already; remove it first, or choose another _tag"
              : undefined
        if (problem !== undefined) {
          const path = `policies.${policy._tag}`
          return Effect.fail(new GatewayConfigError({ path, message: `policy "${policy._tag}": ${problem}` }))
        }
        return Effect.sync(() => setChain([...chain, policy]))
      })
    const removePolicy: PolicyEngineShape["removePolicy"] = (tag) =>
      Effect.suspend(() => {
        if (taken(tag)) return Effect.sync(() => setChain(chain.filter((policy) => policy._tag !== tag)))
        const known = chain.map(({ _tag }) => _tag).join(", ") || "none"
        return Effect.fail(
          new GatewayConfigError({
            path: `policies.${tag}`,
            message: `there is no policy "${tag}"; policies: ${known}`
          })
        )
      })

    /** Runs a policy as far as it goes without waiting. Most answer at once, and cost no fiber at all. */
    const ask = (policy: SchedulingPolicy, event: GatewayEvent, state: PolicyState): Answer | Suspended => {
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

    const unsafeJudge: PolicyEngineShape["unsafeJudge"] = (event, state, answers = NOBODY) => {
      for (let i = 0; i < chain.length; i++) {
        const policy = chain[i] as SchedulingPolicy
        const answer = answers.get(policy._tag) ?? ask(policy, event, state)
        if (answer._tag === "Suspended") return answer
        const by = (decision: PolicyDecision, failed: boolean): Judgement => ({
          decision,
          policy: policy._tag,
          passed: passedBefore[i] ?? [],
          notAsked: notAskedAfter[i] ?? [],
          failed
        })
        if (answer._tag === "Failure") {
          const failure = Cause.squash(answer.cause)
          const why = failure instanceof Error ? failure.message : String(failure)
          return by({ action: "escalate", reason: `policy ${policy._tag} failed: ${why}` }, true)
        }
        const decision = answer.value
        if (decision == null) continue
        const flaw = flawOf(decision)
        if (flaw === undefined) return by(decision, false)
        return by({ action: "escalate", reason: `policy ${policy._tag} answered with ${flaw}` }, true)
      }
      return {
        decision: { action: "execute", taskDescription: describeTask(event) },
        policy: DEFAULT_POLICY,
        passed: passedBefore[chain.length] ?? [],
        notAsked: [],
        failed: false
      }
    }

    const evaluateWith = (event: GatewayEvent, state: PolicyState, answers: Answers): Effect.Effect<Judgement> =>
      Effect.suspend(() => {
        const judged = unsafeJudge(event, state, answers)
        return "_tag" in judged
          ? Effect.flatMap(judged.answer, (answer) =>
              evaluateWith(event, state, new Map(answers).set(judged.policy, answer))
            )
          : Exit.succeed(judged)
      })

    yield* Effect.forEach(options.policies ?? [], addPolicy, { discard: true })
    return PolicyEngine.of({
      addPolicy,
      removePolicy,
      get policies() {
        return chain
      },
      evaluate: (event, state) => evaluateWith(event, state, NOBODY),
      unsafeJudge,
      onChange: (listener) =>
        Effect.acquireRelease(
          Effect.sync(() => void listeners.add(listener)),
          () => Effect.sync(() => void listeners.delete(listener))
        )
    })
  })

export const layer = (options?: PolicyEngineOptions): Layer.Layer<PolicyEngine, GatewayConfigError> =>
  Layer.effect(PolicyEngine, make(options))
