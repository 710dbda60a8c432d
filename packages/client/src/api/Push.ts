import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Channel, Cursors, Data, Presence, PushMessage } from "../PushProtocol.ts"
import { Action, described, Instant, limit, MaybeText, maybe, name, number, text, whole } from "./Fields.ts"
import { Conflict, NotFound, Refused, Unprocessable, Unreadable } from "./Problem.ts"

const ChannelName = Schema.Struct({ channel: Schema.compose(name("The channel."), Channel) })
const Name = Schema.NonEmptyString.pipe(Schema.maxLength(256))
const Subscription = described(Name, "What the subscription is called. Each principal has names of its own.")
const Done = Schema.Struct({})

/** Channels that are published in and heard, for who cannot hold a socket. */
export const Push = HttpApiGroup.make("push")
  .annotate(OpenApi.Description, "Channels that are published in and heard, for who cannot hold a socket.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.post("publish", "/push/:channel")
      .annotate(Action, "push.publish")
      .annotate(
        OpenApi.Description,
        "Tells a channel something. Answered once it is on disk, where the channel keeps it."
      )
      .setPath(ChannelName)
      .setPayload(
        Schema.Struct({
          data: Data,
          id: maybe(described(Name, "The publisher's own id of the message: published twice, it is the same message."))
        }).annotations({ title: "a message" })
      )
      .addSuccess(
        Schema.Struct({
          cursor: number("Its place in the channel; 0 where nothing is kept."),
          duplicate: described(Schema.Boolean, "Whether it had been published before.")
        })
      )
      .addError(NotFound)
      .addError(Unreadable)
  )
  .add(
    HttpApiEndpoint.get("poll", "/push/:channel")
      .annotate(Action, "push.subscribe")
      .annotate(
        OpenApi.Description,
        "The messages after a cursor: at once where there are some, else as soon as there are, or after `timeout` milliseconds. With a `subscription` each has to be acknowledged, or comes again."
      )
      .setPath(ChannelName)
      .setUrlParams(
        Schema.Struct({
          since: whole(0, Number.MAX_SAFE_INTEGER, "A cursor. Default: from now on."),
          timeout: whole(0, Number.MAX_SAFE_INTEGER, "Milliseconds to wait, up to `push.maxPollMs`."),
          limit: limit(1_000, 100),
          subscription: Schema.optional(Subscription)
        })
      )
      .addSuccess(
        Schema.Struct({
          messages: Schema.Array(
            Schema.Struct({
              ...PushMessage.fields,
              attempt: maybe(number("With a `subscription`: 1, unless it is told again."))
            })
          ),
          cursor: number("For the next request."),
          missed: Schema.NullOr(Schema.Number).annotations({
            description: "Messages before these that are not kept; null: nobody knows."
          })
        })
      )
      .addError(NotFound)
      .addError(Unprocessable)
  )
  .add(
    HttpApiEndpoint.post("ack", "/push/:channel/ack")
      .annotate(Action, "push.ack")
      .annotate(OpenApi.Description, "These messages are done with, and do not come again.")
      .setPath(ChannelName)
      .setPayload(Schema.Struct({ subscription: Subscription, cursors: Cursors }).annotations({ title: "an ack" }))
      .addSuccess(Done)
      .addError(NotFound)
      .addError(Unreadable)
  )
  .add(
    HttpApiEndpoint.post("nack", "/push/:channel/nack")
      .annotate(Action, "push.nack")
      .annotate(OpenApi.Description, "These messages could not be handled: they come again, or are dead letters.")
      .setPath(ChannelName)
      .setPayload(
        Schema.Struct({
          subscription: Subscription,
          cursors: Cursors,
          requeue: maybe(described(Schema.Boolean, "False: dead letters at once. Default: true.")),
          reason: maybe(described(Name, "Why, for who looks at dead letters."))
        }).annotations({ title: "a nack" })
      )
      .addSuccess(Done)
      .addError(NotFound)
      .addError(Unreadable)
  )
  .add(
    HttpApiEndpoint.get("presence", "/push/:channel/presence")
      .annotate(Action, "presence.query")
      .annotate(OpenApi.Description, "Who hears a channel, and who did lately.")
      .setPath(ChannelName)
      .addSuccess(Presence)
      .addError(NotFound)
  )
  .add(
    HttpApiEndpoint.del("forget", "/push/:channel/subscriptions/:subscription")
      .annotate(Action, "push.unsubscribe")
      .annotate(OpenApi.Description, "Forgets how far a subscription has come; one that is not there is forgotten.")
      .setPath(Schema.Struct({ ...ChannelName.fields, subscription: name("The subscription.") }))
      .addSuccess(Done)
      .addError(NotFound)
  )

const LetterId = Schema.Struct({ letterId: name("The dead letter.") })
export const DeadLetter = Schema.Struct({
  id: Schema.String,
  channel: Schema.String,
  principal: text("Whose subscription it is."),
  subscription: Schema.String,
  cursor: number("The message's place in the channel."),
  attempts: number("How often it was told."),
  error: Schema.NullOr(Schema.String),
  diedAt: Instant,
  message: Schema.NullOr(
    Schema.Struct({ id: Schema.String, from: Schema.String, at: Instant, data: Schema.Unknown })
  ).annotations({ description: "Null: it is not kept any more." })
}).annotations({ identifier: "DeadLetter" })

/** What subscribers were told in vain. */
export const DeadLetters = HttpApiGroup.make("deadLetters")
  .annotate(
    OpenApi.Description,
    "What subscribers of channels were told in vain. Of answers that were, see deliveries."
  )
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("list", "/dead-letters")
      .annotate(Action, "push.dead-letters.list")
      .annotate(OpenApi.Description, "Dead letters, in the order they died.")
      .setUrlParams(Schema.Struct({ channel: MaybeText, after: MaybeText, limit: limit(1_000, 100) }))
      .addSuccess(Schema.Struct({ deadLetters: Schema.Array(DeadLetter) }))
      .addError(NotFound)
      .addError(Unprocessable)
  )
  .add(
    HttpApiEndpoint.post("replay", "/dead-letters/:letterId/replay")
      .annotate(Action, "push.dead-letters.replay")
      .annotate(OpenApi.Description, "Has one told again.")
      .setPath(LetterId)
      .addSuccess(Schema.Struct({ id: Schema.String }))
      .addError(NotFound)
      .addError(Conflict)
  )
  .add(
    HttpApiEndpoint.post("drop", "/dead-letters/:letterId/drop")
      .annotate(Action, "push.dead-letters.drop")
      .annotate(OpenApi.Description, "Gives one up.")
      .setPath(LetterId)
      .addSuccess(Schema.Struct({ id: Schema.String }))
      .addError(NotFound)
      .addError(Conflict)
  )
