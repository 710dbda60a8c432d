import {
  AgentRunError,
  type ChannelConnectionError,
  EventBus,
  type EventRecord,
  type Gateway,
  GatewayError,
  type GatewayEvent,
  GatewayService,
  type GatewayStatus,
  type GatewaySummary,
  type PolicyDecision,
  PolicyEngine,
  type PolicyState,
  type RawInput,
  type Receipt,
  type RunResult,
  type RunTask,
  type SchedulingPolicy
} from "@postilion/gateway"
import { type BusEvent, type BusTag, type Lagged, tagProblem } from "@postilion/gateway/domain/BusEvent"
import { count, noCounts } from "@postilion/gateway/domain/Status"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import { Cause, Effect, Exit, Layer, ManagedRuntime, Scope, Stream } from "effect"
import * as AgentModels from "./agents/AgentModels.ts"
import { HttpAddress } from "./HttpListener.ts"
import * as Postilion from "./Postilion.ts"
import type { PostilionConfigInput } from "./PostilionConfig.ts"

/** A policy that answers with a decision, a promise of one, or nothing. See `SchedulingPolicy`. */
export interface PromisePolicy {
  readonly _tag: string
  readonly priority: number
  readonly evaluate: (
    event: GatewayEvent,
    state: PolicyState
  ) => PolicyDecision | null | undefined | Promise<PolicyDecision | null | undefined>
}

export interface CreateOptions extends Gateway.GatewayOptions {
  /** Does what agents without a `model` are asked. What it rejects with fails the run. Default: the offline model, which says so. */
  readonly runAgent?: (task: RunTask) => Promise<RunResult>
}

/** A gateway for programs that do not use Effect. What fails rejects with a tagged error, such as a `GatewayError`. */
export interface PromiseGateway {
  /** Where its HTTP door is; `undefined` once it is stopped. */
  readonly url: string | undefined
  /** Starts it again after `stop`, with the policies and subscriptions it had. Without effect while it runs. */
  readonly start: () => Promise<void>
  /** Refuses what comes, lets runs finish (`drainDeadlineMs`), closes. Answers with what was done since it was started. */
  readonly stop: () => Promise<GatewaySummary>
  /** Hands in an event. Resolves once it is on disk. */
  readonly submit: (input: RawInput) => Promise<Receipt>
  /** Waits for the end of an event's road. */
  readonly outcome: (eventId: string) => Promise<EventRecord>
  /** Calls `handler` with each event of this kind, one after the other, until the function it answers with is called. Throws where there is no such kind. */
  readonly subscribe: <Tag extends BusTag>(tag: Tag, handler: (event: Told<Tag>) => unknown) => () => void
  /** Adds a policy to the chain. */
  readonly addPolicy: (policy: PromisePolicy | SchedulingPolicy) => Promise<void>
  readonly status: () => Promise<GatewayStatus>
}

type StartError = Gateway.StartError | ChannelConnectionError
type Told<Tag extends BusTag> = Extract<BusEvent, { readonly _tag: Tag }>
type Runtime = ManagedRuntime.ManagedRuntime<Postilion.Services, StartError>

/** A policy as the engine asks it: at once where it answers at once. */
const policyOf = (policy: PromisePolicy | SchedulingPolicy): SchedulingPolicy => ({
  _tag: policy._tag,
  priority: policy.priority,
  evaluate: (event, state) => {
    const answer = policy.evaluate(event, state)
    if (Effect.isEffect(answer)) return answer
    return answer instanceof Promise
      ? Effect.map(
          Effect.tryPromise(() => answer),
          (decision) => decision ?? null
        )
      : Effect.succeed(answer ?? null)
  }
})

const runnerOf = (runAgent: NonNullable<CreateOptions["runAgent"]>) =>
  layerScripted((task) =>
    Effect.tryPromise({
      try: () => runAgent(task),
      catch: (cause) =>
        cause instanceof AgentRunError
          ? cause
          : new AgentRunError({
              message: cause instanceof Error ? cause.message : String(cause),
              retryable: false,
              cause
            })
    })
  )

/** The failure itself, and not what Effect wraps it in. */
const orThrow = async <A, E>(running: Promise<Exit.Exit<A, E>>): Promise<A> => {
  const exit = await running
  if (Exit.isSuccess(exit)) return exit.value
  throw Cause.squash(exit.cause)
}

interface Subscription {
  readonly begin: (runtime: Runtime) => () => void
  cancel: () => void
}

/** Hands what is told to `handler`, from this moment on: so also what the program does next. */
const listen = <Tag extends BusTag>(
  runtime: Runtime,
  tag: Tag,
  handler: (event: Told<Tag>) => unknown
): (() => void) => {
  const isTold = (event: BusEvent | Lagged): event is Told<Tag> => event._tag === tag
  const scope = Effect.runSync(Scope.make())
  const told = runtime.runSync(
    Scope.extend(
      Effect.flatMap(GatewayService, (gateway) => gateway.events(tag)),
      scope
    )
  )
  const handled = Stream.runForEach(told, (event) =>
    isTold(event)
      ? Effect.tryPromise(async () => handler(event)).pipe(
          Effect.catchAll(({ error }) => Effect.logError(`a subscriber to ${tag} failed`, error))
        )
      : Effect.logWarning(`a subscriber to ${tag} was too slow, and missed some`)
  )
  runtime.runFork(handled)
  return () => void Effect.runFork(Scope.close(scope, Exit.void))
}

const stopped = new GatewayError({ reason: "stopped", message: "the gateway is stopped; start it first" })

/** One life of a gateway, from start to stop. */
const live = async (layer: Layer.Layer<Postilion.Services, StartError>) => {
  const runtime: Runtime = ManagedRuntime.make(layer)
  const counters = noCounts()
  // Until after the gateway: what ends while it drains counts too.
  const counting = Effect.runSync(Scope.make())
  const begin = Effect.gen(function* () {
    const bus = yield* EventBus
    yield* Scope.extend(
      bus.listen((event) => count(counters, event)),
      counting
    )
    return (yield* HttpAddress).url
  })
  try {
    const url = await orThrow(runtime.runPromiseExit(begin))
    return {
      runtime,
      url,
      stop: async (): Promise<GatewaySummary> => {
        await runtime.dispose()
        const { chatTurnsHandled: chatTurns, cronChecks, heartbeatsFired, totalRuns } = counters
        return { heartbeatsFired, totalRuns, cronChecks, chatTurns }
      }
    }
  } catch (error) {
    await runtime.dispose()
    throw error
  }
}

/**
 * Starts a gateway with a configuration, or the file one is in. The same as `Postilion.layer`, for programs without Effect.
 *
 * ```ts
 * const gateway = await createGateway({ storage: "./ops.sqlite", agents: { ops: { model: "anthropic/claude-sonnet-4-5" } } })
 * gateway.subscribe("ProactiveActionSuppressed", (event) => console.log(event.reason))
 * await gateway.submit({ source: "webhook", payload: { disk: "91%" } })
 * console.log(await gateway.stop())
 * ```
 *
 * Rejects with a `GatewayConfigError` when the configuration is wrong. Signals are the program's business: have SIGTERM call
 * `stop`.
 */
export const createGateway = async (
  config: PostilionConfigInput | { readonly configFile: string } = {},
  { runAgent, ...options }: CreateOptions = {}
): Promise<PromiseGateway> => {
  const runner = runAgent === undefined ? AgentModels.offline : runnerOf(runAgent)
  const layer: Layer.Layer<Postilion.Services, StartError> =
    "configFile" in config
      ? Postilion.layerFile(config.configFile, options).pipe(Layer.provide(runner))
      : Postilion.layer(config, options).pipe(Layer.provide(runner))
  const policies: Array<SchedulingPolicy> = []
  const subscriptions = new Set<Subscription>()
  let now: Awaited<ReturnType<typeof live>> | undefined = await live(layer)

  const using = <A, E>(effect: Effect.Effect<A, E, Postilion.Services>): Promise<A> =>
    now === undefined ? Promise.reject(stopped) : orThrow(now.runtime.runPromiseExit(effect))
  const add = (policy: SchedulingPolicy) => Effect.flatMap(PolicyEngine, (engine) => engine.addPolicy(policy))

  let starting: Promise<void> | undefined
  const start = async (): Promise<void> => {
    if (now !== undefined) return
    now = await live(layer)
    await using(Effect.forEach(policies, add, { discard: true }))
    for (const subscription of subscriptions) subscription.cancel = subscription.begin(now.runtime)
  }

  return {
    get url() {
      return now?.url
    },
    start: () => {
      starting ??= start().finally(() => {
        starting = undefined
      })
      return starting
    },
    stop: async () => {
      const ending = now
      if (ending === undefined) throw stopped
      now = undefined
      const summary = await ending.stop()
      for (const { cancel } of subscriptions) cancel()
      return summary
    },
    submit: (input) => using(Effect.flatMap(GatewayService, (gateway) => gateway.submit(input))),
    outcome: (eventId) => using(Effect.flatMap(GatewayService, (gateway) => gateway.outcome(eventId))),
    status: () => using(Effect.flatMap(GatewayService, (gateway) => gateway.status())),
    addPolicy: async (policy) => {
      const made = policyOf(policy)
      await using(add(made))
      policies.push(made)
    },
    subscribe: (tag, handler) => {
      const problem = tagProblem([tag])
      if (problem !== undefined) throw new GatewayError({ reason: "invalid-input", message: `subscribe: ${problem}` })
      const subscription: Subscription = { cancel: () => {}, begin: (runtime) => listen(runtime, tag, handler) }
      subscriptions.add(subscription)
      if (now !== undefined) subscription.cancel = subscription.begin(now.runtime)
      return () => {
        subscriptions.delete(subscription)
        subscription.cancel()
      }
    }
  }
}
