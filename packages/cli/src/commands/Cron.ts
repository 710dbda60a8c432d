import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import { JobRules } from "@postilion/gateway/domain/Job"
import type { Schedule } from "@postilion/gateway/domain/Schedule"
import { Duration, Effect, Option, Schema } from "effect"
import { failed, usage } from "../Failure.ts"
import * as Flags from "../Flags.ts"
import { facts, print, printJson, printList, say, table, when } from "../Output.ts"
import { type Api, asking, reading } from "../Reach.ts"

const given = Args.text({ name: "job" }).pipe(Args.withDescription("The job's id, or its name where one alone has it."))

const kept = Effect.promise(() => import("../Kept.ts"))

/** The id of the one of these that is meant. */
const among = (jobs: ReadonlyArray<{ readonly id: string; readonly name: string }>, given: string) => {
  const [job, another] = jobs.filter(({ id, name }) => id === given || name === given)
  if (job === undefined) return failed(`there is no job "${given}"`, "see `postilion cron list`")
  return another === undefined
    ? Effect.succeed(job.id)
    : failed(`several jobs are called "${given}"`, "name it by its id")
}
const idOf = (api: Api, given: string) => Effect.flatMap(api.jobs.list(), ({ jobs }) => among(jobs, given))

const scheduleText = (schedule: Schedule): string => {
  switch (schedule.kind) {
    case "at":
      return `at ${when(schedule.at)}`
    case "every":
      return `every ${Duration.format(Duration.millis(schedule.everyMs))}`
    case "cron":
      return `${[schedule.expression].flat().join(" and ")} ${schedule.timezone}`
  }
}

export const list = Command.make("list", { json: Flags.json, ...Flags.connected }, ({ json, ...flags }) =>
  Effect.gen(function* () {
    const found = yield* reading(
      flags,
      (api) => api.jobs.list(),
      () => Effect.flatMap(kept, ({ jobs }) => jobs)
    )
    yield* printList(
      json,
      found,
      found.jobs,
      [
        { head: "job", of: ({ id }) => id },
        { head: "name", of: ({ name }) => name },
        { head: "schedule", of: ({ schedule }) => scheduleText(schedule) },
        { head: "agent", of: ({ agentId }) => agentId },
        {
          head: "next",
          of: ({ enabled, nextAt }) => (enabled ? (when(nextAt) ?? "never") : "disabled"),
          style: ({ enabled }) => (enabled ? undefined : "yellow")
        },
        { head: "last", of: ({ lastAt }) => when(lastAt) },
        { head: "failures", of: ({ failures }) => failures, align: "right" },
        { head: "instruction", of: ({ instruction }) => instruction }
      ],
      "there are no jobs"
    )
  })
).pipe(Command.withDescription("Lists heartbeats and jobs, by when they are next due."))

/** What is to become of its instants is as the defaults say. */
const withRules = (job: { name: string; instruction: string; schedule: Schedule; agentId: string | undefined }) => ({
  ...Schema.decodeSync(JobRules)({}),
  ...job
})

/** The one schedule that was given. */
const scheduleOf = (given: {
  readonly at: Date | undefined
  readonly every: string | undefined
  readonly cron: string | undefined
  readonly timezone: string | undefined
}) =>
  Effect.gen(function* () {
    const { at, cron, every, timezone = "UTC" } = given
    if ([at, cron, every].filter((one) => one !== undefined).length !== 1) {
      return yield* usage(
        "a job needs one schedule",
        'give one of --cron "0 9 * * *", --every "30 minutes", --at 2026-01-31T09:00Z'
      )
    }
    if (at !== undefined) return { kind: "at", at } satisfies Schedule
    if (cron !== undefined) return { kind: "cron", expression: cron, timezone } satisfies Schedule
    const duration = Duration.decodeUnknown(every)
    if (Option.isNone(duration)) return yield* usage(`"${every}" is no duration`, 'write it as "30 minutes"')
    return { kind: "every", everyMs: Duration.toMillis(duration.value) } satisfies Schedule
  })

export const add = Command.make(
  "add",
  {
    name: Args.text({ name: "name" }).pipe(Args.withDescription("What it is called in lists.")),
    instruction: Args.text({ name: "instruction" }).pipe(Args.withDescription("What the agent is asked.")),
    cron: Flags.optional("cron", "expression", 'By the wall clock: "0 9 * * MON-FRI".'),
    timezone: Flags.optional("timezone", "zone", "Of --cron, such as Europe/Berlin. Default: UTC."),
    every: Flags.optional("every", "duration", 'Again and again: "30 minutes".'),
    at: Flags.instant("at", "Once."),
    agentId: Flags.optional("agent", "id", "Default: the first agent."),
    json: Flags.json,
    ...Flags.connected
  },
  ({ agentId, at, cron, every, instruction, json, name, timezone, ...flags }) =>
    Effect.gen(function* () {
      const schedule = yield* scheduleOf({ at, cron, every, timezone })
      const { job, next } = yield* asking(flags, (api) =>
        api.jobs.add({ payload: withRules({ name, instruction, schedule, agentId }) })
      )
      if (json) return yield* printJson({ job, next })
      yield* say(`${job.id}: next ${next.map((at) => when(at)).join(", ") || "never"}`)
    })
).pipe(Command.withDescription("Adds a job, which stays until it is removed, and says when it is due."))

export const remove = Command.make("remove", { given, ...Flags.connected }, ({ given, ...flags }) =>
  asking(flags, (api) =>
    Effect.gen(function* () {
      const { removed } = yield* api.jobs.remove({ path: { jobId: yield* idOf(api, given) } })
      yield* say(`${removed}: removed`)
    })
  )
).pipe(Command.withDescription("Removes a job. One of the configuration is back at the next start."))

const switching = (verb: "enable" | "disable", about: string) =>
  Command.make(verb, { given, ...Flags.connected }, ({ given, ...flags }) =>
    asking(flags, (api) =>
      Effect.gen(function* () {
        const { enabled, id, nextAt } = yield* api.jobs[verb]({ path: { jobId: yield* idOf(api, given) } })
        yield* say(`${id}: ${enabled ? `next ${when(nextAt) ?? "never"}` : "disabled"}`)
      })
    )
  ).pipe(Command.withDescription(about))
export const enable = switching("enable", "Has a job be due again, at the first instant after now.")
export const disable = switching("disable", "Has a job not be due any more.")

export const run = Command.make("run", { given, json: Flags.json, ...Flags.connected }, ({ given, json, ...flags }) =>
  asking(flags, (api) =>
    Effect.gen(function* () {
      const found = yield* api.jobs.run({ path: { jobId: yield* idOf(api, given) } })
      if (json) return yield* printJson(found)
      yield* say(`${found.eventId}: ${found.decision ?? "not decided yet"}`)
    })
  )
).pipe(Command.withDescription("Makes a job's event now, besides its schedule."))

export const next = Command.make(
  "next",
  { given, limit: Flags.limit(1_000, 10), json: Flags.json, ...Flags.connected },
  ({ given, json, limit, ...flags }) =>
    Effect.gen(function* () {
      const found = yield* reading(
        flags,
        (api) => Effect.flatMap(idOf(api, given), (jobId) => api.jobs.show({ path: { jobId }, urlParams: { limit } })),
        () =>
          Effect.gen(function* () {
            const { job, jobs } = yield* kept
            return yield* job(yield* among((yield* jobs).jobs, given), limit)
          })
      )
      if (json) return yield* printJson(found)
      yield* print(
        facts([
          ["schedule", scheduleText(found.job.schedule)],
          ["next", found.next.map((at) => when(at)).join(", ") || "never"]
        ])
      )
      if (found.history.length === 0) return
      yield* print(
        `\n${table(found.history, [
          { head: "instant", of: ({ at }) => when(at) },
          { head: "became", of: ({ state }) => state },
          { head: "event", of: ({ eventId }) => eventId },
          { head: "reason", of: ({ reason }) => reason }
        ])}`
      )
    })
).pipe(Command.withDescription("Says when a job is next due, and what became of its last instants."))
