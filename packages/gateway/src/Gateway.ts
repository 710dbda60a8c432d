import { Clock, type Context, Effect, Layer, Option } from "effect"
import type { GatewayConfig, GatewayConfigInput } from "./domain/Config.ts"
import { decodeConfig } from "./domain/ConfigProblems.ts"
import type { AgentRunError, GatewayConfigError, GatewayError, SchedulerError } from "./domain/Errors.ts"
import type { RunResult, RunTask } from "./domain/Run.ts"
import * as GatewayServiceModule from "./GatewayService.ts"
import * as AdmissionModule from "./harness/Admission.ts"
import * as BuiltIns from "./harness/BuiltIns.ts"
import type { SchedulingPolicy } from "./harness/Policy.ts"
import * as PolicyEngineModule from "./harness/PolicyEngine.ts"
import type { RequireApprovalOptions } from "./harness/policies/RequireApproval.ts"
import { LongestSleep } from "./internal/Alarm.ts"
import * as SupervisorModule from "./internal/Supervisor.ts"
import * as ReconfigurationModule from "./Reconfiguration.ts"
import * as AgentHealthModule from "./records/AgentHealth.ts"
import * as AuditLogModule from "./records/AuditLog.ts"
import * as BudgetLedgerModule from "./records/BudgetLedger.ts"
import * as EventBusModule from "./records/EventBus.ts"
import * as JournalModule from "./records/Journal.ts"
import { LiveConfig } from "./records/LiveConfig.ts"
import * as SessionStoreModule from "./records/SessionStore.ts"
import * as StorageWatch from "./records/StorageWatch.ts"
import type { Store, StoreError } from "./records/Store.ts"
import * as StoreMemory from "./records/StoreMemory.ts"
import { type AgentRunner, layerScripted } from "./runs/AgentRunner.ts"
import type { Channel } from "./runs/Channel.ts"
import * as CrashLoopModule from "./runs/CrashLoop.ts"
import * as DispatcherModule from "./runs/Dispatcher.ts"
import * as KillSwitchModule from "./runs/KillSwitch.ts"
import * as OutboxModule from "./runs/Outbox.ts"
import * as SchedulerModule from "./sources/Scheduler.ts"
import type { WebhookAdapter } from "./sources/WebhookAdapter.ts"
import * as WebhookRouterModule from "./sources/WebhookRouter.ts"

export interface GatewayOptions {
  /** Adapters besides the built-in ones, by their `source`. */
  readonly adapters?: ReadonlyArray<WebhookAdapter>
  /** What the audit's checkpoints are signed with, and how often. Default: nothing is signed. */
  readonly audit?: Pick<AuditLogModule.AuditLogOptions, "signingKey" | "checkpointEvery">
  /** Where answers can be sent, by their `name`. Default: none. */
  readonly channels?: ReadonlyArray<Channel>
  /** Says what category an event is of, for `policies.requireApprovalFor`. See `RequireApproval.make`. */
  readonly classify?: RequireApprovalOptions["classify"]
}

/** What a gateway gives: the seven subsystems, and what they share. */
export type Services =
  | GatewayServiceModule.GatewayService
  | ReconfigurationModule.Reconfiguration
  | SchedulerModule.Scheduler
  | WebhookRouterModule.WebhookRouter
  | AdmissionModule.Admission
  | PolicyEngineModule.PolicyEngine
  | DispatcherModule.Dispatcher
  | OutboxModule.Outbox
  | KillSwitchModule.KillSwitch
  | CrashLoopModule.CrashLoop
  | BudgetLedgerModule.BudgetLedger
  | AgentHealthModule.AgentHealth
  | SessionStoreModule.SessionStore
  | AuditLogModule.AuditLog
  | JournalModule.Journal
  | EventBusModule.EventBus
  | SupervisorModule.Supervisor

/** Why a gateway does not start: its configuration is wrong, or its records cannot be read. */
export type StartError = GatewayConfigError | SchedulerError | StoreError | GatewayError

/** The policies a configuration asks for. */
export const builtInPolicies = (
  config: GatewayConfig,
  options: Pick<GatewayOptions, "classify"> = {}
): ReadonlyArray<SchedulingPolicy> => BuiltIns.make(config, options).policies

/** `layer`, unless the surroundings already give the service: so any subsystem can be replaced from outside. */
const replaceable = <I, S, E, R>(tag: Context.Tag<I, S>, layer: Layer.Layer<I, E, R>): Layer.Layer<I, E, R> =>
  Layer.unwrapEffect(
    Effect.map(Effect.serviceOption(tag), (given) => (Option.isSome(given) ? Layer.succeed(tag, given.value) : layer))
  )

const compose = (live: LiveConfig, options: GatewayOptions) => {
  const { config } = live
  const { limits } = config
  const engine = PolicyEngineModule.layer({
    ...BuiltIns.make(config, options),
    policyTimeoutMs: limits.policyTimeoutMs
  })
  const records = replaceable(BudgetLedgerModule.BudgetLedger, BudgetLedgerModule.layer(config)).pipe(
    Layer.provideMerge(AgentHealthModule.layer),
    Layer.provideMerge(replaceable(SessionStoreModule.SessionStore, SessionStoreModule.layer)),
    Layer.provideMerge(StorageWatch.layer),
    Layer.provideMerge(replaceable(AuditLogModule.AuditLog, AuditLogModule.layer(options.audit))),
    Layer.provideMerge(JournalModule.layer(limits)),
    Layer.provideMerge(replaceable(EventBusModule.EventBus, EventBusModule.layer)),
    Layer.provideMerge(SupervisorModule.layer)
  )
  const runs = DispatcherModule.layer(config).pipe(
    Layer.provideMerge(OutboxModule.layer(config, { channels: options.channels })),
    Layer.provideMerge(KillSwitchModule.layer),
    // Recorded before anything is done that could bring the process down.
    Layer.provideMerge(CrashLoopModule.layer(config))
  )
  const harness = AdmissionModule.layer(config).pipe(
    Layer.provideMerge(replaceable(PolicyEngineModule.PolicyEngine, engine))
  )
  const sources = Layer.merge(
    replaceable(SchedulerModule.Scheduler, SchedulerModule.layer(config)),
    replaceable(
      WebhookRouterModule.WebhookRouter,
      WebhookRouterModule.layer({ ...config, adapters: options.adapters ?? [] })
    )
  )
  // From the records outwards: what is built first is closed last.
  return Layer.merge(GatewayServiceModule.layer(live), ReconfigurationModule.layer(live, options)).pipe(
    Layer.provideMerge(sources),
    Layer.provideMerge(harness),
    Layer.provideMerge(runs),
    Layer.provideMerge(records)
  )
}

/**
 * The gateway without a place for its records, an agent, or a door: all seven subsystems and what joins them. Any of them
 * that the surroundings provide is used in place of the built-in one.
 */
export const layer = (
  config: GatewayConfigInput = {},
  options: GatewayOptions = {}
): Layer.Layer<Services, StartError, Store | AgentRunner> =>
  Layer.unwrapEffect(
    Effect.zipWith(decodeConfig(config), Clock.currentTimeMillis, (decoded, now) =>
      compose(new LiveConfig(decoded, new Date(now)), options)
    )
  )

/**
 * A gateway for tests: records in memory, an agent that answers with what `respond` returns. With a `TestClock` its time is
 * the test's.
 */
export const layerTest = (
  config: GatewayConfigInput = {},
  respond: (task: RunTask) => Effect.Effect<RunResult, AgentRunError> = (task) =>
    Effect.succeed({
      text: `done: ${task.taskDescription}`,
      usage: { inputTokens: 10, outputTokens: 5 },
      model: "scripted"
    }),
  options: GatewayOptions = {}
): Layer.Layer<Services | Store, StartError> =>
  layer(config, options).pipe(
    Layer.provide(layerScripted(respond)),
    Layer.provide(Layer.succeed(LongestSleep, Number.MAX_SAFE_INTEGER)),
    Layer.provideMerge(StoreMemory.layer)
  )
