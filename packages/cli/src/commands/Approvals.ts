import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import { Effect } from "effect"
import * as Flags from "../Flags.ts"
import { facts, oneLine, print, printJson, printList, say, when } from "../Output.ts"
import { asking, reading } from "../Reach.ts"

const kept = Effect.promise(() => import("../Kept.ts"))

const approvalId = Args.text({ name: "approval" }).pipe(Args.withDescription("The approval's id."))

export const list = Command.make("list", { json: Flags.json, ...Flags.connected }, ({ json, ...flags }) =>
  Effect.gen(function* () {
    const found = yield* reading(
      flags,
      (api) => api.approvals.list(),
      () => Effect.flatMap(kept, ({ approvals }) => approvals)
    )
    yield* printList(
      json,
      found,
      found.approvals,
      [
        { head: "approval", of: ({ id }) => id },
        { head: "event", of: ({ eventId }) => eventId },
        { head: "agent", of: ({ proposal }) => proposal.agent.id },
        { head: "until", of: ({ expiresAt }) => when(expiresAt) },
        { head: "policy", of: ({ policy }) => policy },
        { head: "reason", of: ({ reason }) => reason },
        { head: "would be asked", of: ({ proposal }) => proposal.task }
      ],
      "nothing waits for a person"
    )
  })
).pipe(Command.withDescription("Lists what waits for a person, oldest first, with what the agent would be asked."))

export const show = Command.make(
  "show",
  { approvalId, json: Flags.json, ...Flags.connected },
  ({ approvalId, json, ...flags }) =>
    Effect.gen(function* () {
      const found = yield* reading(
        flags,
        (api) => api.approvals.show({ path: { approvalId } }),
        () => Effect.flatMap(kept, ({ approval }) => approval(approvalId))
      )
      if (json) return yield* printJson(found)
      const { approvers, decidedBy, digest, eventId, expiresAt, id, policy, proposal, reason, state, votes } = found
      const by = decidedBy === undefined ? `until ${when(expiresAt)}` : `by ${decidedBy}`
      yield* print(
        facts([
          ["approval", `${id}, ${state} ${by}`],
          ["event", eventId],
          ["asked by", `${policy}: ${reason}`],
          [
            "answers",
            `${votes.map(({ answer, by }) => `${answer} by ${by}`).join(", ") || "none"}; needs ${approvers}`
          ],
          ["agent", proposal.agent.id],
          ["would be asked", oneLine(proposal.task, 1_000)],
          ["payload", oneLine(proposal.payload, 1_000)],
          ["digest", digest]
        ])
      )
    })
).pipe(Command.withDescription("Shows an approval and what would run; with --json all of it."))

interface Answered {
  readonly id: string
  readonly state: string
  readonly votes: ReadonlyArray<{ readonly answer: string }>
  readonly approvers: number
}
const told = (json: boolean, found: Answered) => {
  if (json) return printJson(found)
  const yes = found.votes.filter(({ answer }) => answer === "approved").length
  return say(
    `${found.id}: ${found.state}${found.state === "pending" ? `, ${yes} of ${found.approvers} approvals` : ""}`
  )
}

export const approve = Command.make(
  "approve",
  {
    approvalId,
    digest: Flags.optional(
      "digest",
      "sha256",
      "Of what was shown: nothing else is approved. Default: of what it shows now."
    ),
    json: Flags.json,
    ...Flags.connected
  },
  ({ approvalId, digest, json, ...flags }) =>
    asking(flags, (api) =>
      Effect.flatMap(api.approvals.approve({ path: { approvalId }, payload: { digest } }), (found) => told(json, found))
    )
).pipe(Command.withDescription("Says yes: once as many have as it needs, the event is judged again, and runs."))

export const deny = Command.make(
  "deny",
  { approvalId, json: Flags.json, ...Flags.connected },
  ({ approvalId, json, ...flags }) =>
    asking(flags, (api) =>
      Effect.flatMap(api.approvals.deny({ path: { approvalId }, payload: {} }), (found) => told(json, found))
    )
).pipe(Command.withDescription("Says no: one is enough, and the event never runs."))
