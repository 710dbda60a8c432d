import { Schema } from "effect"
import { count, described, named, text, whole } from "./internal/Fields.ts"

const LONGEST_CHANNEL = 100
const MOST_CURSORS = 1_000
const MOST_MESSAGES = 1_000

const CHANNEL_RULE = `must be letters, digits and ._:-, ${LONGEST_CHANNEL} at most`
/** The name of a channel. */
export const Channel = Schema.String.pipe(
  Schema.pattern(/^[\w.:-]+$/, { message: () => CHANNEL_RULE }),
  Schema.maxLength(LONGEST_CHANNEL, {
    message: () => CHANNEL_RULE,
    description: "Letters, digits and `._:-`, up to 100."
  })
)
/** What a message says. */
export const Data = Schema.Unknown.pipe(
  Schema.filter((data) => data !== undefined || "is missing", { jsonSchema: {}, description: "Any JSON." })
)
export const Cursors = Schema.NonEmptyArray(Schema.NonNegativeInt).pipe(
  Schema.maxItems(MOST_CURSORS, {
    message: () => `must be ${MOST_CURSORS} cursors at most`,
    description: "The `cursor`s of PUSHes, or of a PUSH_GAP, which that takes note of."
  })
)
const subscription = named("What the subscription is called. Each principal has names of its own.")
const Metadata = Schema.Record({ key: Schema.String, value: Schema.Unknown })
const Limit = count(1, MOST_MESSAGES, "Default: 100.")
const Empty = Schema.Struct({})

/** A message of a channel, as it is read. */
export const PushMessage = Schema.Struct({
  channel: Schema.String,
  cursor: whole("Its place in the channel; 0 where nothing is kept."),
  id: text("Its publisher's: a message that comes again has the same."),
  from: text("The principal who published it."),
  at: text("ISO 8601."),
  data: Data
})
export type PushMessage = typeof PushMessage.Type

const Present = {
  principal: Schema.String,
  since: text("ISO 8601: when the principal came."),
  lastSeen: text("ISO 8601: now, or when the last socket was lost."),
  metadata: Metadata
}
const Missed = described(
  Schema.NullOr(Schema.NonNegativeInt),
  "Messages before these that are not kept; null: nobody knows."
)

/** Who hears a channel. */
export const Presence = Schema.Struct({
  present: Schema.Array(Schema.Struct({ ...Present, online: described(Schema.Boolean, "Whether it has a socket.") })),
  left: described(Schema.Array(Schema.Struct(Present)), "The last 100, latest first.")
})

/** What can be asked of the push service. */
export const pushMethods = {
  "push.publish": {
    about:
      "Tells a channel something. Answered once it is on disk, where the channel keeps it (`at-least-once`); else once it was told.",
    repeatable: true,
    params: Schema.Struct({
      channel: Channel,
      id: named("The publisher's own id of the message: published twice, it is the same message."),
      data: Data
    }),
    result: Schema.Struct({
      cursor: whole("Its place in the channel; 0 where nothing is kept."),
      duplicate: described(Schema.Boolean, "Whether it had been published before.")
    })
  },
  "push.subscribe": {
    about:
      "Hears a channel from here on, as PUSH notifications. With a `subscription`, the gateway remembers how far it has come: what is published while nobody hears waits, and what is not acknowledged in time comes again. Asked again, the last one counts; a `subscription` has one connection, the last to ask.",
    repeatable: true,
    params: Schema.Struct({
      channel: Channel,
      subscription: Schema.optional(subscription),
      since: Schema.optional(
        whole("A cursor: what came after it is told first. A `subscription` begins there when it is new.")
      ),
      metadata: Schema.optional(described(Metadata, "Shown to who looks at the channel's presence.")),
      presence: Schema.optional(
        described(Schema.Boolean, "Also hears who comes and goes, as PRESENCE. Default: false.")
      )
    }),
    result: Schema.Struct({
      cursor: whole("From where on messages are told."),
      created: described(Schema.Boolean, "Whether the `subscription` is new.")
    })
  },
  "push.unsubscribe": {
    about: "Hears a channel no more. With `forget`, what the gateway remembers of the `subscription` is gone.",
    repeatable: true,
    params: Schema.Struct({
      channel: Channel,
      forget: Schema.optional(subscription)
    }),
    result: Empty
  },
  "push.ack": {
    about: "These messages are done with, and do not come again. Answered once that is on disk.",
    repeatable: true,
    params: Schema.Struct({ channel: Channel, subscription, cursors: Cursors }),
    result: Empty
  },
  "push.nack": {
    about:
      "These messages could not be handled: they come again after a while, or, as often as may be, are dead letters.",
    repeatable: true,
    params: Schema.Struct({
      channel: Channel,
      subscription,
      cursors: Cursors,
      requeue: Schema.optional(described(Schema.Boolean, "False: dead letters at once. Default: true.")),
      reason: Schema.optional(named("Why, for who looks at dead letters."))
    }),
    result: Empty
  },
  "push.history": {
    about: "What a channel keeps, oldest first: the messages after `since`, or the last ones.",
    repeatable: true,
    params: Schema.Struct({
      channel: Channel,
      since: Schema.optional(whole("A cursor. Default: the last messages.")),
      limit: Schema.optional(Limit)
    }),
    result: Schema.Struct({
      messages: Schema.Array(PushMessage),
      cursor: whole("For the next page."),
      missed: Missed
    })
  },
  "presence.query": {
    about:
      "Who hears a channel, and who did lately. A connection that has lost its socket is there until it cannot be resumed.",
    repeatable: true,
    params: Schema.Struct({ channel: Channel }),
    result: Presence
  }
} as const

const seq = whole("Its number among this connection's: one more than that of the one before.")

/** What the push service tells. */
export const pushEvents = {
  PUSH: {
    about: "A message of a channel that was subscribed to.",
    params: Schema.Struct({
      seq,
      ...PushMessage.fields,
      attempt: whole("1, unless a subscription is told it again.")
    })
  },
  PUSH_GAP: {
    about: "Messages of a channel are missing here: they are not kept any more.",
    params: Schema.Struct({
      seq,
      channel: Schema.String,
      missed: described(Schema.NullOr(Schema.NonNegativeInt), "How many; null: nobody knows."),
      cursor: whole("Where it ends.")
    })
  },
  PRESENCE: {
    about: "Somebody came to a channel, changed what it says of itself, or left: cannot be resumed any more.",
    params: Schema.Struct({
      seq,
      channel: Schema.String,
      change: Schema.Literal("joined", "updated", "left"),
      ...Present
    })
  }
} as const
