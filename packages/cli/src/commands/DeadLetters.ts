import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import { Effect } from "effect"
import * as Flags from "../Flags.ts"
import { printJson, printList, say, when } from "../Output.ts"
import { asking, reading } from "../Reach.ts"

const deliveryId = Args.text({ name: "delivery" }).pipe(Args.withDescription("The delivery's id."))

export const list = Command.make(
  "list",
  {
    state: Flags.choice("state", ["failed", "unknown", "dropped"], "Which. Default: failed."),
    limit: Flags.limit(1_000, 100),
    json: Flags.json,
    ...Flags.connected
  },
  ({ json, limit, state = "failed", ...flags }) =>
    Effect.gen(function* () {
      const found = yield* reading(
        flags,
        (api) => api.deliveries.list({ urlParams: { state, limit } }),
        () =>
          Effect.flatMap(
            Effect.promise(() => import("../Kept.ts")),
            ({ deliveries }) => deliveries(state, limit)
          )
      )
      yield* printList(
        json,
        found,
        found.deliveries,
        [
          { head: "delivery", of: ({ id }) => id },
          { head: "event", of: ({ eventId }) => eventId },
          { head: "to", of: ({ to }) => `${to.channel} ${to.target}` },
          { head: "prepared", of: ({ preparedAt }) => when(preparedAt) },
          { head: "attempts", of: ({ attempt }) => attempt, align: "right" },
          { head: "error", of: ({ error }) => error },
          { head: "text", of: ({ text }) => text }
        ],
        `no delivery is ${state}`
      )
    })
).pipe(Command.withDescription("Lists answers that could not be sent, in the order they were prepared."))

export const replay = Command.make(
  "replay",
  { deliveryId, json: Flags.json, ...Flags.connected },
  ({ deliveryId, json, ...flags }) =>
    asking(flags, (api) =>
      Effect.flatMap(api.deliveries.replay({ path: { deliveryId } }), (found) =>
        json ? printJson(found) : say(`${found.id}: ${found.state}`)
      )
    )
).pipe(Command.withDescription("Has an answer tried again that failed, is unknown or was dropped."))
