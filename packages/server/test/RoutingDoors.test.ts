import { describe, expect, it } from "@effect/vitest"
import { GatewayService } from "@postilion/gateway"
import { Effect } from "effect"
import { ADA, MALLORY, say, server } from "./Support.ts"
import { connected } from "./Wire.ts"

const agents = { first: {}, personal: {}, team: {}, web: {} }

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
    }).pipe(
      Effect.provide(
        server({
          agents,
          accessControl: { allowedSenders: ["ada", "mallory"] },
          routing: { dm: "personal", group: "team", bindings: [{ agentId: "web", channel: "http" }] }
        })
      )
    )
  )
})
