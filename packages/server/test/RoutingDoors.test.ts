import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import { describe, expect, it } from "@effect/vitest"
import * as ApiClient from "@postilion/client/ApiClient"
import { GatewayService } from "@postilion/gateway"
import type { RouteQuestion } from "@postilion/gateway/domain/Routing"
import { HttpAddress } from "@postilion/server"
import { Effect } from "effect"
import { ADA, as, MALLORY, request, say, server } from "./Support.ts"
import { connected } from "./Wire.ts"

const agents = { first: {}, personal: {}, team: {}, web: {} }
const routed = server({
  agents,
  accessControl: { allowedSenders: ["ada", "mallory"] },
  routing: { dm: "personal", group: "team", bindings: [{ agentId: "web", channel: "http" }] }
})

describe("E2: what comes by the doors is routed", () => {
  it.scopedLive("a message over HTTP is a dm, and one in a session with somebody else is a group's", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const agentOf = (eventId: unknown) => Effect.map(gateway.outcome(String(eventId)), ({ event }) => event.agentId)
      expect(yield* agentOf((yield* say({ text: "hi" })).body.eventId)).toBe("web")
      const ada = yield* connected(ADA)
      const sent = (wire: typeof ada, owner?: string) =>
        Effect.flatMap(
          wire.ask("session.send", {
            session: "ops",
            text: "hi",
            id: crypto.randomUUID(),
            ...(owner === undefined ? {} : { owner })
          }),
          ({ result }) => agentOf(result?.eventId)
        )
      expect(yield* sent(ada)).toBe("personal")
      const mallory = yield* connected(MALLORY)
      yield* ada.ask("session.join", { session: "ops", invite: ["mallory"] })
      yield* mallory.ask("session.join", { session: "ops", owner: "ada" })
      expect(yield* sent(mallory, "ada")).toBe("team")
      yield* mallory.ask("session.leave", { session: "ops", owner: "ada" })
      expect(yield* sent(ada)).toBe("personal")
    }).pipe(Effect.provide(routed))
  )

  it.scoped("where something would go is said without sending it, as it then goes", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpAddress
      const client = yield* ApiClient.make({ baseUrl: url, token: ADA })
      const route = (urlParams: RouteQuestion) => client.gateway.route({ urlParams })
      expect(yield* route({})).toEqual({ agentId: "personal", by: "routing.dm" })
      expect(yield* route({ context: "group" })).toEqual({ agentId: "team", by: "routing.group" })
      expect(yield* route({ source: "webhook" })).toEqual({ agentId: "first", by: "agents" })
      const asked = yield* route({ channel: "http", context: "group", peer: "ada" })
      expect(asked).toEqual({ agentId: "web", by: "routing.bindings[0]", conditions: { channel: "http" } })
      const { eventId } = (yield* say({ text: "hi" })).body
      const { agentId, ...routedBy } = asked
      const explained = yield* client.events.explain({ path: { eventId: String(eventId) } })
      expect(explained).toMatchObject({ agentId, route: routedBy })
      expect(explained.render()).toContain("\nrouted by routing.bindings[0]: channel http\n")
      const wrong = yield* request("/route?context=crowd", as(ADA))
      expect(wrong).toMatchObject({ status: 422, body: { detail: expect.stringContaining("context") } })
      expect(yield* (yield* GatewayService).list()).toMatchObject({ events: [{ id: eventId }] })
    }).pipe(Effect.provide(FetchHttpClient.layer), Effect.provide(routed))
  )
})
