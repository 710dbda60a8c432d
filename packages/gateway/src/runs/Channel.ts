import { Effect, Exit, Fiber, Layer, Scope } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import { type ConfigProblem, problemError } from "../domain/ConfigProblem.ts"
import { heartbeatPath, heartbeatsOf } from "../domain/ConfigProblems.ts"
import { type DeliveryOutcome, routeProblem } from "../domain/Delivery.ts"
import type { ChannelConnectionError, ChannelSendError } from "../domain/Errors.ts"

/** A message on its way out. It is the same for every attempt. */
export interface OutboundMessage {
  /** The delivery's id: what a platform that deduplicates tells messages apart by. */
  readonly key: string
  /** Its place among all deliveries: a target's are in its order. */
  readonly seq: number
  /** Whom or what the channel is to reach, as the event's route or the configuration says. */
  readonly target: string
  readonly text: string
  /** Whether `text` is the agent's answer, or says that there is none. */
  readonly outcome: DeliveryOutcome
  readonly agentId: string
  readonly eventId: string
  readonly runId: string
  readonly preparedAt: Date
}

/** What a platform said when it took a message. */
export interface DeliveryReceipt {
  /** What the platform calls the message, or how it answered; recorded with the delivery. */
  readonly reference?: string
}

/** A way out. What `send` says is believed, so it must not say `not-sent` of what it cannot prove. */
export interface Channel {
  /** What routes call it. No two channels of a gateway have the same name. */
  readonly name: string
  /**
   * Whether the platform drops a message whose `key` it has had before. Then what may have been sent is sent again; else it
   * waits for a person.
   */
  readonly deduplicates: boolean
  /**
   * Connects, until the scope closes; before anything is sent, and again with the next start of the gateway. Fails when the
   * gateway is not to start without it. What closes it gets five seconds. Default: there is nothing to connect.
   */
  readonly start?: Effect.Effect<void, ChannelConnectionError, Scope.Scope>
  /**
   * Sends one message; called for one message per target at a time. A defect, an interruption and a call that takes longer
   * than `limits.deliveryTimeoutMs` count as `unknown`.
   */
  readonly send: (message: OutboundMessage) => Effect.Effect<DeliveryReceipt, ChannelSendError>
}

/** Milliseconds a channel has to close. */
const CLOSING = 5_000

/** A channel that is connected for as long as the layer is: one that does not close in time keeps nobody waiting. */
export const started = (
  name: string,
  start: NonNullable<Channel["start"]>
): Layer.Layer<never, ChannelConnectionError> =>
  Layer.scopedDiscard(
    Effect.gen(function* () {
      const scope = yield* Effect.acquireRelease(Scope.make(), (scope, exit) =>
        Effect.gen(function* () {
          const closing = yield* Effect.forkDaemon(Scope.close(scope, exit))
          // A finalizer cannot be interrupted, not by its timeouts either: so in a fiber of its own.
          const waiting = Effect.interruptible(Effect.timeoutOption(Fiber.await(closing), CLOSING))
          const closed = yield* Effect.flatMap(Effect.forkDaemon(waiting), Fiber.join)
          if (closed._tag === "None") {
            yield* Effect.logWarning(`channel "${name}" did not close within ${CLOSING} ms, and is left to itself`)
          } else if (Exit.isFailure(closed.value)) {
            yield* Effect.logWarning(`channel "${name}" failed to close`, closed.value.cause)
          }
        })
      )
      yield* Scope.extend(start, scope)
    })
  )

/** What the configuration sends where no channel leads. */
export const deliveryProblems = (
  config: Pick<GatewayConfig, "heartbeat" | "crons" | "webhooks">,
  channels: ReadonlySet<string>
): ReadonlyArray<ConfigProblem> =>
  [
    ...heartbeatsOf(config).map(({ deliverTo }, i) => [heartbeatPath(config, i), deliverTo] as const),
    ...config.crons.map(({ deliverTo }, i) => [["crons", i], deliverTo] as const),
    ...config.webhooks.map(({ deliverTo }, i) => [["webhooks", i], deliverTo] as const)
  ].flatMap(([path, route]) => {
    const message = route === undefined ? undefined : routeProblem(route, channels)
    if (route === undefined || message === undefined) return []
    const found = { path: [...path, "deliverTo"], message }
    return channels.has(route.channel) ? [found] : [{ ...found, given: route.channel, allowed: [...channels] }]
  })

/** Channels by name. Fails when a name is taken twice, or the configuration sends something where no channel leads. */
export const channelsOf = (config: GatewayConfig, channels: ReadonlyArray<Channel>) =>
  Effect.gen(function* () {
    const byName = new Map<string, Channel>()
    for (const channel of channels) {
      if (byName.has(channel.name)) {
        const message = `"${channel.name}" is the name of two channels; give each its own`
        return yield* problemError({ path: ["channels"], message })
      }
      byName.set(channel.name, channel)
    }
    const [problem] = deliveryProblems(config, new Set(byName.keys()))
    return problem === undefined ? byName : yield* problemError(problem)
  })
