import { Journal, Store } from "@postilion/gateway"
import { Effect } from "effect"
import type { Channel } from "./Channel.ts"
import type { Channels } from "./Channels.ts"

/** Milliseconds in which changes are gathered: what comes and goes together is written together. */
const GATHER = 1_000

export interface PresenceRecordsOptions {
  readonly channels: Channels
  readonly now: () => number
  readonly run: (effect: Effect.Effect<void>) => void
}

/**
 * Keeps who was in which channel, and when they were last seen, over a restart: written within a second of a change, for those
 * who are there once an hour, and for all when the gateway stops.
 */
export const make = ({ channels, now, run }: PresenceRecordsOptions) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const changed = new Set<Channel>()
    let gathering = false

    for (const row of yield* store.find("push_presence", { orderBy: ["seen_at", "asc"] })) {
      channels.open(row.channel)?.presence.restore(row)
    }

    const write = Effect.suspend(() => {
      const gone = channels.takeGone()
      const seen = [...changed].map((channel) => ({ channel, changes: channel.presence.takeChanges(now()) }))
      changed.clear()
      const step = journal.step((tx) => {
        if (gone.length > 0) tx.write({ op: "delete", table: "push_presence", where: { channel: { in: gone } } })
        for (const { changes, channel } of seen) {
          for (const { principal, row } of changes) {
            const key = { channel: channel.name, principal }
            if (row === undefined) tx.write({ op: "delete", table: "push_presence", where: key })
            else tx.write({ op: "put", table: "push_presence", row: { ...key, ...row } })
          }
        }
      })
      const again = Effect.sync(() => {
        channels.giveBackGone(gone)
        for (const { changes, channel } of seen) {
          channel.presence.giveBack(changes.map(({ principal }) => principal))
          changed.add(channel)
        }
      })
      return gone.length === 0 && seen.length === 0 ? Effect.void : Effect.tapError(step, () => again)
    })
    const gather = (): void => {
      if (gathering) return
      gathering = true
      const begun = Effect.sync(() => {
        gathering = false
      })
      run(
        Effect.sleep(GATHER).pipe(
          Effect.zipRight(begun),
          Effect.zipRight(write),
          Effect.catchAll((error) =>
            Effect.zipRight(
              Effect.logWarning("who is present could not be written; trying again", error),
              Effect.sync(gather)
            )
          )
        )
      )
    }
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        for (const channel of channels.values()) if (channel.presence.touch()) changed.add(channel)
        return Effect.ignoreLogged(write)
      })
    )
    return {
      /** Somebody has come to the channel, has gone, or has said something else of themselves. */
      note: (channel: Channel): void => {
        changed.add(channel)
        gather()
      },
      /** Once in a while: when who is there was last seen; and nobody who was before `before` is remembered. */
      keep: (before: number) =>
        Effect.suspend(() => {
          for (const channel of channels.values()) {
            const forgot = channel.presence.forget(before)
            if (channel.presence.touch() || forgot) changed.add(channel)
          }
          return write
        })
    }
  })
export type PresenceRecords = Effect.Effect.Success<ReturnType<typeof make>>
