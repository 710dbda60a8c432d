import * as HttpApi from "@effect/platform/HttpApi"
import * as OpenApi from "@effect/platform/OpenApi"
import { Api } from "@postilion/client/Api"
import { Action, BodyIsOptional } from "@postilion/client/api/Fields"
import { Context, Effect, Option } from "effect"
import * as Scopes from "../Scopes.ts"

/** The library's notion of anything has one, over and over: in one document each may be there once. */
const withoutIds = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(withoutIds)
  if (typeof value !== "object" || value === null) return value
  const members = Object.entries(value).filter(([key]) => key !== "$id")
  return Object.fromEntries(members.map(([key, member]) => [key, withoutIds(member)]))
}

/** Says of each operation which tokens it is for, and whether its body may be left out. */
const complete = (spec: OpenApi.OpenAPISpec): void => {
  HttpApi.reflect(Api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint: { method, path }, mergedAnnotations }) => {
      const operations: Record<string, OpenApi.OpenAPISpecOperation> | undefined =
        spec.paths[path.replace(/:(\w+)/g, "{$1}")]
      const operation = operations?.[method.toLowerCase()]
      if (operation === undefined) return
      const action = Option.map(Context.getOption(mergedAnnotations, Action), Scopes.named)
      if (Option.isSome(action)) {
        const scopes = Scopes.scopesFor(action.value).map((scope) => `\`${scope}\``)
        operation.security.push({ bearer: [] })
        operation.description =
          `${operation.description ?? ""} For tokens with the scope ${scopes.join(" or ")}.`.trim()
      }
      const isOptional = Option.isSome(Context.getOption(mergedAnnotations, BodyIsOptional))
      if (isOptional && operation.requestBody !== undefined) Object.assign(operation.requestBody, { required: false })
    }
  })
  spec.components.securitySchemes.bearer = {
    type: "http",
    scheme: "bearer",
    description: "A token of the configuration, or one that `POST /tokens` has made."
  }
}

/** Has each refusal once, and operations refer to it: they are the same wherever their status is. */
const shared = (spec: OpenApi.OpenAPISpec): Record<string, unknown> => {
  const responses: Record<string, unknown> = {}
  for (const operations of Object.values(spec.paths)) {
    for (const operation of Object.values(operations)) {
      for (const [status, response] of Object.entries(operation.responses)) {
        if (Number(status) < 400) continue
        const name = `Problem${status}`
        responses[name] = response
        Object.assign(operation.responses, { [status]: { $ref: `#/components/responses/${name}` } })
      }
    }
  }
  return { ...spec, components: { ...spec.components, responses } }
}

/** The API with what is said of it where it is served. */
export const documented = Api.annotate(OpenApi.Transform, (spec) => {
  complete(spec as OpenApi.OpenAPISpec)
  return withoutIds(shared(spec as OpenApi.OpenAPISpec)) as Record<string, unknown>
})

/** The OpenAPI document of the REST API, as it is served and as `docs/openapi.json` has it. */
export const document = (): OpenApi.OpenAPISpec => OpenApi.fromApi(documented)

/** What there is to read about the API, without a token: it tells nothing of this gateway. Each is made when the first asks for it. */
export const documents = Effect.gen(function* () {
  const json = yield* Effect.cached(
    Effect.sync(() => ({
      status: 200,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(document())
    }))
  )
  // What the page is made of has megabytes.
  const page = yield* Effect.cached(
    Effect.flatMap(
      Effect.promise(() => import("./DocsPage.ts")),
      ({ answer }) => answer
    )
  )
  return new Map([
    ["/openapi.json", json],
    ["/docs", page]
  ])
})
