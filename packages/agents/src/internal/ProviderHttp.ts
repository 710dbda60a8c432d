import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { Effect, Layer } from "effect"

/** `fetch`, without following redirects: fetch would hand `x-api-key` on to whatever host a redirect names. */
export const layer: Layer.Layer<HttpClient.HttpClient> = FetchHttpClient.layer.pipe(
  Layer.provide(Layer.succeed(FetchHttpClient.RequestInit, { redirect: "manual" }))
)

/**
 * Fails on every status but 2xx with the response at hand, and on a body that was cut off as a connection failure.
 * The generated clients lose the status of an error body they do not know, and take a cut body for malformed JSON.
 */
export const strict = (client: HttpClient.HttpClient): HttpClient.HttpClient =>
  client.pipe(HttpClient.filterStatusOk, HttpClient.transformResponse(Effect.tap(readWhole)))

const readWhole = (response: HttpClientResponse.HttpClientResponse) =>
  response.headers["content-type"]?.includes("text/event-stream")
    ? Effect.void
    : Effect.mapError(
        response.text,
        ({ cause }) =>
          new HttpClientError.RequestError({
            request: response.request,
            reason: "Transport",
            cause,
            description: "the connection closed before the whole answer had come"
          })
      )
