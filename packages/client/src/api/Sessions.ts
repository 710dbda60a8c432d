import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Action, Instant, Lines, limit, MaybeText, name, next, number, text, whole } from "./Fields.ts"
import { Conflict, NotFound, Refused, Unprocessable, Unreadable } from "./Problem.ts"

const SessionKey = Schema.Struct({ key: name("The session's key.") })

export const Session = Schema.Struct({
  key: Schema.String,
  agentId: Schema.String,
  updatedAt: Instant
}).annotations({ identifier: "Session" })

const said = {
  role: Schema.Literal("user", "assistant"),
  content: Schema.String,
  at: Instant,
  sender: MaybeText,
  eventId: MaybeText
}
export const Turn = Schema.Struct({ seq: number("Grows from turn to turn."), ...said }).annotations({
  identifier: "Turn"
})

/** A line of an export: a session, or a turn of the session of the line before it. */
export const SessionLine = Schema.Union(
  Schema.Struct({ session: Session }),
  Schema.Struct({ turn: Schema.Struct(said) })
).annotations({
  identifier: "SessionLine",
  description: "A line of an export: a session, or a turn of the session above it."
})
export type SessionLine = typeof SessionLine.Type

/** Conversations. */
export const Sessions = HttpApiGroup.make("sessions")
  .annotate(OpenApi.Description, "Conversations.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("list", "/sessions")
      .annotate(Action, "sessions.read")
      .annotate(OpenApi.Description, "Sessions, the one last used first.")
      .setUrlParams(
        Schema.Struct({ cursor: Schema.optional(text("`next` of the page before.")), limit: limit(1_000, 100) })
      )
      .addSuccess(Schema.Struct({ sessions: Schema.Array(Session), next }))
      .addError(Unprocessable)
  )
  .add(
    HttpApiEndpoint.get("export", "/sessions/export")
      .annotate(Action, "sessions.read")
      .annotate(
        OpenApi.Description,
        "Every session with all its turns. Each line is a `SessionLine`: a session, then its turns, oldest first."
      )
      .addSuccess(Lines)
  )
  .add(
    HttpApiEndpoint.post("import", "/sessions/import")
      .annotate(Action, "sessions.change")
      .annotate(
        OpenApi.Description,
        "Adds sessions as they were exported: all of them, or, where a line is wrong, none. The refusal has the `line`. At most 16 MiB at a time; `maxBodyBytes`, where that is more."
      )
      .setUrlParams(
        Schema.Struct({
          existing: Schema.optional(
            Schema.Literal("refuse", "replace").annotations({
              description:
                "What becomes of a session that is there already. Default: `refuse`, and nothing is imported."
            })
          )
        })
      )
      .setPayload(HttpApiSchema.Text({ contentType: "application/jsonl" }))
      .addSuccess(Schema.Struct({ sessions: Schema.Number, turns: Schema.Number }))
      .addError(Conflict)
      .addError(Unreadable)
  )
  .add(
    HttpApiEndpoint.get("show", "/sessions/:key")
      .annotate(Action, "sessions.read")
      .annotate(OpenApi.Description, "A session and its last turns, oldest first.")
      .setPath(SessionKey)
      .setUrlParams(
        Schema.Struct({
          before: whole(
            0,
            Number.MAX_SAFE_INTEGER,
            "Only turns before this `seq`: the first one's of the page before."
          ),
          limit: limit(1_000, 100)
        })
      )
      .addSuccess(Schema.Struct({ session: Session, turns: Schema.Array(Turn) }))
      .addError(NotFound)
      .addError(Unprocessable)
  )
  .add(
    HttpApiEndpoint.del("remove", "/sessions/:key")
      .annotate(Action, "sessions.change")
      .annotate(
        OpenApi.Description,
        "Removes a session and its turns. A run under way in it goes on, and begins it anew."
      )
      .setPath(SessionKey)
      .addSuccess(Schema.Struct({ removed: Schema.String }))
      .addError(NotFound)
  )
