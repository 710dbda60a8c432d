import { GatewayError } from "@postilion/gateway"
import { Effect } from "effect"
import type { Principal } from "../Principal.ts"
import type { Channel, Hearer, Receiver } from "./Channel.ts"
import { Durable } from "./Hearers.ts"
import type { Message } from "./Message.ts"
import { type Core, keepsNothing, type Page } from "./Push.ts"

export interface PollOptions {
  readonly channel: string
  readonly since?: number | undefined
  /** Default: 100. */
  readonly limit?: number | undefined
  /** Milliseconds to wait for a message, `maxPollMs` at most. Default: 0, not at all. */
  readonly timeoutMs?: number | undefined
  /** Of what it has to acknowledge; how far it has come is for the gateway to remember. */
  readonly subscription?: string | undefined
}
export interface Polled extends Page {
  /** How often each was told, this time included; by its cursor. Of a subscription. */
  readonly attempts: ReadonlyMap<number, number>
}

const LIMIT = 100
const NONE: ReadonlyMap<number, number> = new Map()

/** Requests that wait for messages. */
export const make = ({ admit, around, config, counts, enter, page, records }: Core, closing: Effect.Effect<void>) => {
  let waiting = 0

  /** Runs `use` with somebody who hears the channel meanwhile. */
  const hearing = <A, E>(channel: Channel, hearer: Hearer, use: Effect.Effect<A, E>) =>
    Effect.acquireUseRelease(
      Effect.sync(() => void channel.hearers.add(hearer)),
      () => use,
      () => Effect.sync(() => void channel.hearers.delete(hearer))
    )
  /** Waits for one of these to be so, and no longer. `look` is called whenever there is news. */
  const latch = () => {
    let isSo = false
    let resume = (): void => {}
    return {
      open: (): void => {
        isSo = true
        resume()
      },
      wait: Effect.async<void>((done) => {
        resume = () => done(Effect.void)
        if (isSo) resume()
      })
    }
  }
  const upTo = (millis: number, news: Effect.Effect<void>) =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        waiting += 1
      }),
      () => Effect.raceFirst(news, Effect.raceFirst(closing, Effect.sleep(millis))),
      () =>
        Effect.sync(() => {
          waiting -= 1
        })
    )

  /** What comes after a cursor; whoever asks says how far it has come. */
  const after = (name: string, since: number | undefined, limit: number, millis: number) =>
    Effect.gen(function* () {
      const channel = yield* enter(name)
      const news = latch()
      const heard: Array<Message> = []
      const hearer: Hearer = {
        published: (message) => {
          if (!channel.keeps && heard.length < limit) heard.push(message)
          news.open()
        },
        wake: () => {}
      }
      const from = since ?? channel.last
      const look = channel.keeps
        ? page(name, from, limit)
        : Effect.sync(
            (): Page => ({ messages: heard, cursor: 0, missed: since === undefined || since === 0 ? 0 : null })
          )
      return yield* hearing(
        channel,
        hearer,
        Effect.gen(function* () {
          const found = yield* look
          if (found.messages.length > 0 || found.missed !== 0 || millis === 0) return found
          yield* upTo(millis, news.wait)
          return yield* look
        })
      )
    })

  const bySubscription = (
    principal: Principal,
    { channel: name, since }: PollOptions,
    subscriptionName: string,
    limit: number,
    millis: number
  ) =>
    Effect.gen(function* () {
      yield* enter(name)
      const made = yield* records.subscribe(name, principal.name, subscriptionName, since)
      if (made === undefined) {
        const message = `"${name}" has as many subscriptions as may be (maxSubscribers)`
        return yield* new GatewayError({ reason: "overloaded", message })
      }
      const { subscription } = made
      const news = latch()
      const messages: Array<Message> = []
      const attempts = new Map<number, number>()
      let missed = 0
      const receiver: Receiver = {
        get ready() {
          return messages.length < limit
        },
        away: false,
        message: (message, attempt) => {
          messages.push(message)
          attempts.set(message.seq, attempt)
          news.open()
        },
        gap: (gap) => {
          missed += gap.missed ?? 0
          news.open()
        },
        replaced: () => {
          if (subscription.hearer === hearer) subscription.hearer = undefined
          news.open()
        }
      }
      const hearer = new Durable(subscription, around, receiver)
      return yield* hearing(
        subscription.channel,
        hearer,
        Effect.gen(function* () {
          subscription.hearer?.receiver.replaced()
          subscription.hearer = hearer
          around.schedule(subscription)
          yield* hearer.catchUp
          if (messages.length === 0 && missed === 0 && millis > 0) yield* upTo(millis, news.wait)
          return { messages, cursor: subscription.told, missed, attempts }
        }).pipe(
          Effect.ensuring(
            Effect.sync(() => {
              // What it was told is in flight until it is acknowledged, by whatever request.
              if (subscription.hearer === hearer) subscription.hearer = undefined
            })
          )
        )
      )
    })

  return {
    waiting: () => waiting,
    poll: (principal: Principal, options: PollOptions) =>
      Effect.gen(function* () {
        const { channel, limit = LIMIT, since, subscription, timeoutMs = 0 } = options
        const { guarantee } = yield* admit(principal, channel, "subscribe")
        if (subscription !== undefined && guarantee === "at-most-once") return yield* keepsNothing(channel)
        const millis = Math.min(timeoutMs, config.maxPollMs)
        if (millis > 0 && waiting >= config.maxPolls) {
          const message = `${waiting} requests wait for messages, as many as may (push.maxPolls)`
          return yield* new GatewayError({ reason: "overloaded", message })
        }
        const polled: Polled =
          subscription !== undefined
            ? yield* bySubscription(principal, options, subscription, limit, millis)
            : { ...(yield* after(channel, since, limit, millis)), attempts: NONE }
        counts.told += polled.messages.length
        return polled
      })
  }
}
