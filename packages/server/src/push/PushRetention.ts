import { Journal, Store } from "@postilion/gateway"
import { Clock, Effect } from "effect"
import type { Channel } from "./Channel.ts"
import { type Channels, FLOOR } from "./Channels.ts"
import type { PresenceRecords } from "./PresenceRecords.ts"
import type { PushConfig } from "./PushConfig.ts"
import { PAGE, type PushRecords } from "./PushRecords.ts"

const DAY = 86_400_000

/** Removes what is not to be kept any more, a page at a time, so that nothing else waits for it. */
export const make = (
  config: PushConfig,
  channels: Channels,
  { presences, records }: { readonly records: PushRecords; readonly presences: PresenceRecords }
) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal

    /** Messages that a dead letter, or one that is told again, is about. */
    const pinnedIn = (channel: Channel) =>
      Effect.map(
        store.find("push_deliveries", {
          columns: ["seq"],
          where: { channel: channel.name, state: { in: ["dead", "replayed"] } }
        }),
        (rows) => new Set(rows.map(({ seq }) => seq))
      )
    /** Moves `first` past what is too old. When the next message will be. */
    const expire = (channel: Channel) =>
      Effect.gen(function* () {
        const before = (yield* Clock.currentTimeMillis) - channel.settings.backlog.ttlMs
        for (;;) {
          const rows = yield* store.find("push_messages", {
            columns: ["seq", "at"],
            where: { channel: channel.name, seq: { gte: channel.first } },
            orderBy: ["seq", "asc"],
            limit: PAGE
          })
          const fresh = rows.findIndex(({ at }) => at > before)
          const cut = rows[(fresh === -1 ? rows.length : fresh) - 1]
          if (cut !== undefined) {
            yield* journal.step((tx) => {
              channel.first = Math.max(channel.first, cut.seq + 1)
              records.writeChannel(tx, channel)
            })
          }
          const next = rows[fresh]
          if (next !== undefined) return next.at + channel.settings.backlog.ttlMs
          if (rows.length < PAGE) return undefined
        }
      })
    const sweep = (channel: Channel) =>
      Effect.gen(function* () {
        const pinned = yield* pinnedIn(channel)
        for (let after = 0, more = true; more; ) {
          const rows = yield* store.find("push_messages", {
            columns: ["seq"],
            where: { channel: channel.name, seq: { gt: after, lt: channel.first } },
            orderBy: ["seq", "asc"],
            limit: PAGE
          })
          const gone = rows.flatMap(({ seq }) => (pinned.has(seq) ? [] : [seq]))
          if (gone.length > 0) {
            yield* journal.step((tx) =>
              tx.write({ op: "delete", table: "push_messages", where: { channel: channel.name, seq: { in: gone } } })
            )
          }
          after = rows.at(-1)?.seq ?? after
          more = rows.length === PAGE
        }
        channel.swept = channel.first
      })

    /** What a channel keeps beyond its backlog. When there will be more; `undefined`: not before something is published. */
    const prune = (channel: Channel) => Effect.zipLeft(expire(channel), sweep(channel))

    const letters = (now: number) =>
      Effect.gen(function* () {
        const remove = (rows: ReadonlyArray<{ readonly id: string | null }>) => {
          const ids = rows.flatMap(({ id }) => (id === null ? [] : [id]))
          return journal.step((tx) => {
            tx.write({ op: "delete", table: "push_deliveries", where: { id: { in: ids }, state: "dead" } })
            for (const id of ids) records.buried(id)
          })
        }
        for (;;) {
          const rows = yield* store.find("push_deliveries", {
            columns: ["id", "died_at"],
            where: { state: "dead" },
            orderBy: ["id", "asc"],
            limit: PAGE
          })
          const surplus = records.dead() - config.maxDeadLetters
          const old = rows.filter(
            ({ died_at }, i) => i < surplus || (died_at ?? 0) <= now - config.deadLetterDays * DAY
          )
          if (old.length > 0) yield* remove(old)
          if (old.length < PAGE) return
        }
      })
    const subscriptions = (now: number) =>
      Effect.gen(function* () {
        for (const channel of channels.values()) {
          for (const subscription of [...channel.subscriptions.values()]) {
            if (subscription.hearer !== undefined) yield* records.seen(subscription)
            else if (subscription.seenAt <= now - config.subscriptionDays * DAY) yield* records.forget(subscription)
          }
        }
      })
    /** Forgets channels that keep nothing, and whom nobody hears. */
    const empty = Effect.gen(function* () {
      const idle = [...channels.values()].filter((channel) => channel.stored && channel.idle)
      for (const channel of idle) {
        const pinned = yield* pinnedIn(channel)
        yield* journal.step((tx) => {
          if (pinned.size > 0 || !channel.idle || channels.find(channel.name) !== channel) return
          channels.drop(channel)
          tx.write({ op: "delete", table: "push_channels", where: { name: channel.name } })
          tx.write({
            op: "put",
            table: "push_channels",
            row: { name: FLOOR, last_seq: channels.floor, first_seq: channels.floor }
          })
        })
      }
    })
    return {
      prune,
      /** Everything, once in a while. */
      all: Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        yield* subscriptions(now)
        yield* letters(now)
        for (const channel of [...channels.values()]) if (channel.stored) yield* prune(channel)
        yield* empty
        yield* presences.keep(now - config.subscriptionDays * DAY)
      })
    }
  })
export type PushRetention = Effect.Effect.Success<ReturnType<typeof make>>
