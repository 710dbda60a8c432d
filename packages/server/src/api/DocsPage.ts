import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiSwagger from "@effect/platform/HttpApiSwagger"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import type * as Problem from "@postilion/gateway/domain/Problem"
import { Context, Effect, Layer } from "effect"
import { documented } from "./Document.ts"

/** Nothing is loaded from elsewhere, and nothing is sent elsewhere. */
const POLICY =
  "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/** The page that shows the document. */
const html = Effect.gen(function* () {
  // As the library's own builder does: what it takes is an API of any groups, which no API of some groups is to the compiler.
  const api = documented as unknown as Context.Tag.Service<typeof HttpApi.Api>["api"]
  const layer = HttpApiSwagger.layer({ path: "/docs" }).pipe(
    Layer.provide(Layer.succeed(HttpApi.Api, { api, context: Context.empty() })),
    Layer.provideMerge(HttpApiBuilder.Router.Live)
  )
  const router = yield* Effect.provide(HttpApiBuilder.Router.router, layer)
  const request = HttpServerRequest.fromWeb(new Request("http://localhost/docs"))
  const response = yield* Effect.provideService(router, HttpServerRequest.HttpServerRequest, request)
  return yield* Effect.promise(() => HttpServerResponse.toWeb(response).text())
}).pipe(Effect.scoped, Effect.provide(HttpServer.layerContext), Effect.orDie)

export const answer: Effect.Effect<Problem.HttpAnswer> = Effect.map(html, (body) => ({
  status: 200,
  headers: { "content-type": "text/html; charset=utf-8", "content-security-policy": POLICY },
  body
}))
