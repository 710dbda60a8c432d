import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Action, Instant, name, number } from "./Fields.ts"
import { NotFound, Refused } from "./Problem.ts"
import { Action as Decision } from "./Runs.ts"

const Live = Schema.Struct({ policy: Schema.String, priority: Schema.Number }).annotations({ identifier: "Policy" })
const Shadow = Schema.Struct({
  policy: Schema.String,
  priority: Schema.Number,
  since: Instant,
  agreed: number("Decisions that would have been the same with it in place."),
  differed: Schema.Number,
  late: number("Decisions it could not say anything about at once."),
  changes: Schema.Array(Schema.Struct({ from: Decision, to: Decision, count: Schema.Number })).annotations({
    description: "The decisions that differ: what was decided, and what would have been."
  })
}).annotations({ identifier: "ShadowPolicy" })

/** What decides. */
export const Policies = HttpApiGroup.make("policies")
  .annotate(OpenApi.Description, "What decides, and what is only asked.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("list", "/policies")
      .annotate(Action, "policies.list")
      .annotate(OpenApi.Description, "The policies in the order they are asked, and how each shadow has done.")
      .addSuccess(Schema.Struct({ policies: Schema.Array(Live), shadows: Schema.Array(Shadow) }))
  )
  .add(
    HttpApiEndpoint.post("promote", "/policies/:policy/promote")
      .annotate(Action, "policies.change")
      .annotate(
        OpenApi.Description,
        "Makes a shadow decide, in place of the live policy of its name. Until the next start, which has what is configured; or until the file says something else of this policy."
      )
      .setPath(Schema.Struct({ policy: name("The shadow's name.") }))
      .addSuccess(Schema.Struct({ policies: Schema.Array(Live) }))
      .addError(NotFound)
  )
