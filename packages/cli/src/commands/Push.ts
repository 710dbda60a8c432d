import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import { Effect, Stream } from "effect"
import * as Flags from "../Flags.ts"
import { oneLine, paint, print, printJson, printLine, say, when } from "../Output.ts"
import { asking, running } from "../Reach.ts"
import { connect } from "../Socket.ts"

const channel = Args.text({ name: "channel" }).pipe(Args.withDescription("The channel: letters, digits and ._:-"))

/** JSON where it is some, else the text itself. */
const dataOf = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

export const publish = Command.make(
  "publish",
  {
    channel,
    data: Args.text({ name: "data" }).pipe(Args.withDescription("JSON, or any text.")),
    id: Flags.optional("id", "id", "The message's id: published twice, it is the same one. Default: a new one."),
    json: Flags.json,
    ...Flags.connected
  },
  ({ channel, data, id, json, ...flags }) =>
    asking(flags, (api) =>
      Effect.gen(function* () {
        const found = yield* api.push.publish({ path: { channel }, payload: { data: dataOf(data), id } })
        if (json) return yield* printJson(found)
        yield* say(found.duplicate ? "it had been published before" : `published, at ${found.cursor}`)
      })
    )
).pipe(Command.withDescription("Tells a channel something."))

export const subscribe = Command.make(
  "subscribe",
  {
    channel,
    since: Flags.whole(
      "since",
      "cursor",
      0,
      Number.MAX_SAFE_INTEGER,
      "What came after this cursor first. Default: from now on."
    ),
    subscription: Flags.optional(
      "subscription",
      "name",
      "A name under which the gateway remembers how far this has come: each message is acknowledged once it was shown."
    ),
    json: Flags.json,
    ...Flags.connected
  },
  ({ channel, json, since, subscription, ...flags }) =>
    Effect.gen(function* () {
      const { push } = yield* connect(yield* running(flags), "client", "viewer", "agent")
      const options = {
        ...(since === undefined ? {} : { since }),
        ...(subscription === undefined ? {} : { subscription })
      }
      yield* Stream.runForEach(push.subscribe(channel, options), (message) => {
        const { at, data, from, missed } = message
        const text = typeof data === "string" ? data : JSON.stringify(data)
        const gap = missed === 0 ? Effect.void : say(`${missed ?? "some"} messages are missing before this one`)
        return json
          ? printLine(message)
          : Effect.zipRight(
              gap,
              print(`${paint("dim", when(at) ?? "")}  ${paint("bold", from)}: ${oneLine(text, 500)}`)
            )
      })
    }).pipe(Effect.scoped)
).pipe(
  Command.withDescription(
    "Shows the messages of a channel as they come, across restarts of the gateway, until Ctrl-C. With --json a line of JSON each."
  )
)
