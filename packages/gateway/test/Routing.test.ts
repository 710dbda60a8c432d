import { describe, expect, it } from "@effect/vitest"
import type { GatewayConfigInput, RawInput } from "@postilion/gateway"
import { Gateway, GatewayService } from "@postilion/gateway"
import { Effect } from "effect"

const agents = { first: {}, personal: {}, team: {}, vip: {}, mail: {} }
const message = (metadata: Record<string, unknown>, sender = "ada"): RawInput => ({
  source: "channel",
  payload: { text: "hi" },
  sender,
  metadata
})
const route = (routing: GatewayConfigInput["routing"], input: RawInput) =>
  Effect.map(GatewayService, (gw) => gw.route(input)).pipe(
    Effect.provide(Gateway.layerTest({ agents, routing: { ...routing } }))
  )

describe("E2: which agent an input is for", () => {
  const rules = {
    dm: "personal",
    group: "team",
    bindings: [
      { agentId: "mail", channel: "mail" },
      { agentId: "team", channel: "mail", context: "group" as const },
      { agentId: "vip", peer: "eve" },
      { agentId: "personal", chat: "c1", channel: "mail", context: "group" as const }
    ]
  }
  const cases: ReadonlyArray<readonly [string, RawInput, agentId: string, by: string, conditions?: object]> = [
    ["a rule of its context", message({ channel: "http" }), "personal", "routing.dm"],
    ["no rule of its context, and no default", message({ context: "channel" }), "first", "agents"],
    ["a binding before a rule", message({ channel: "mail" }), "mail", "routing.bindings[0]", { channel: "mail" }],
    [
      "the more conditions",
      message({ channel: "mail", context: "group" }),
      "team",
      "routing.bindings[1]",
      { channel: "mail", context: "group" }
    ],
    [
      "the chat",
      message({ channel: "mail", context: "group", chatId: "c1" }),
      "personal",
      "routing.bindings[3]",
      { chat: "c1", channel: "mail", context: "group" }
    ],
    [
      "the sender before all else",
      message({ channel: "mail", context: "group", chatId: "c1" }, "eve"),
      "vip",
      "routing.bindings[2]",
      { peer: "eve" }
    ],
    ["what is no message has no context", { source: "webhook", payload: {} }, "first", "agents"],
    ["an agent that is named", { ...message({}), agentId: "vip" }, "vip", "agentId"]
  ]
  for (const [name, input, agentId, by, conditions] of cases) {
    it.effect(name, () =>
      Effect.map(route(rules, input), (routed) => expect(routed).toEqual({ agentId, by, conditions }))
    )
  }

  it.effect("a job that names no agent is for the default one", () =>
    Effect.gen(function* () {
      expect(yield* route({ default: "team" }, { source: "cron", payload: {} })).toEqual({
        agentId: "team",
        by: "routing.default"
      })
    })
  )
})
