import { Effect, Mailbox, Random, type Scope, Stream } from "effect"
import { ClientError } from "./ClientError.ts"
import type { Call, Event, Params, Result } from "./Protocol.ts"
import type { PushMessage } from "./PushProtocol.ts"

/** A message that was heard. */
export interface Message extends PushMessage {
  /** 1, unless a subscription is told it again. */
  readonly attempt: number
  /** Messages of the channel before this one, since the last, that never came and are not kept any more; null: nobody knows. */
  readonly missed: number | null
  /** What has to acknowledge it. */
  readonly subscription?: string
}
/** What a message is acknowledged by. */
export type Acknowledged = Pick<Message, "channel" | "cursor" | "subscription">

export interface PublishOptions {
  /** The message's id: the same one is the same message. Default: a new one. */
  readonly id?: string
}
export interface SubscribeOptions {
  /**
   * A name for how far this principal has come: what is published while nobody hears by it waits, and each message has to be
   * acknowledged. Default: none; then it is heard from now on, or from `since`.
   */
  readonly subscription?: string
  /** A cursor to hear from. Default: now. A `subscription` that is not new goes on where it was. */
  readonly since?: number
  /** Shown to who looks at the channel's presence. */
  readonly metadata?: Readonly<Record<string, unknown>>
  /** Whether `events` has who comes and goes, as PRESENCE. Default: false. */
  readonly presence?: boolean
}
export interface NackOptions {
  /** False: a dead letter at once. Default: true, it comes again after a while. */
  readonly requeue?: boolean
  /** Why, for who looks at dead letters. */
  readonly reason?: string
}

export interface Push {
  /** Tells a channel something. Succeeds once the gateway has it on disk, where the channel keeps it. */
  readonly publish: (
    channel: string,
    data: unknown,
    options?: PublishOptions
  ) => Effect.Effect<Result<"push.publish">, ClientError>
  /**
   * The messages of a channel, over all reconnects. By a `subscription` each is acknowledged when the next one is asked for, unless
   * `ack` or `nack` was called with it; the last one before the stream is left comes again. A client hears a channel once at a time.
   */
  readonly subscribe: (channel: string, options?: SubscribeOptions) => Stream.Stream<Message, ClientError>
  /** It is done with. Does nothing for one that came without a subscription. */
  readonly ack: (message: Acknowledged) => Effect.Effect<void, ClientError>
  /** It could not be handled. */
  readonly nack: (message: Acknowledged, options?: NackOptions) => Effect.Effect<void, ClientError>
  /** What the channel keeps: the messages after `since`, or the last ones. */
  readonly history: (
    channel: string,
    options?: { readonly since?: number; readonly limit?: number }
  ) => Effect.Effect<Result<"push.history">, ClientError>
  /** Who hears the channel, and who did lately. */
  readonly presence: (channel: string) => Effect.Effect<Result<"presence.query">, ClientError>
}

export interface PushClient {
  /** Has the gateway know that the channel is not heard any more, without waiting for it. */
  readonly leave: (channel: string) => void
  readonly request: <M extends Call>(method: M, params: Params<M>) => Effect.Effect<Result<M>, ClientError>
  /** The events that are wanted, from now on. */
  readonly listen: (
    wants: (event: Event) => boolean
  ) => Effect.Effect<{ readonly mailbox: Mailbox.ReadonlyMailbox<Event, ClientError> }, never, Scope.Scope>
}

/** How many have not come before this one: null wins, since then nobody knows. */
const plus = (a: number | null, b: number | null): number | null => (a === null || b === null ? null : a + b)

export const newId: Effect.Effect<string> = Effect.map(
  Effect.all([Random.nextIntBetween(0, 2 ** 48), Random.nextIntBetween(0, 2 ** 48)]),
  (parts) => parts.join("-")
)

export const make = ({ leave, listen, request }: PushClient): Push => {
  /** Those that `ack` or `nack` was called with. */
  const answered = new WeakSet<Acknowledged>()
  const heard = new Set<string>()

  const ack: Push["ack"] = (message) => {
    answered.add(message)
    const { channel, cursor, subscription } = message
    if (subscription === undefined) return Effect.void
    return Effect.asVoid(request("push.ack", { channel, subscription, cursors: [cursor] }))
  }
  const hear = Effect.fnUntraced(function* (channel: string, options: SubscribeOptions) {
    yield* Effect.acquireRelease(
      Effect.suspend(() => {
        if (!heard.has(channel)) return Effect.succeed(heard.add(channel))
        const message = `this client hears "${channel}" already`
        return new ClientError({ code: "conflict", message, nextStep: "end the other loop, or connect another client" })
      }),
      () => Effect.sync(() => heard.delete(channel))
    )
    const { mailbox } = yield* listen(
      (event) => event.type === "GAP" || ("channel" in event && event.channel === channel)
    )
    const { cursor } = yield* request("push.subscribe", { channel, ...options })
    yield* Effect.addFinalizer(() => Effect.sync(() => leave(channel)))
    return { mailbox, cursor }
  })
  const subscribe: Push["subscribe"] = (channel, options = {}) => {
    const { subscription } = options
    return Stream.unwrapScoped(
      Effect.map(hear(channel, options), ({ cursor, mailbox }) => {
        let last = cursor
        let missed: number | null = 0
        let gap = false
        const messageOf = ({ seq: _, type: __, ...push }: Extract<Event, { readonly type: "PUSH" }>): Message => {
          // Without a subscription each one follows on the last.
          if (subscription === undefined && push.cursor > 0) missed = plus(missed, push.cursor - last - 1)
          // Where nothing is kept, nobody can tell what of it was this channel's.
          if (push.cursor === 0 && gap) missed = null
          gap = false
          last = push.cursor
          const message = { ...push, missed, ...(subscription === undefined ? {} : { subscription }) }
          missed = 0
          return message
        }
        const told = (event: Event): Stream.Stream<Message, ClientError> => {
          if (event.type === "PUSH") {
            const message = messageOf(event)
            const settle = Effect.suspend(() => (answered.has(message) ? Effect.void : ack(message)))
            return Stream.concat(Stream.make(message), Stream.execute(settle))
          }
          if (event.type === "PUSH_GAP") {
            missed = subscription === undefined && event.missed !== null ? missed : plus(missed, event.missed)
            if (event.missed === null) last = event.cursor
            // Noted, so that it is not told again.
            else if (subscription !== undefined) return Stream.execute(ack({ ...event, subscription }))
          }
          if (event.type === "ERROR") {
            const { code: _, message, nextStep } = event
            return Stream.fail(new ClientError({ code: "conflict", message, nextStep }))
          }
          if (event.type === "GAP") gap = true
          return Stream.empty
        }
        return Stream.flatMap(Mailbox.toStream(mailbox), told)
      })
    )
  }
  return {
    ack,
    subscribe,
    nack: (message, options) => {
      answered.add(message)
      const { channel, cursor, subscription } = message
      if (subscription === undefined) return Effect.void
      return Effect.asVoid(request("push.nack", { channel, subscription, cursors: [cursor], ...options }))
    },
    publish: (channel, data, { id } = {}) =>
      Effect.gen(function* () {
        return yield* request("push.publish", { channel, id: id ?? (yield* newId), data })
      }),
    history: (channel, options) => request("push.history", { channel, ...options }),
    presence: (channel) => request("presence.query", { channel })
  }
}
