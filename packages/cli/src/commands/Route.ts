import * as Command from "@effect/cli/Command"
import { routeLine } from "@postilion/gateway/domain/ExplanationText"
import { EventSource } from "@postilion/gateway/domain/GatewayEvent"
import { ChatContext, inputOf } from "@postilion/gateway/domain/Routing"
import { agentOf } from "@postilion/gateway/harness/InputRouter"
import { Effect } from "effect"
import * as Flags from "../Flags.ts"
import { oneLine, print, printJson } from "../Output.ts"
import { configured } from "../Reach.ts"

export const route = Command.make(
  "route",
  {
    source: Flags.choice("source", EventSource.literals, "Where it comes from. Default: `channel`, a message."),
    channel: Flags.optional("channel", "name", "The channel a message comes by."),
    context: Flags.choice("context", ChatContext.literals, "The kind of conversation. Default, of a message: `dm`."),
    chat: Flags.optional("chat", "id", "The conversation, as its channel calls it."),
    peer: Flags.optional("peer", "name", "The sender."),
    json: Flags.json,
    ...Flags.connected
  },
  ({ channel, chat, context, json, peer, source, ...flags }) =>
    Effect.gen(function* () {
      const question = { source, channel, context, chat, peer }
      const found = yield* configured(
        flags,
        (api) => api.gateway.route({ urlParams: question }),
        ({ config }) => Effect.succeed(agentOf(config, inputOf(question)))
      )
      yield* json ? printJson(found) : print(`${oneLine(found.agentId)}: ${routeLine(found)}`)
    })
).pipe(
  Command.withDescription(
    "Says which agent something would be for, and which rule says so, by the gateway that runs here, else by its file."
  )
)
