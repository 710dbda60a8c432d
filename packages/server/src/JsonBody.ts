import * as Problem from "@postilion/gateway/domain/Problem"
import { Effect, ParseResult, Schema } from "effect"

const utf8 = new TextDecoder("utf-8", { fatal: true })

const parse = (body: Uint8Array): Effect.Effect<unknown, Problem.HttpAnswer> =>
  Effect.try({
    try: (): unknown => JSON.parse(utf8.decode(body)),
    catch: (cause) =>
      Problem.problem(400, `the body must be JSON in UTF-8: ${cause instanceof Error ? cause.message : String(cause)}`)
  })

/**
 * Reads a body that must be what `schema` says and nothing more. Fails with the refusal it is answered: 415 when it is not said
 * to be JSON, 400 when it is none, 422, beginning with `expected`, when it is another thing or has more in it.
 */
export const make = <A, I>(expected: string, schema: Schema.Schema<A, I>) => {
  const decode = Schema.decodeUnknown(schema, { onExcessProperty: "error" })
  return (contentType: string | undefined, body: Uint8Array): Effect.Effect<A, Problem.HttpAnswer> =>
    Effect.gen(function* () {
      if (contentType?.split(";", 1)[0]?.trim().toLowerCase() !== "application/json") {
        return yield* Effect.fail(Problem.problem(415, "the body must be JSON; send content-type: application/json"))
      }
      return yield* Effect.mapError(decode(yield* parse(body)), (error) => {
        const [issue] = ParseResult.ArrayFormatter.formatErrorSync(error)
        const what = `${issue?.path.join(".") ?? ""} ${issue?.message ?? error.message}`.trim()
        return Problem.problem(422, `${expected}: ${what}`)
      })
    })
}
