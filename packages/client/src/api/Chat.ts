import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Action, text } from "./Fields.ts"
import { Conflict, Refused, Unreadable } from "./Problem.ts"
import { Action as Decision } from "./Runs.ts"

const LONGEST_CHAT_ID = 256

/** Nothing but what is said. Who says it is who holds the token, so one that names a sender is refused. */
export const Message = Schema.Struct({
  text: Schema.NonEmptyString,
  chatId: Schema.optionalWith(
    Schema.NonEmptyString.pipe(Schema.maxLength(LONGEST_CHAT_ID)).annotations({
      description: "Keeps conversations apart. Default: `default`."
    }),
    { default: () => "default" }
  ),
  replyTo: Schema.optional(
    Schema.NonEmptyString.annotations({ description: "A callback the answer is also sent to, by its name." })
  )
}).annotations({ title: "a message" })

const said = {
  eventId: Schema.String,
  decision: Schema.NullOr(Decision),
  policy: Schema.NullOr(Schema.String),
  reason: Schema.NullOr(Schema.String),
  reply: Schema.NullOr(text("Null: a policy kept it from the agent, or it waits."))
}
export const Said = Schema.Struct(said).annotations({ description: "What the agent answered." })
const Held = Schema.Struct(said).annotations({
  ...HttpApiSchema.annotations({ status: 202 }),
  description: "Nobody answers now: it waits for its time or a person. `Location` is where it can be followed."
})

/** To talk to an agent. */
export const Chat = HttpApiGroup.make("chat")
  .annotate(OpenApi.Description, "To talk to an agent.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.post("say", "/chat")
      .annotate(Action, "session.send")
      .annotate(OpenApi.Description, "Says something, and waits for the answer.")
      .setPayload(Message)
      .addSuccess(Said)
      .addSuccess(Held)
      .addError(Conflict)
      .addError(Unreadable)
  )
