import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as Mismatch from "@postilion/gateway/domain/Mismatch"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Effect, Option, Schema, SchemaAST } from "effect"

/** Of an operation as it is declared, what it takes. */
export interface Endpoint {
  readonly path: string
  readonly pathSchema: Option.Option<Schema.Schema.All>
  readonly urlParamsSchema: Option.Option<Schema.Schema.All>
  readonly payloadSchema: Option.Option<Schema.Schema.All>
}
type Read = Effect.Effect<object, Problem.HttpAnswer>

const utf8 = new TextDecoder("utf-8", { fatal: true })
const CLOSED = { onExcessProperty: "error" } as const

const anyOf = (option: Option.Option<Schema.Schema.All>): Schema.Schema<unknown> | undefined =>
  Option.getOrUndefined(option) as Schema.Schema<unknown> | undefined

/** What is expected, in a few words: its members, those that may be left out with a `?`. */
const shapeOf = (schema: Schema.Schema<unknown>): string => {
  const members = SchemaAST.getPropertySignatures(SchemaAST.encodedAST(schema.ast)).map(
    ({ isOptional, name }) => `${String(name)}${isOptional ? "?" : ""}`
  )
  return members.length === 0 ? "empty" : `{ ${members.join(", ")} }`
}

const textOf = (body: Uint8Array): Effect.Effect<string, Problem.HttpAnswer> =>
  Effect.try({ try: () => utf8.decode(body), catch: () => Problem.problem(400, "the body must be UTF-8") })

const jsonOf = (body: Uint8Array): Effect.Effect<unknown, Problem.HttpAnswer> =>
  Effect.try({
    try: (): unknown => JSON.parse(utf8.decode(body)),
    catch: (cause) =>
      Problem.problem(400, `the body must be JSON in UTF-8: ${cause instanceof Error ? cause.message : String(cause)}`)
  })

/** Reads what a path has in the places of names. */
export const path = ({ path, pathSchema }: Endpoint): ((parts: ReadonlyArray<string>) => Read) => {
  const schema = anyOf(pathSchema)
  if (schema === undefined) return () => Effect.succeed({})
  const names = [...path.matchAll(/:(\w+)/g)].map(([, name = ""]) => name)
  const decode = Schema.decodeUnknown(schema)
  return (parts) =>
    Effect.mapBoth(decode(Object.fromEntries(names.map((name, i) => [name, parts[i]]))), {
      onSuccess: (path) => ({ path }),
      onFailure: (error) => Problem.problem(404, `there is nothing here: ${Mismatch.describe(error)}`)
    })
}

/** Reads a query: what is declared, each at most once, and nothing else. Where none is declared it is not looked at. */
export const query = ({ urlParamsSchema }: Endpoint): ((query: string) => Read) => {
  const schema = anyOf(urlParamsSchema)
  if (schema === undefined) return () => Effect.succeed({})
  const decode = Schema.decodeUnknown(schema, CLOSED)
  const refusal = `the query is ${shapeOf(schema)}`
  return (query) => {
    const given: Record<string, string | ReadonlyArray<string>> = {}
    const parameters = new URLSearchParams(query)
    for (const [name, value] of parameters) {
      const all = parameters.getAll(name)
      given[name] = all.length === 1 ? value : all
    }
    return Effect.mapBoth(decode(given), {
      onSuccess: (urlParams) => ({ urlParams }),
      onFailure: (error) => Problem.problem(422, `${refusal}: ${Mismatch.describe(error)}`)
    })
  }
}

/**
 * Reads a body: 415 when it is not said to be of its type, 400 when it is not, 422 when it is another thing than declared, or has
 * more in it. `undefined` where none is declared: then none is waited for.
 */
export const body = (
  { payloadSchema }: Endpoint,
  isOptional: boolean
): ((contentType: string | undefined, body: Uint8Array) => Read) | undefined => {
  const schema = anyOf(payloadSchema)
  if (schema === undefined) return undefined
  const { contentType: type, kind } = HttpApiSchema.getEncoding(schema.ast)
  const decode = Schema.decodeUnknown(schema, CLOSED)
  const parse: (body: Uint8Array) => Effect.Effect<unknown, Problem.HttpAnswer> = kind === "Text" ? textOf : jsonOf
  const name = kind === "Text" ? type : "JSON"
  const title = Option.getOrElse(SchemaAST.getTitleAnnotation(schema.ast), () => "the body")
  const refusal = `${title} is ${shapeOf(schema)}`
  return (contentType, body) =>
    Effect.gen(function* () {
      const isLeftOut = isOptional && body.length === 0
      if (!isLeftOut && contentType?.split(";", 1)[0]?.trim().toLowerCase() !== type) {
        return yield* Effect.fail(Problem.problem(415, `the body must be ${name}; send content-type: ${type}`))
      }
      return yield* Effect.mapError(decode(isLeftOut ? {} : yield* parse(body)), (error) =>
        Problem.problem(422, `${refusal}: ${Mismatch.describe(error)}`)
      )
    }).pipe(Effect.map((payload) => ({ payload })))
}
