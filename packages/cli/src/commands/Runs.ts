import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import { RunState } from "@postilion/gateway/domain/Run"
import { Effect } from "effect"
import * as Flags from "../Flags.ts"
import { facts, oneLine, paint, print, printJson, printList, say, when } from "../Output.ts"
import { asking, reading } from "../Reach.ts"

const kept = Effect.promise(() => import("../Kept.ts"))

const id = Args.text({ name: "run" }).pipe(Args.withDescription("The run's id."))
const number = (value: number): string => value.toLocaleString("en-US")

export const list = Command.make(
  "list",
  {
    state: Flags.choice("state", RunState.literals, "Only runs that stand so."),
    agentId: Flags.optional("agent", "id", "Only this agent's."),
    sessionKey: Flags.optional("session", "key", "Only those of this session."),
    cursor: Flags.optional("cursor", "cursor", "`next` of the page before."),
    limit: Flags.limit(1_000, 50),
    json: Flags.json,
    ...Flags.connected
  },
  ({ agentId, cursor, json, limit, sessionKey, state, ...flags }) =>
    Effect.gen(function* () {
      const filter = { state, agentId, sessionKey, cursor, limit }
      const found = yield* reading(
        flags,
        (api) => api.runs.list({ urlParams: filter }),
        () => Effect.flatMap(kept, ({ runs }) => runs(filter))
      )
      yield* printList(
        json,
        found,
        found.runs,
        [
          { head: "decided", of: ({ decidedAt }) => when(decidedAt) },
          { head: "run", of: ({ id }) => id },
          { head: "agent", of: ({ agentId }) => agentId },
          { head: "state", of: ({ state }) => state },
          { head: "attempts", of: ({ attempt }) => attempt, align: "right" },
          {
            head: "tokens",
            of: ({ inputTokens, outputTokens }) => number(inputTokens + outputTokens),
            align: "right"
          },
          { head: "error", of: ({ error }) => error }
        ],
        "there is no run that is so"
      )
      if (!json && found.next !== null) yield* say(paint("dim", `there are more: --cursor ${found.next}`, "err"))
    })
).pipe(Command.withDescription("Lists runs, the one decided last first."))

export const show = Command.make("show", { id, json: Flags.json, ...Flags.connected }, ({ id, json, ...flags }) =>
  Effect.gen(function* () {
    const run = yield* reading(
      flags,
      (api) => api.runs.show({ path: { id } }),
      () => Effect.flatMap(kept, ({ run }) => run(id))
    )
    if (json) return yield* printJson(run)
    const { costUsd, endedAt, inputTokens, outputTokens, startedAt, worker } = run
    const cost = costUsd === undefined ? "" : `, $${costUsd.toFixed(4)}`
    yield* print(
      facts([
        ["run", `${run.id} of ${run.eventId}, for ${run.agentId}`],
        ["state", `${run.state}, attempt ${run.attempt}`],
        ["session", run.sessionKey],
        ["decided", when(run.decidedAt)],
        ["started", when(startedAt)],
        ["ended", when(endedAt)],
        ["worker", worker === undefined ? undefined : oneLine(`${worker.principal} (${worker.client})`)],
        ["model", run.model],
        ["tokens", `${number(inputTokens)} in, ${number(outputTokens)} out${cost}`],
        ["asked", oneLine(run.task, 1_000)],
        ["said", oneLine(run.text ?? "", 1_000)],
        ["error", oneLine(run.error ?? "", 1_000)]
      ])
    )
  })
).pipe(Command.withDescription("Shows a run: what was asked, what came of it, and what it cost."))

export const abort = Command.make("abort", { id, json: Flags.json, ...Flags.connected }, ({ id, json, ...flags }) =>
  asking(flags, (api) =>
    Effect.gen(function* () {
      const found = yield* api.runs.abort({ path: { id } })
      yield* json ? printJson(found) : say(`${found.run?.id ?? id}: ${found.run?.state ?? found.state}`)
    })
  )
).pipe(Command.withDescription("Ends a run: one that waits does not begin, one under way is interrupted."))
