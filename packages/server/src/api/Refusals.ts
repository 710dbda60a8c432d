import { GatewayError, StoreError } from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Effect } from "effect"
import { answerOf, Denied } from "../Denied.ts"
import type { Answer } from "../HttpListener.ts"

/** Why there is no answer but a refusal. */
export type Refusal = GatewayError | StoreError | Denied | Problem.HttpAnswer

/** Makes of every failure the answer it is; one to do with storage is logged, since its answer does not tell. */
export const orProblem = (answer: Effect.Effect<Answer, Refusal>): Effect.Effect<Answer> =>
  Effect.catchAll(answer, (refusal) => {
    if (refusal instanceof Denied) return Effect.succeed(answerOf(refusal))
    const error =
      refusal instanceof StoreError
        ? new GatewayError({ reason: "storage", message: refusal.message, cause: refusal })
        : refusal
    if (!(error instanceof GatewayError)) return Effect.succeed(error)
    const problem = Problem.ofGatewayError(error)
    return error.reason === "storage"
      ? Effect.as(Effect.logError("an HTTP request met a storage failure", error), problem)
      : Effect.succeed(problem)
  })

export const notFound = (message: string) => new GatewayError({ reason: "not-found", message })
export const invalid = (message: string) => new GatewayError({ reason: "invalid-input", message })
