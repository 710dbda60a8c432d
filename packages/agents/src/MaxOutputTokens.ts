import { Context, Effect } from "effect"

/**
 * The most tokens the next answer may have, for the models of this package: `@effect/ai` has no such setting of its own,
 * each provider package has one of its own kind. Not set, the server's default holds.
 */
export class MaxOutputTokens extends Context.Reference<MaxOutputTokens>()("@postilion/agents/MaxOutputTokens", {
  defaultValue: (): number | undefined => undefined
}) {}

/** Runs `call` with its answer limited to `maxOutputTokens`. */
export const limit =
  (maxOutputTokens: number) =>
  <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.provideService(call, MaxOutputTokens, maxOutputTokens)
