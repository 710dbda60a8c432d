import { Context, Effect, Layer } from "effect"
import type { GatewayConfig } from "./domain/Config.ts"
import { problemError } from "./domain/ConfigProblem.ts"
import { problemsOf } from "./domain/ConfigProblems.ts"
import type { GatewayConfigError, GatewayError, SchedulerError } from "./domain/Errors.ts"
import * as BuiltIns from "./harness/BuiltIns.ts"
import { PolicyEngine } from "./harness/PolicyEngine.ts"
import type { RequireApprovalOptions } from "./harness/policies/RequireApproval.ts"
import { AuditLog } from "./records/AuditLog.ts"
import { Journal } from "./records/Journal.ts"
import { LIVE_KEYS, type LiveConfig, type LiveKeys } from "./records/LiveConfig.ts"
import { deliveryProblems } from "./runs/Channel.ts"
import { Outbox } from "./runs/Outbox.ts"
import { Scheduler } from "./sources/Scheduler.ts"
import { WebhookRouter } from "./sources/WebhookRouter.ts"

export interface ChangeOptions {
  /** What changes, as it may be shown: recorded in the audit. */
  readonly changes: ReadonlyArray<string>
  /** Keys that have another value at the next start. */
  readonly atRestart: ReadonlyArray<string>
  /** Who has it changed: recorded in the audit. */
  readonly by: string
  /** What changes with it, in the same moment. */
  readonly also?: () => void
}

export interface ReconfigurationShape {
  /** The configuration as it is now. */
  readonly current: () => GatewayConfig
  /**
   * Has the gateway go on with other live keys: between two steps, so that each event is judged by one configuration or the
   * other, and none is lost. Fails, and changes nothing, when they cannot be what the gateway is made of, or the change cannot be
   * recorded. Succeeds with what is not as the keys have it, since it was changed by hand: `QuietHours decides`.
   */
  readonly change: (
    keys: LiveKeys,
    options: ChangeOptions
  ) => Effect.Effect<ReadonlyArray<string>, GatewayConfigError | SchedulerError | GatewayError>
  /** Records that another configuration was refused; the gateway goes on with the one it has. */
  readonly refuse: (error: string) => Effect.Effect<void, GatewayError>
}

/** Changes the configuration of a gateway that runs. */
export class Reconfiguration extends Context.Tag("@postilion/gateway/Reconfiguration")<
  Reconfiguration,
  ReconfigurationShape
>() {}

const make = (live: LiveConfig, options: Pick<RequireApprovalOptions, "classify">) =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const audit = yield* AuditLog
    const engine = yield* PolicyEngine
    const scheduler = yield* Scheduler
    const webhooks = yield* WebhookRouter
    const { channels } = yield* Outbox
    const alone = yield* Effect.makeSemaphore(1)

    const check = (next: GatewayConfig) => {
      const [problem] = [...problemsOf(next), ...deliveryProblems(next, channels)]
      return problem === undefined ? Effect.void : Effect.fail(problemError(problem))
    }
    return Reconfiguration.of({
      current: () => live.config,
      change: (keys, { also, atRestart, by, changes }) =>
        Effect.gen(function* () {
          const next = live.with(keys)
          yield* check(next)
          const policies = yield* engine.reconfigure(BuiltIns.make(next, options))
          const setWebhooks = yield* webhooks.reconfigure(next.webhooks)
          const setJobs = yield* scheduler.reconfigure(next)
          yield* journal.step((tx) => {
            audit.append(tx, { kind: "config.changed", data: { by, changes, atRestart, byHand: policies.byHand } })
            setJobs(tx)
            tx.onCommit(() => {
              live.set(next, new Date(tx.now), atRestart)
              policies.apply()
              setWebhooks()
              also?.()
            })
            tx.reload()
          })
          return policies.byHand
        }).pipe(alone.withPermits(1)),
      refuse: (error) =>
        Effect.zipRight(
          Effect.sync(() => live.refused(error)),
          journal.step((tx) => void audit.append(tx, { kind: "config.refused", data: { error } }))
        )
    })
  })

export const layer = (live: LiveConfig, options: Pick<RequireApprovalOptions, "classify">) =>
  Layer.effect(Reconfiguration, make(live, options))

export { LIVE_KEYS, type LiveKeys }
