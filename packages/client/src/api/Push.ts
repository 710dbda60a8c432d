import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { whole as count, named } from "../internal/Fields.ts"
import { Channel, PushMessage, pushMethods } from "../PushProtocol.ts"
import { Action, Instant, limit, name, number, text, whole } from "./Fields.ts"
import { Conflict, NotFound, Refused, Unavailable, Unprocessable, Unreadable } from "./Problem.ts"

const { "presence.query": presence, "push.ack": ack, "push.nack": nack, "push.publish": publish } = pushMethods

const OfChannel = Schema.Struct({ channel: Schema.compose(name("The channel."), Channel) })
const Done = Schema.Struct({})

const Polled = Schema.Struct({
  messages: Schema.Array(
    Schema.Struct({
      ...PushMessage.fields,
      attempt: Schema.optional(count("By a subscription: how often it was told, this time included."))
    })
  ),
  cursor: count("The next request's `since`."),
  missed: pushMethods["push.history"].result.fields.missed
})

/** The push service, for who cannot hold a socket. */
export const Push = HttpApiGroup.make("push")
  .annotate(OpenApi.Description, "Channels that are published in and heard, for who cannot hold a socket.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("poll", "/push/:channel")
      .annotate(Action, "push.subscribe")
      .annotate(
        OpenApi.Description,
        "The messages after a cursor: at once where there are some, else as soon as one comes, or when the time is over. By a subscription each has to be acknowledged in time, or comes again."
      )
      .setPath(OfChannel)
      .setUrlParams(
        Schema.Struct({
          since: whole(
            0,
            Number.MAX_SAFE_INTEGER,
            "A cursor. Default: now. A `subscription` begins there when it is new."
          ),
          timeout: whole(0, Number.MAX_SAFE_INTEGER, "Milliseconds to wait, `push.maxPollMs` at most. Default: 0."),
          limit: limit(1_000, 100),
          subscription: Schema.optional(named("What the subscription is called."))
        })
      )
      .addSuccess(Polled)
      .addError(NotFound)
      .addError(Unprocessable)
      .addError(Unavailable)
  )
  .add(
    HttpApiEndpoint.post("publish", "/push/:channel")
      .annotate(Action, "push.publish")
      .annotate(OpenApi.Description, publish.about)
      .setPath(OfChannel)
      .setPayload(
        Schema.Struct({
          data: publish.params.fields.data,
          id: Schema.optional(named("The publisher's own id: published twice, it is the same message."))
        }).annotations({ title: "a message" })
      )
      .addSuccess(publish.result)
      .addError(NotFound)
      .addError(Unreadable)
      .addError(Unavailable)
  )
  .add(
    HttpApiEndpoint.post("ack", "/push/:channel/ack")
      .annotate(Action, "push.ack")
      .annotate(OpenApi.Description, ack.about)
      .setPath(OfChannel)
      .setPayload(ack.params.omit("channel").annotations({ title: "an acknowledgement" }))
      .addSuccess(Done)
      .addError(NotFound)
      .addError(Unreadable)
      .addError(Unavailable)
  )
  .add(
    HttpApiEndpoint.post("nack", "/push/:channel/nack")
      .annotate(Action, "push.nack")
      .annotate(OpenApi.Description, nack.about)
      .setPath(OfChannel)
      .setPayload(nack.params.omit("channel").annotations({ title: "a refusal" }))
      .addSuccess(Done)
      .addError(NotFound)
      .addError(Unreadable)
      .addError(Unavailable)
  )
  .add(
    HttpApiEndpoint.get("presence", "/push/:channel/presence")
      .annotate(Action, "presence.query")
      .annotate(OpenApi.Description, presence.about)
      .setPath(OfChannel)
      .addSuccess(presence.result)
      .addError(NotFound)
  )
  .add(
    HttpApiEndpoint.del("forget", "/push/:channel/subscriptions/:subscription")
      .annotate(Action, "push.unsubscribe")
      .annotate(
        OpenApi.Description,
        "What the gateway remembers of a subscription is gone. So is one that there is not."
      )
      .setPath(Schema.Struct({ ...OfChannel.fields, subscription: name("One's own subscription.") }))
      .addSuccess(Done)
      .addError(NotFound)
      .addError(Unavailable)
  )

const DeadLetter = Schema.Struct({
  id: Schema.String,
  channel: Schema.String,
  principal: text("Whose subscription."),
  subscription: Schema.String,
  cursor: number("The message's place in the channel."),
  attempts: number("How often it was told."),
  error: Schema.NullOr(Schema.String),
  diedAt: Instant,
  message: Schema.NullOr(
    Schema.Struct({
      id: Schema.String,
      from: text("Who published it."),
      at: Instant,
      data: PushMessage.fields.data
    })
  )
}).annotations({ identifier: "DeadLetter", description: "A message that a subscriber was told in vain." })

const OfLetter = Schema.Struct({ deadLetterId: name("The dead letter.") })
const Changed = Schema.Struct({ id: Schema.String })

/** What subscribers were told in vain. */
export const DeadLetters = HttpApiGroup.make("deadLetters")
  .annotate(OpenApi.Description, "Messages that subscribers were told in vain.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("list", "/dead-letters")
      .annotate(Action, "push.dead-letters.list")
      .annotate(OpenApi.Description, "Dead letters, in the order they died.")
      .setUrlParams(
        Schema.Struct({
          channel: Schema.optional(Channel),
          after: Schema.optional(named("Only those that died after the one of this id.")),
          limit: limit(1_000, 100)
        })
      )
      .addSuccess(Schema.Struct({ deadLetters: Schema.Array(DeadLetter) }))
      .addError(Unprocessable)
  )
  .add(
    HttpApiEndpoint.post("replay", "/dead-letters/:deadLetterId/replay")
      .annotate(Action, "push.dead-letters.replay")
      .annotate(OpenApi.Description, "Has one told again, with all its attempts.")
      .setPath(OfLetter)
      .addSuccess(Changed)
      .addError(NotFound)
      .addError(Conflict)
  )
  .add(
    HttpApiEndpoint.post("drop", "/dead-letters/:deadLetterId/drop")
      .annotate(Action, "push.dead-letters.drop")
      .annotate(OpenApi.Description, "Gives one up.")
      .setPath(OfLetter)
      .addSuccess(Changed)
      .addError(NotFound)
      .addError(Conflict)
  )
