import type { Params } from "@postilion/client/Protocol"
import { GatewayError } from "@postilion/gateway"
import { Effect } from "effect"
import { type Connection, errorFrame, frameOf } from "../socket/Connection.ts"
import { Refusal } from "../socket/Refusal.ts"
import type { Channel, Hearer, Receiver } from "./Channel.ts"
import { Durable, Live, Tail } from "./Hearers.ts"
import { type Core, keepsNothing } from "./Push.ts"
import type { Subscription } from "./Subscription.ts"

interface Attached {
  readonly channel: Channel
  readonly hearer: Hearer
}

/** The channels that connections hear. */
export const make = ({ admit, around, channels, config, counts, enter, presences, records }: Core) => {
  const attached = new Map<Connection, Map<string, Attached>>()
  /** Those that are gone, and whose requests may still be under way. */
  const gone = new WeakSet<Connection>()
  /** When those without a socket lost it. */
  const lost = new WeakMap<Connection, number>()

  const receiverOf = (connection: Connection, channel: string): Receiver => ({
    get ready() {
      return connection.ready
    },
    get away() {
      return connection.socket === undefined
    },
    message: (message, attempt) => {
      counts.told += 1
      connection.tell(message.frame(attempt))
    },
    gap: (gap) => connection.tell(frameOf("PUSH_GAP", { channel, ...gap })),
    replaced: () => {
      leave(connection, channel)
      connection.tell(
        errorFrame(
          "conflict",
          `this connection does not hear "${channel}" any more: its subscription was taken over, or forgotten`,
          { channel }
        )
      )
    }
  })
  const detach = (connection: Connection, { channel, hearer }: Attached): void => {
    channel.hearers.delete(hearer)
    if (!(hearer instanceof Durable) || hearer.subscription.hearer !== hearer) return
    const { subscription } = hearer
    subscription.hearer = undefined
    subscription.release()
    around.run(
      Effect.catchAll(records.seen(subscription), (error) =>
        Effect.logWarning(`when ${connection.principal.name} was last seen could not be written`, error)
      )
    )
  }
  const leave = (connection: Connection, name: string): void => {
    const own = attached.get(connection)
    const known = own?.get(name)
    if (own === undefined || known === undefined) return
    own.delete(name)
    if (own.size === 0) attached.delete(connection)
    detach(connection, known)
    known.channel.presence.leave(connection, lost.get(connection) ?? around.now())
    presences.note(known.channel)
  }
  const each = (connection: Connection, see: (attached: Attached) => void): void => {
    for (const one of attached.get(connection)?.values() ?? []) see(one)
  }
  const attach = (connection: Connection, channel: Channel, hearer: Hearer): void => {
    const own = attached.get(connection) ?? new Map<string, Attached>()
    attached.set(connection, own)
    const before = own.get(channel.name)
    if (before !== undefined) detach(connection, before)
    own.set(channel.name, { channel, hearer })
    channel.hearers.add(hearer)
    // After the answer to who asked.
    around.run(
      Effect.zipRight(
        Effect.yieldNow(),
        Effect.sync(() => hearer.wake())
      )
    )
  }
  /** Has the subscription heard by this connection, and by nobody else. */
  const take = (connection: Connection, subscription: Subscription): void => {
    const before = attached.get(connection)?.get(subscription.channel.name)
    // Asked for again, what it was told and has not acknowledged comes again too.
    if (before !== undefined) detach(connection, before)
    subscription.hearer?.receiver.replaced()
    const hearer = new Durable(subscription, around, receiverOf(connection, subscription.channel.name))
    subscription.hearer = hearer
    around.schedule(subscription)
    attach(connection, subscription.channel, hearer)
  }

  return {
    subscribe: (connection: Connection, params: Params<"push.subscribe">) =>
      Effect.gen(function* () {
        const { channel: name, metadata, presence = false, since, subscription } = params
        const settings = yield* admit(connection.principal, name, "subscribe")
        const bytes = Buffer.byteLength(JSON.stringify(metadata ?? {}))
        if (bytes > config.maxMetadataBytes) {
          const message = `metadata may have ${config.maxMetadataBytes} bytes of JSON (push.maxMetadataBytes), this has ${bytes}`
          return yield* new GatewayError({ reason: "invalid-input", message })
        }
        const own = attached.get(connection)
        const hears = own?.has(name) === true
        if (!hears && (own?.size ?? 0) >= config.maxSubscriptions) {
          const message = `a connection may hear ${config.maxSubscriptions} channels (push.maxSubscriptions)`
          return yield* new Refusal({ code: "too-many-subscriptions", message })
        }
        if (subscription !== undefined && settings.guarantee === "at-most-once") return yield* keepsNothing(name)
        if (!hears) yield* enter(name)
        const made =
          subscription !== undefined
            ? yield* records.subscribe(name, connection.principal.name, subscription, since)
            : null
        if (made === undefined) {
          const message = `"${name}" has ${settings.maxSubscribers} subscriptions, as many as may be (maxSubscribers)`
          return yield* new GatewayError({ reason: "overloaded", message })
        }
        if (gone.has(connection)) return { cursor: 0, created: false }
        const channel = made?.subscription.channel ?? channels.find(name) ?? (yield* enter(name))
        if (made !== null) take(connection, made.subscription)
        else {
          const receiver = receiverOf(connection, name)
          attach(connection, channel, channel.keeps ? new Tail(channel, around, receiver, since) : new Live(receiver))
          if (!channel.keeps && since !== undefined && since > 0) receiver.gap({ missed: null, cursor: 0 })
        }
        channel.presence.join(connection, metadata, around.now())
        presences.note(channel)
        channel.presence.watch(connection, presence)
        const from = made?.subscription.acked ?? Math.min(since ?? channel.last, channel.last)
        return { cursor: channel.keeps ? from : 0, created: made?.created === true }
      }),
    unsubscribe: leave,
    /** It can be told more. */
    drained: (connection: Connection): void => each(connection, ({ hearer }) => hearer.wake()),
    /** It has lost its socket. */
    detached: (connection: Connection): void => {
      lost.set(connection, around.now())
      each(connection, ({ channel }) => {
        channel.presence.lost(connection, around.now())
        presences.note(channel)
      })
    },
    /** It has another socket. */
    resumed: (connection: Connection): void => {
      lost.delete(connection)
      each(connection, ({ hearer }) => (hearer instanceof Durable ? hearer.back() : hearer.wake()))
    },
    /** It does not come back. */
    dropped: (connection: Connection): void => {
      gone.add(connection)
      for (const name of [...(attached.get(connection)?.keys() ?? [])]) leave(connection, name)
    }
  }
}
export type SocketHearers = ReturnType<typeof make>
