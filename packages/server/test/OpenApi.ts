/** The OpenAPI document of a real server, and what it is asked by that document alone. */
import { Ajv2020 } from "ajv/dist/2020.js"
import { Effect, Schema } from "effect"
import { expect } from "vitest"
import { ADA, type Answer, request } from "./Support.ts"

const Content = Schema.Record({ key: Schema.String, value: Schema.Struct({ schema: Schema.Unknown }) })
const Response = Schema.Struct({ description: Schema.String, content: Schema.optional(Content) })
const Operation = Schema.Struct({
  operationId: Schema.String,
  description: Schema.String,
  parameters: Schema.Array(Schema.Struct({ name: Schema.String, in: Schema.String })),
  security: Schema.Array(Schema.Unknown),
  requestBody: Schema.optional(Schema.Struct({ required: Schema.Boolean, content: Content })),
  responses: Schema.Record({
    key: Schema.String,
    value: Schema.Union(Schema.Struct({ $ref: Schema.String }), Response)
  })
})
const Document = Schema.Struct({
  openapi: Schema.Literal("3.1.0"),
  paths: Schema.Record({ key: Schema.String, value: Schema.Record({ key: Schema.String, value: Operation }) }),
  components: Schema.Struct({
    schemas: Schema.Record({ key: Schema.String, value: Schema.Unknown }),
    responses: Schema.Record({ key: Schema.String, value: Response })
  })
})
const decode = Schema.decodeUnknownSync(Document)

export interface Asking {
  readonly path?: Readonly<Record<string, string>>
  readonly query?: Readonly<Record<string, string>>
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
  readonly token?: string | null
}

/** Reads the document, as anybody would: from the server it is of. */
export const documented = Effect.gen(function* () {
  const answer = yield* request("/openapi.json")
  expect(answer).toMatchObject({ status: 200 })
  const { components, paths } = decode(answer.body)
  const operations = Object.entries(paths).flatMap(([template, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ ...operation, method: method.toUpperCase(), template }))
  )
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  ajv.addFormat("date-time", (text: string) => /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(text))
  ajv.addSchema({ $id: "document", ...answer.body })
  const validators = new Map<string, ReturnType<typeof ajv.compile>>()
  /** What in `value` is not as the schema says. */
  const wrongIn = (schema: unknown, value: unknown): string | undefined => {
    const text = JSON.stringify(schema).replaceAll('"$ref":"#/', '"$ref":"document#/')
    const validate = validators.get(text) ?? ajv.compile(JSON.parse(text))
    validators.set(text, validate)
    return validate(value) ? undefined : ajv.errorsText(validate.errors)
  }
  const reached = new Set<string>()
  /** Asks for an operation, and holds what is answered to what the document says of it. */
  const ask = (id: string, { body, headers = {}, path = {}, query = {}, token = ADA }: Asking = {}) =>
    Effect.gen(function* () {
      const operation = operations.find(({ operationId }) => operationId === id)
      if (operation === undefined) throw new Error(`the document has no operation ${id}`)
      const filled = operation.template.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(path[name] ?? ""))
      const [type = "application/json"] = Object.keys(operation.requestBody?.content ?? {})
      const search = Object.keys(query).length === 0 ? "" : `?${new URLSearchParams(query)}`
      const answer: Answer = yield* request(`${filled}${search}`, {
        method: operation.method,
        headers: {
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "content-type": type }),
          ...headers
        },
        ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) })
      })
      const named = operation.responses[answer.status]
      const what = `${id} answered ${answer.status}: ${answer.text.slice(0, 300)}`
      if (named === undefined) throw new Error(`${what}, which the document does not have`)
      const response = "$ref" in named ? components.responses[named.$ref.split("/").at(-1) ?? ""] : named
      const [sent = ""] = (answer.headers.get("content-type") ?? "").split(";")
      const declared = response?.content?.[sent]
      if (declared === undefined) throw new Error(`${what} as ${sent}, which the document does not have`)
      const value: unknown = /[/+]json$/.test(sent) ? JSON.parse(answer.text) : answer.text
      expect(wrongIn(declared.schema, value), what).toBeUndefined()
      if (answer.status < 300) reached.add(id)
      return answer
    })
  /** The lines of an answer, each held to a schema of the document. */
  const linesOf = ({ text }: Answer, name: string): ReadonlyArray<unknown> =>
    text
      .trimEnd()
      .split("\n")
      .map((line) => {
        const value: unknown = JSON.parse(line)
        expect(wrongIn({ $ref: `#/components/schemas/${name}` }, value), line).toBeUndefined()
        return value
      })
  return { ask, components, linesOf, operations, reached, text: answer.text }
})
