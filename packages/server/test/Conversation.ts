import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { GatewayService } from "@postilion/gateway"
import { HttpAddress, type PostilionConfigInput } from "@postilion/server"
import { Context, Deferred, Effect, Exit, Layer, Scope } from "effect"
import { cable } from "./Cable.ts"
import type { Step } from "./Play.ts"
import { ADA, eventually, MALLORY, result, server } from "./Support.ts"

export const scriptFile = fileURLToPath(new URL("./fixtures/conversation.json", import.meta.url))
export const script: ReadonlyArray<Step> = JSON.parse(readFileSync(scriptFile, "utf8"))

/**
 * A gateway behind a cable, for `play` to have the conversation with. Its agent does what it is asked: asked to cut the cable, it does, and
 * the cable is mended once the answer has been sent; asked to stop the gateway, it does.
 */
export const converse = <A>(play: (url: string) => Effect.Effect<A>, config: PostilionConfigInput = {}) =>
  Effect.gen(function* () {
    const line = yield* cable
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
    const cut = yield* Deferred.make<void>()
    const told = server(
      {
        tokens: {
          ada: { token: ADA, scopes: ["client"] },
          bob: { token: "token-of-bob", scopes: ["agent"] },
          mallory: { token: MALLORY, scopes: ["client"] }
        },
        accessControl: { allowedSenders: ["ada", "bob"] },
        webSocket: { maxConnections: 6, maxPayload: 2_000 },
        ...config
      },
      ({ taskDescription: text }) =>
        Effect.gen(function* () {
          if (text === "cut the cable") {
            line.cut(true)
            yield* Deferred.succeed(cut, undefined)
          }
          if (text === "stop the gateway") yield* Effect.forkDaemon(Scope.close(scope, Exit.void))
          return result(`done: ${text}`)
        })
    )
    const context = yield* Scope.extend(Layer.build(told), scope)
    line.plug(Context.get(context, HttpAddress).port)
    const mended = Effect.gen(function* () {
      yield* Deferred.await(cut)
      const sent = Effect.map(
        Context.get(context, GatewayService).deliveries({ state: "sent" }),
        ({ length }) => length
      )
      yield* eventually(sent, (count) => count === 3)
      line.up()
    })
    yield* Effect.forkScoped(mended)
    return yield* play(`ws://127.0.0.1:${line.port}/ws`)
  }).pipe(Effect.scoped)
