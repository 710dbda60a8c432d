import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { WebSocket as UndiciWebSocket } from "undici"
import { WebSocket } from "ws"
import { converse, script } from "./Conversation.ts"
import { type PlayedConstructor, play } from "./Play.ts"

// `undici` has the WebSocket that later Node.js has built in. With Python and a browser: `npm run test:interop`.
const libraries = { ws: WebSocket as unknown as PlayedConstructor, undici: UndiciWebSocket }

describe("the same conversation with clients that share nothing", () => {
  for (const [name, library] of Object.entries(libraries)) {
    it.live(name, () =>
      Effect.map(
        converse((url) => Effect.promise(() => play(script, url, library))),
        (played) => expect(played).toBe(script.length)
      )
    )
  }
})
