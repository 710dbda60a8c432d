import { Clock, type Context, Effect, Layer, Option } from "effect"
import type { GatewayConfig, GatewayConfigInput } from "./domain/Config.ts"
import { decodeConfig } from "./domain/ConfigProblems.ts"
import type { AgentRunError, GatewayConfigError, GatewayStartError, SchedulerError } from "./domain/Errors.ts"
import type { RunResult, RunTask } from "./domain/Run.ts"
import * as GatewayServiceModule from "./GatewayService.ts"
import * as AdmissionModule from "./harness/Admission.ts"
import * as BuiltIns from "./harness/BuiltIns.ts"
import type { SchedulingPolicy } from "./harness/Policy.ts"
import * as PolicyEngineModule from "./harness/PolicyEngine.ts"
import type { RequireApprovalOptions } from "./harness/policies/RequireApproval.ts"
import { LongestSleep } from "./internal/Alarm.ts"
import * as SupervisorModule from "./internal/Supervisor.ts"
import * as Opening from "./Opening.ts"
import { component } from "./Phases.ts"
import * as ReconfigurationModule from "./Reconfiguration.ts"
import * as AgentHealthModule from "./records/AgentHealth.ts"
import * as AuditLogModule from "./records/AuditLog.ts"
import * as BudgetLedgerModule from "./records/BudgetLedger.ts"
import * as EventBusModule from "./records/EventBus.ts"
import * as JournalModule from "./records/Journal.ts"
import { LiveConfig } from "./records/LiveConfig.ts"
import * as SessionStoreModule from "./records/SessionStore.ts"
import * as StorageWatch from "./records/StorageWatch.ts"
import type { Store } from "./records/Store.ts"
import * as StoreMemory from "./records/StoreMemory.ts"
import { type AgentRunner, layerScripted } from "./runs/AgentRunner.ts"
import { type Channel, started as startedChannel } from "./runs/Channel.ts"
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

/** Why a gateway does not start: its configuration is wrong, or a part of it did not. */
export type StartError = GatewayConfigError | SchedulerError | GatewayStartError

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
  // From the records outwards: what is built first is closed last.
  const bus = component(
    "bus",
    "BudgetLedger",
    replaceable(BudgetLedgerModule.BudgetLedger, BudgetLedgerModule.layer(config))
  ).pipe(
    Layer.provideMerge(component("bus", "AgentHealth", AgentHealthModule.layer)),
    Layer.provideMerge(
      component("bus", "SessionStore", replaceable(SessionStoreModule.SessionStore, SessionStoreModule.layer))
    ),
    Layer.provideMerge(component("bus", "StorageWatch", StorageWatch.layer)),
    Layer.provideMerge(
      component("bus", "AuditLog", replaceable(AuditLogModule.AuditLog, AuditLogModule.layer(options.audit)))
    ),
    Layer.provideMerge(component("bus", "Journal", JournalModule.layer(limits))),
    Layer.provideMerge(component("bus", "EventBus", replaceable(EventBusModule.EventBus, EventBusModule.layer))),
    Layer.provideMerge(replaceable(SupervisorModule.Supervisor, SupervisorModule.layer))
  )
  const runs = component("services", "Dispatcher", DispatcherModule.layer(config)).pipe(
    Layer.provideMerge(component("services", "Outbox", OutboxModule.layer(config, { channels: options.channels }))),
    Layer.provideMerge(component("services", "KillSwitch", KillSwitchModule.layer)),
    // Recorded before anything is done that could bring the process down.
    Layer.provideMerge(component("services", "CrashLoop", CrashLoopModule.layer(config)))
  )
  const harness = component("services", "Admission", AdmissionModule.layer(config)).pipe(
    Layer.provideMerge(component("services", "PolicyEngine", replaceable(PolicyEngineModule.PolicyEngine, engine)))
  )
  const router = WebhookRouterModule.layer({ ...config, adapters: options.adapters ?? [] })
  const sources = component("services", "WebhookRouter", replaceable(WebhookRouterModule.WebhookRouter, router)).pipe(
    Layer.provideMerge(
      component("services", "Scheduler", replaceable(SchedulerModule.Scheduler, SchedulerModule.layer(config)))
    )
  )
  const services = component("services", "GatewayService", GatewayServiceModule.layer(live)).pipe(
    Layer.provideMerge(component("services", "Reconfiguration", ReconfigurationModule.layer(live, options))),
    Layer.provideMerge(sources),
    Layer.provideMerge(harness),
    Layer.provideMerge(runs)
  )
  const channels = (options.channels ?? []).reduce<Layer.Layer<never, GatewayStartError, SupervisorModule.Supervisor>>(
    (before, { name, start }) =>
      start === undefined
        ? before
        : Layer.provideMerge(component("channels", `channel ${name}`, startedChannel(name, start)), before),
    Layer.empty
  )
  return component("channels", "Opening", Opening.layer).pipe(
    Layer.provideMerge(channels),
    Layer.provideMerge(services),
    Layer.provideMerge(bus)
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
