import { Alarm, type GatewayError, type StoreError } from "@postilion/gateway"
import { Effect } from "effect"
import type { Channel } from "./Channel.ts"
import type { Channels } from "./Channels.ts"
import type { PushCounts } from "./Push.ts"
import type { Failure, PushRecords } from "./PushRecords.ts"
import type { PushRetention } from "./PushRetention.ts"
import type { Subscription } from "./Subscription.ts"

export interface PushAlarmOptions {
  readonly channels: Channels
  readonly records: PushRecords
  readonly retention: PushRetention
  readonly counts: PushCounts
  readonly now: () => number
  readonly run: (effect: Effect.Effect<void>) => void
}

const HOUR = 3_600_000
const RETRY = 1_000
/** The key of what is seen to once an hour; no channel and no subscription has such a one. */
const HOURLY = ""

/** Sees to what is due: messages that were not acknowledged, those to be told again, and what is not kept any longer. */
export const make = ({ channels, counts, now, records, retention, run }: PushAlarmOptions) =>
  Effect.gen(function* () {
    const scheduled = new Map<string, Subscription>()

    const schedule = (subscription: Subscription): void => {
      const at = subscription.dueAt(now())
      if (at >= subscription.alarm) return
      subscription.alarm = at
      scheduled.set(subscription.key, subscription)
      alarm.set(subscription.key, at)
    }
    const fail = (subscription: Subscription, cursors: ReadonlyArray<number>, failure: Failure) =>
      Effect.map(records.fail(subscription, cursors, failure), ({ died, retried }) => {
        counts.died += died
        counts.retried += retried
      })
    const see = (subscription: Subscription) =>
      Effect.gen(function* () {
        scheduled.delete(subscription.key)
        subscription.alarm = Number.POSITIVE_INFINITY
        const { hearer, inFlight } = subscription
        const late = [...inFlight].filter(([, { deadline }]) => deadline <= now())
        if (hearer?.receiver.away === true) {
          for (const [, flight] of late) flight.deadline = Number.POSITIVE_INFINITY
        } else if (late.length > 0) {
          const error = `not acknowledged within ${subscription.channel.settings.ackTimeoutMs} ms`
          const cursors = late.map(([seq]) => seq)
          yield* fail(subscription, cursors, { error, final: false })
        }
        subscription.hearer?.wake()
        schedule(subscription)
      })
    const prune = (name: string) =>
      Effect.gen(function* () {
        const channel = channels.find(name)
        const next = channel && (yield* retention.prune(channel))
        if (next !== undefined) alarm.set(name, next)
      })
    const hourly = Effect.zipRight(
      retention.all,
      Effect.sync(() => alarm.set(HOURLY, now() + HOUR))
    )
    const orLater = (key: string, effect: Effect.Effect<void, GatewayError | StoreError>): Effect.Effect<void> =>
      Effect.catchAll(effect, (error) => {
        alarm.set(key, now() + RETRY)
        return Effect.logWarning("the push service could not see to what is due; trying again", error)
      })
    const due = (key: string): Effect.Effect<void> => {
      const subscription = scheduled.get(key)
      if (subscription === undefined) {
        // It may take a while, and nobody waits for it.
        return Effect.sync(() => run(orLater(key, key === HOURLY ? hourly : prune(key))))
      }
      return orLater(
        key,
        Effect.tapError(see(subscription), () => Effect.sync(() => void scheduled.set(key, subscription)))
      )
    }
    const alarm = yield* Alarm.make("push", (keys) =>
      Effect.forEach(keys, due, { concurrency: "unbounded", discard: true })
    )
    alarm.set(HOURLY, now() + HOUR)
    for (const channel of channels.values()) {
      if (channel.first <= channel.last) alarm.set(channel.name, now())
      for (const subscription of channel.subscriptions.values()) schedule(subscription)
    }
    return {
      fail,
      schedule,
      /** Removes what the channel does not keep any longer, at that time. */
      prune: ({ name }: Channel, at: number): void => alarm.set(name, at)
    }
  })
