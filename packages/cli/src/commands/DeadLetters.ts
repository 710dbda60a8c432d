import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import { Effect } from "effect"
import * as Flags from "../Flags.ts"
import { printJson, printList, say, when } from "../Output.ts"
import { asking, reading } from "../Reach.ts"

const kept = Effect.promise(() => import("../Kept.ts"))

/** What subscribers of push channels were told in vain. */
const letters = (limit: number, json: boolean, flags: Flags.Connected) =>
  Effect.gen(function* () {
    const found = yield* reading(
      flags,
      (api) => api.deadLetters.list({ urlParams: { limit } }),
      () => Effect.flatMap(kept, ({ deadLetters }) => deadLetters(limit))
    )
    yield* printList(
      json,
      found,
      found.deadLetters,
      [
        { head: "letter", of: ({ id }) => id },
        { head: "channel", of: ({ channel }) => channel },
        { head: "subscription", of: ({ principal, subscription }) => `${principal} ${subscription}` },
        { head: "died", of: ({ diedAt }) => when(diedAt) },
        { head: "attempts", of: ({ attempts }) => attempts, align: "right" },
        { head: "error", of: ({ error }) => error ?? undefined }
      ],
      "nothing was told in vain"
    )
  })

export const list = Command.make(
  "list",
  {
    push: Flags.flag("push", "Messages that subscribers of channels did not take, instead of answers."),
    state: Flags.choice("state", ["failed", "unknown", "dropped"], "Which. Default: failed."),
    limit: Flags.limit(1_000, 100),
    json: Flags.json,
    ...Flags.connected
  },
  ({ json, limit, push, state = "failed", ...flags }) =>
    Effect.gen(function* () {
      if (push) return yield* letters(limit, json, flags)
      const found = yield* reading(
        flags,
        (api) => api.deliveries.list({ urlParams: { state, limit } }),
        () => Effect.flatMap(kept, ({ deliveries }) => deliveries(state, limit))
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
  { id: Args.text({ name: "letter" }).pipe(Args.withDescription("Its id.")), json: Flags.json, ...Flags.connected },
  ({ id, json, ...flags }) =>
    asking(flags, (api) =>
      Effect.gen(function* () {
        if (id.startsWith("dead_")) {
          const found = yield* api.deadLetters.replay({ path: { letterId: id } })
          return yield* json ? printJson(found) : say(`${found.id}: told again`)
        }
        const found = yield* api.deliveries.replay({ path: { deliveryId: id } })
        yield* json ? printJson(found) : say(`${found.id}: ${found.state}`)
      })
    )
).pipe(
  Command.withDescription(
    "Has an answer sent again that failed, is unknown or was dropped, or a message told again to who did not take it."
  )
)
