import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { ReplyRoute } from "@postilion/gateway/domain/Delivery"
import { Explanation } from "@postilion/gateway/domain/Explanation"
import { EventPriority, EventSource, EventState } from "@postilion/gateway/domain/GatewayEvent"
import { Schema } from "effect"
import * as Fields from "./Fields.ts"
import { Conflict, NotFound, Refused, Unprocessable, Unreadable } from "./Problem.ts"
import { Action, EventRecord, EventSummary } from "./Runs.ts"

const EventId = Schema.Struct({ eventId: Fields.name("The event.") })

export const Filter = Schema.Struct({
  state: Schema.optional(EventState),
  source: Schema.optional(EventSource),
  agentId: Schema.optional(Schema.String),
  from: Fields.instant("Only events that came at or after this instant."),
  to: Fields.instant("Only events that came before this instant."),
  cursor: Schema.optional(Fields.text("`next` of the page before.")),
  limit: Fields.limit(1_000, 100)
})

/** What a program tells the gateway. Who says it is who holds the token. */
export const NewEvent = Schema.Struct({
  payload: Schema.Unknown,
  agentId: Fields.maybe(Fields.text("Default: the gateway's first agent.")),
  priority: Fields.maybe(Fields.described(EventPriority, "Default: `normal`.")),
  metadata: Fields.maybe(Fields.Members),
  timestamp: Fields.instant("When it happened. Default: now."),
  traceId: Fields.MaybeText,
  sessionKey: Fields.maybe(Fields.text("Events of one session run one after the other. Default: none.")),
  replyTo: Fields.maybe(ReplyRoute),
  idempotencyKey: Fields.maybe(
    Schema.NonEmptyString.pipe(Schema.maxLength(256)).annotations({
      description:
        "Sent again with the same key, it is the same event: answered with the first one's id, and not judged again."
    })
  )
}).annotations({ title: "an event" })

/** What came, and what became of it. */
export const Events = HttpApiGroup.make("events")
  .annotate(OpenApi.Description, "What came, and what became of it.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("list", "/events")
      .annotate(Fields.Action, "events.show")
      .annotate(OpenApi.Description, "Events, newest first.")
      .setUrlParams(Filter)
      .addSuccess(Schema.Struct({ events: Schema.Array(EventSummary), next: Fields.next }))
      .addError(Unprocessable)
  )
  .add(
    HttpApiEndpoint.post("submit", "/events")
      .annotate(Fields.Action, "events.submit")
      .annotate(
        OpenApi.Description,
        "Hands in an event of the source `state-change`. Answered once it is on disk, with what was decided where the policies answered at once."
      )
      .setPayload(NewEvent)
      .addSuccess(
        Schema.Struct({ eventId: Schema.String, duplicate: Schema.Boolean, decision: Schema.NullOr(Action) }),
        { status: 202 }
      )
      .addError(Unreadable)
      .addError(Conflict)
  )
  .add(
    HttpApiEndpoint.get("show", "/events/:eventId")
      .annotate(Fields.Action, "events.own")
      .annotate(
        OpenApi.Description,
        "Everything recorded of an event. Who may not see every event sees those of what they said themselves."
      )
      .setPath(EventId)
      .addSuccess(EventRecord)
      .addError(NotFound)
  )
  .add(
    HttpApiEndpoint.get("explain", "/events/:eventId/explain")
      .annotate(Fields.Action, "events.explain")
      .annotate(OpenApi.Description, "Why it went so, decision by decision. With `Accept: text/plain` as text to read.")
      .annotate(OpenApi.Transform, (operation) => ({
        ...operation,
        responses: {
          ...operation.responses,
          200: {
            ...operation.responses[200],
            content: { ...operation.responses[200].content, "text/plain": { schema: { type: "string" } } }
          }
        }
      }))
      .setPath(EventId)
      .addSuccess(Explanation)
      .addError(NotFound)
  )
