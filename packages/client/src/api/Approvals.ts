import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Action, BodyIsOptional, name, text } from "./Fields.ts"
import { Conflict, NotFound, Refused, Unreadable } from "./Problem.ts"
import { Approval } from "./Runs.ts"

const ApprovalId = Schema.Struct({ approvalId: name("The approval.") })
const { approvers, digest, id, state, votes } = Approval.fields
const Answered = Schema.Struct({ id, state, by: text("Who answered now."), digest, approvers, votes }).annotations({
  identifier: "AnsweredApproval"
})

/** Who answers, and what was approved, is for the gateway to say: nothing else can be sent along. */
const Yes = Schema.Struct({
  digest: Schema.optional(
    Schema.String.pipe(
      Schema.pattern(/^[0-9a-f]{64}$/, {
        message: () => "must be the approval's digest, 64 hexadecimal digits",
        description: "Of what was shown: nothing else is approved. Default: of what the approval shows."
      })
    )
  )
}).annotations({ title: "an approval's answer" })
const No = Schema.Record({ key: Schema.String, value: Schema.Unknown }).pipe(
  Schema.filter((body) => Object.keys(body).length === 0 || `leave out ${Object.keys(body).join(", ")}`, {
    title: "a denial",
    jsonSchema: { maxProperties: 0 }
  })
)

/** What waits for a person, and what persons answer. */
export const Approvals = HttpApiGroup.make("approvals")
  .annotate(OpenApi.Description, "What waits for a person, and what persons answer.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("list", "/approvals")
      .annotate(Action, "approvals.list")
      .annotate(
        OpenApi.Description,
        "What waits for a person, oldest first, at most 1,000, each with all of what would run."
      )
      .addSuccess(Schema.Struct({ approvals: Schema.Array(Approval) }))
  )
  .add(
    HttpApiEndpoint.get("show", "/approvals/:approvalId")
      .annotate(Action, "approvals.list")
      .annotate(OpenApi.Description, "An approval, also one that has been decided.")
      .setPath(ApprovalId)
      .addSuccess(Approval)
      .addError(NotFound)
  )
  .add(
    HttpApiEndpoint.post("approve", "/approvals/:approvalId/approve")
      .annotate(Action, "approvals.approve")
      .annotate(BodyIsOptional, true)
      .annotate(OpenApi.Description, "Says yes. `state` stays `pending` until enough persons have.")
      .setPath(ApprovalId)
      .setPayload(Yes)
      .addSuccess(Answered)
      .addError(NotFound)
      .addError(Conflict)
      .addError(Unreadable)
  )
  .add(
    HttpApiEndpoint.post("deny", "/approvals/:approvalId/deny")
      .annotate(Action, "approvals.deny")
      .annotate(BodyIsOptional, true)
      .annotate(OpenApi.Description, "Says no: one is enough, and the event never runs.")
      .setPath(ApprovalId)
      .setPayload(No)
      .addSuccess(Answered)
      .addError(NotFound)
      .addError(Conflict)
      .addError(Unreadable)
  )
