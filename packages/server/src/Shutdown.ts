import { Context, Deferred, Effect, Layer } from "effect"

export interface ShutdownShape {
  /** Asks the program to stop; `false` where it does not listen. Answered before anything has stopped. */
  readonly request: (by: string) => Effect.Effect<boolean>
  /** Waits until somebody asks. */
  readonly requested: Effect.Effect<void>
}

/** How the process is asked to stop from within: by `POST /shutdown`, heard by `Postilion.launch`. */
export class Shutdown extends Context.Tag("@postilion/server/Shutdown")<Shutdown, ShutdownShape>() {}

export const layer: Layer.Layer<Shutdown> = Layer.effect(
  Shutdown,
  Effect.map(Deferred.make<string>(), (asked) => {
    let listening = false
    return Shutdown.of({
      request: (by) =>
        Effect.suspend(() => (listening ? Effect.as(Deferred.succeed(asked, by), true) : Effect.succeed(false))),
      requested: Effect.suspend(() => {
        listening = true
        return Effect.flatMap(Deferred.await(asked), (by) => Effect.logInfo(`${by} has asked the server to stop`))
      })
    })
  })
)
