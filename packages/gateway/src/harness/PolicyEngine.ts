import { Context, Effect, Exit, Layer, type Scope } from "effect"
import { GatewayConfigError } from "../domain/Errors.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import type { Action, Judgement, ShadowAnswer } from "../domain/PolicyDecision.ts"
import type { PolicyState } from "../domain/PolicyState.ts"
import { type Answers, Chain, DEFAULT_POLICY, makeAsk, NOBODY, type Suspended } from "./Chain.ts"
import type { SchedulingPolicy } from "./Policy.ts"
import { MOST_SHADOWS, type ShadowReport, Shadows } from "./Shadows.ts"

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
  /**
   * Asks a policy beside the live ones, from now on, what it would have the chain decide: recorded with each decision, and
   * never acted upon. It is compared in its place, by priority; in that of the live policy, where one has its `_tag`. A shadow
   * that fails or cannot answer at once neither fails nor delays a decision.
   *
   * Fails when there is a shadow of this `_tag` already, when there are 16, or when it could not be added as a policy.
   */
  readonly addShadow: (policy: SchedulingPolicy) => Effect.Effect<void, GatewayConfigError>
  /** Asks this shadow no more. Fails, naming those there are, when there is none. */
  readonly removeShadow: (tag: string) => Effect.Effect<void, GatewayConfigError>
  /** Makes a shadow a policy that decides, in place of the live one of its `_tag` where there is one. Fails when there is none. */
  readonly promote: (tag: string) => Effect.Effect<void, GatewayConfigError>
  /** How often each shadow agreed with what was decided, in the order they were added. */
  readonly shadowReport: () => ReadonlyArray<ShadowReport>
  /** What shadows make of an event that was decided so, for code that records it; `undefined` where there are none. */
  readonly unsafeShadows: (
    event: GatewayEvent,
    state: PolicyState,
    live: Judgement,
    settle: (judged: Judgement) => Judgement,
    answers?: Answers
  ) => Judgement["shadows"]
  /** What shadows said was recorded with a decision. */
  readonly countShadows: (decided: Action, answers: ReadonlyArray<ShadowAnswer>) => void
  /**
   * Prepares to ask other policies in place of those the engine was made with. What was added since stays; and one of those it was
   * made with that was promoted or removed since stays so, unless what is said of it is different now. Fails when a policy that was
   * added has the name of one of them.
   */
  readonly reconfigure: (
    options: Omit<PolicyEngineOptions, "policyTimeoutMs">
  ) => Effect.Effect<Reconfigured, GatewayConfigError>
  /** Calls `listener` after each change of the chain, until the scope closes. */
  readonly onChange: (listener: () => void) => Effect.Effect<void, never, Scope.Scope>
}

/** Other policies, ready to be asked. */
export interface Reconfigured {
  /** Has them asked from now on. */
  readonly apply: () => void
  /** Those that are not as they are asked for, since they were promoted or removed: `QuietHours decides`. */
  readonly byHand: ReadonlyArray<string>
}

/** Decides, without a model, what happens to an event. */
export class PolicyEngine extends Context.Tag("@postilion/gateway/PolicyEngine")<PolicyEngine, PolicyEngineShape>() {}

export interface PolicyEngineOptions {
  /** Policies to start with. Default: none. */
  readonly policies?: ReadonlyArray<SchedulingPolicy>
  /** Shadows to start with. Default: none. */
  readonly shadows?: ReadonlyArray<SchedulingPolicy>
  /** What a configuration says of them, by `_tag`: for it to count anew when it is different. Default: nothing. */
  readonly said?: ReadonlyMap<string, string>
  /** Milliseconds an asynchronous policy may take to answer. Default: 5,000. */
  readonly policyTimeoutMs?: number
}

/** What becomes of a policy's answers. */
type Part = "decides" | "is only asked" | "is not asked"

/** A policy that is asked for, and as what. */
interface Wanted {
  readonly policy: SchedulingPolicy
  readonly part: Part
  readonly said: string | undefined
}
const wantedOf = ({ policies = [], said, shadows = [] }: PolicyEngineOptions): ReadonlyArray<Wanted> => {
  const as = (part: Part) => (policy: SchedulingPolicy) => ({ policy, part, said: said?.get(policy._tag) })
  return [...policies.map(as("decides")), ...shadows.map(as("is only asked"))]
}

const namesOf = (policies: ReadonlyArray<SchedulingPolicy>): string =>
  policies.map(({ _tag }) => _tag).join(", ") || "none"

export const make = (options: PolicyEngineOptions = {}) =>
  Effect.gen(function* () {
    const ask = makeAsk(yield* Effect.runtime<never>(), options.policyTimeoutMs)
    const clock = yield* Effect.clock
    let chain = new Chain([])
    const shadows = new Shadows()
    const listeners = new Set<() => void>()

    const setChain = (policies: ReadonlyArray<SchedulingPolicy>): void => {
      chain = new Chain(policies)
      shadows.setLive(chain)
      tell()
    }
    const tell = (): void => {
      for (const listener of listeners) listener()
    }
    const refuse = (tag: string, problem: string) =>
      Effect.fail(new GatewayConfigError({ path: `policies.${tag}`, message: problem }))
    const unknown = (tag: string, what: string, known: ReadonlyArray<SchedulingPolicy>) =>
      refuse(tag, `there is no ${what} "${tag}"; ${what === "policy" ? "policies" : "shadows"}: ${namesOf(known)}`)
    const problemOf = ({ _tag, priority }: SchedulingPolicy, taken: boolean): string | undefined =>
      !Number.isFinite(priority)
        ? `its priority is ${priority}; it must be a number`
        : _tag === "" || _tag === DEFAULT_POLICY
          ? "it needs a _tag of its own"
          : taken
            ? "a policy of this _tag is there already; remove it first, or choose another _tag"
            : undefined

    const addPolicy: PolicyEngineShape["addPolicy"] = (policy) =>
      Effect.suspend(() => {
        const problem = problemOf(policy, chain.has(policy._tag))
        return problem === undefined
          ? Effect.sync(() => setChain([...chain.policies, policy]))
          : refuse(policy._tag, `policy "${policy._tag}": ${problem}`)
      })
    const removePolicy: PolicyEngineShape["removePolicy"] = (tag) =>
      Effect.suspend(() =>
        chain.has(tag)
          ? Effect.sync(() => setChain(chain.policies.filter(({ _tag }) => _tag !== tag)))
          : unknown(tag, "policy", chain.policies)
      )
    const addShadow: PolicyEngineShape["addShadow"] = (policy) =>
      Effect.suspend(() => {
        const full =
          shadows.policies.length >= MOST_SHADOWS ? `there are ${MOST_SHADOWS} already; remove one first` : undefined
        const problem = problemOf(policy, shadows.get(policy._tag) !== undefined) ?? full
        if (problem !== undefined) return refuse(policy._tag, `shadow "${policy._tag}": ${problem}`)
        return Effect.sync(() => {
          shadows.add(policy, chain, clock.unsafeCurrentTimeMillis())
          tell()
        })
      })
    const withoutShadow = (tag: string, then: (policy: SchedulingPolicy) => void) =>
      Effect.suspend(() => {
        const policy = shadows.get(tag)
        if (policy === undefined) return unknown(tag, "shadow", shadows.policies)
        return Effect.sync(() => {
          shadows.remove(tag)
          then(policy)
        })
      })

    let configured = wantedOf(options)
    const partOf = (policy: SchedulingPolicy): Part =>
      chain.policies.includes(policy) ? "decides" : shadows.policies.includes(policy) ? "is only asked" : "is not asked"
    const reconfigure: PolicyEngineShape["reconfigure"] = (options) =>
      Effect.suspend(() => {
        const wanted = wantedOf(options)
        const added = (one: SchedulingPolicy) => !configured.some(({ policy }) => policy === one)
        /** As what it is asked from now on. */
        const parts = wanted.map(({ part, policy, said }) => {
          const before = configured.find((one) => one.policy._tag === policy._tag)
          return before === undefined || before.said !== said || before.part !== part ? part : partOf(before.policy)
        })
        const to = (part: Part) => wanted.flatMap(({ policy }, i) => (parts[i] === part ? [policy] : []))
        const [policies, asked] = [to("decides"), to("is only asked")]
        const clash =
          policies.find(({ _tag }) => chain.policies.some((policy) => policy._tag === _tag && added(policy))) ??
          asked.find(({ _tag }) => shadows.policies.some((policy) => policy._tag === _tag && added(policy)))
        if (clash !== undefined) {
          return refuse(
            clash._tag,
            `policy "${clash._tag}": one of this _tag was added by the program; remove that first`
          )
        }
        return Effect.succeed({
          byHand: wanted.flatMap(({ part, policy }, i) => (parts[i] === part ? [] : [`${policy._tag} ${parts[i]}`])),
          apply: () => {
            const own = chain.policies.filter(added)
            for (const shadow of shadows.policies.filter((policy) => !added(policy))) shadows.remove(shadow._tag)
            configured = wanted
            chain = new Chain([...policies, ...own])
            shadows.setLive(chain)
            for (const shadow of asked) shadows.add(shadow, chain, clock.unsafeCurrentTimeMillis())
            tell()
          }
        })
      })

    const unsafeJudge: PolicyEngineShape["unsafeJudge"] = (event, state, answers = NOBODY) =>
      chain.judge(event, state, ask, answers)

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
    yield* Effect.forEach(options.shadows ?? [], addShadow, { discard: true })
    return PolicyEngine.of({
      addPolicy,
      removePolicy,
      get policies() {
        return chain.policies
      },
      addShadow,
      removeShadow: (tag) => withoutShadow(tag, tell),
      promote: (tag) =>
        withoutShadow(tag, (policy) => setChain([...chain.policies.filter(({ _tag }) => _tag !== tag), policy])),
      reconfigure,
      shadowReport: () => shadows.report(),
      unsafeShadows: (event, state, live, settle, answers = NOBODY) =>
        shadows.judge(event, state, live, { answers, ask, settle }),
      countShadows: (decided, answers) => shadows.count(decided, answers),
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
