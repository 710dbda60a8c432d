import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { ReplyRoute } from "@postilion/gateway/domain/Delivery"
import { EventPriority } from "@postilion/gateway/domain/GatewayEvent"
import { JobRules, jobRules } from "@postilion/gateway/domain/Job"
import { Schedule } from "@postilion/gateway/domain/Schedule"
import { Schema } from "effect"
import { Action, Instant, instant, limit, MaybeInstant, MaybeText, maybe, name, number, text } from "./Fields.ts"
import { NotFound, Refused, Unprocessable, Unreadable } from "./Problem.ts"
import { Action as Decision } from "./Runs.ts"

const JobId = Schema.Struct({ jobId: name("The job.") })

const rules = Schema.typeSchema(JobRules)
const common = Schema.Struct({
  id: Schema.String,
  name: Schema.String,
  source: Schema.Literal("heartbeat", "cron"),
  schedule: Schedule,
  agentId: Schema.String,
  instruction: Schema.String,
  priority: EventPriority,
  enabled: Schema.Boolean,
  deleteAfterRun: Schema.Boolean,
  lastAt: MaybeInstant,
  nextAt: MaybeInstant,
  delayMs: number("By how much each of its instants is put off: its own part of `jitterMs`."),
  deliverTo: maybe(ReplyRoute),
  failures: number("Runs that have failed since the last one that did not."),
  disabledFor: maybe(text("The event after whose failure it was disabled, until it is enabled."))
})
export const Job = Schema.extend(common, rules).annotations({ identifier: "Job" })

const next = Schema.Array(Instant).annotations({
  description: "The next five instants; fewer where there are no more."
})

export const Slot = Schema.Struct({
  at: Instant,
  until: Instant,
  count: maybe(number("Of instants on end that were skipped for the same reason; none: too many to count.")),
  state: Schema.Literal("running", "ran", "caught-up", "skipped", "abandoned"),
  reason: MaybeText,
  eventId: MaybeText,
  startedAt: MaybeInstant,
  endedAt: MaybeInstant
}).annotations({ identifier: "Slot", description: "What became of an instant at which a job was due." })

export const NewJob = Schema.Struct({
  name: Schema.NonEmptyString,
  schedule: Schedule,
  instruction: text("Up to 8,000 characters."),
  agentId: maybe(text("Default: the gateway's first agent.")),
  priority: maybe(EventPriority),
  enabled: maybe(Schema.Boolean),
  deleteAfterRun: maybe(
    Schema.Boolean.annotations({ description: "Remove it once it has made an event. Default: `true` for `at`." })
  ),
  deliverTo: maybe(ReplyRoute),
  ...jobRules
}).annotations({ title: "a job" })

/** What is due now and then. */
export const Jobs = HttpApiGroup.make("jobs")
  .annotate(OpenApi.Description, "What is due now and then, and makes an event each time.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("list", "/jobs")
      .annotate(Action, "jobs.list")
      .annotate(OpenApi.Description, "All jobs, by when they are next due.")
      .addSuccess(Schema.Struct({ jobs: Schema.Array(Job) }))
  )
  .add(
    HttpApiEndpoint.post("add", "/jobs")
      .annotate(Action, "jobs.change")
      .annotate(OpenApi.Description, "Adds a job.")
      .setPayload(NewJob)
      .addSuccess(Schema.Struct({ job: Job, next }), { status: 201 })
      .addError(Unreadable)
  )
  .add(
    HttpApiEndpoint.get("show", "/jobs/:jobId")
      .annotate(Action, "jobs.list")
      .annotate(OpenApi.Description, "A job, when it is due, and what became of its last instants, the last one first.")
      .setPath(JobId)
      .setUrlParams(
        Schema.Struct({
          before: instant("Only instants before this one, such as the last one's of the page before."),
          limit: limit(1_000, 100)
        })
      )
      .addSuccess(Schema.Struct({ job: Job, next, history: Schema.Array(Slot) }))
      .addError(NotFound)
      .addError(Unprocessable)
  )
  .add(
    HttpApiEndpoint.del("remove", "/jobs/:jobId")
      .annotate(Action, "jobs.change")
      .annotate(
        OpenApi.Description,
        "What its event has begun goes on. One of the configuration is back at the next start."
      )
      .setPath(JobId)
      .addSuccess(Schema.Struct({ removed: Schema.String }))
      .addError(NotFound)
  )
  .add(
    HttpApiEndpoint.post("enable", "/jobs/:jobId/enable")
      .annotate(Action, "jobs.change")
      .annotate(OpenApi.Description, "It is next due at the first instant after now.")
      .setPath(JobId)
      .addSuccess(Job)
      .addError(NotFound)
  )
  .add(
    HttpApiEndpoint.post("disable", "/jobs/:jobId/disable")
      .annotate(Action, "jobs.change")
      .annotate(OpenApi.Description, "What its event has begun goes on.")
      .setPath(JobId)
      .addSuccess(Job)
      .addError(NotFound)
  )
  .add(
    HttpApiEndpoint.post("run", "/jobs/:jobId/run")
      .annotate(Action, "jobs.run")
      .annotate(OpenApi.Description, "Makes an event now, besides the schedule.")
      .setPath(JobId)
      .addSuccess(
        Schema.Struct({ eventId: Schema.String, duplicate: Schema.Boolean, decision: Schema.NullOr(Decision) }),
        { status: 202 }
      )
      .addError(NotFound)
  )
