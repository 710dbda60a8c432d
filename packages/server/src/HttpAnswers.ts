import { GatewayError } from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Effect } from "effect"

export const json = (
  status: number,
  value: unknown,
  headers?: Readonly<Record<string, string>>
): Problem.HttpAnswer => ({
  status,
  headers: { ...headers, "content-type": "application/json" },
  body: JSON.stringify(value)
})

/** Makes of every failure the answer it is; one to do with storage is logged, since its answer does not tell. */
export const orProblem = (
  answer: Effect.Effect<Problem.HttpAnswer, GatewayError | Problem.HttpAnswer>
): Effect.Effect<Problem.HttpAnswer> =>
  Effect.catchAll(answer, (refusal) => {
    if (!(refusal instanceof GatewayError)) return Effect.succeed(refusal)
    const problem = Problem.ofGatewayError(refusal)
    return refusal.reason === "storage"
      ? Effect.as(Effect.logError("an HTTP request met a storage failure", refusal), problem)
      : Effect.succeed(problem)
  })
