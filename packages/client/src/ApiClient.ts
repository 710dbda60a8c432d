import * as HttpApiClient from "@effect/platform/HttpApiClient"
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { Effect, type ParseResult, Redacted, Schema, Stream } from "effect"
import { Api } from "./Api.ts"
import { Evidence, Verified } from "./api/Audit.ts"
import { type ApiProblem, Problem } from "./api/Problem.ts"

export { ApiProblem } from "./api/Problem.ts"

export interface ApiClientOptions {
  /** Where the gateway is: `http://127.0.0.1:8765`. */
  readonly baseUrl: string
  /** Sent as `Authorization: Bearer`. Default: none; then only the health checks are answered. */
  readonly token?: Redacted.Redacted<string> | string | undefined
}

/** `ApiProblem`: the gateway refused. The others: it was not reached, or what came is no answer of this API. */
export type ApiError = ApiProblem | HttpClientError.HttpClientError | ParseResult.ParseError

const decodeVerified = Schema.decodeUnknown(Schema.parseJson(Verified))
const encodeEvidence = Schema.encode(Evidence)

/**
 * A client of the REST API, over the `HttpClient` of the surroundings: `FetchHttpClient.layer` in a browser.
 *
 * ```ts
 * const gateway = yield* ApiClient.make({ baseUrl: "http://127.0.0.1:8765", token })
 * const { events } = yield* gateway.events.list({ urlParams: { state: "awaiting-approval" } })
 * yield* gateway.switches.pauseAgent({ path: { agentId: "ops" } })
 * ```
 */
export const make = ({ baseUrl, token }: ApiClientOptions) =>
  Effect.gen(function* () {
    const plain = yield* HttpClient.HttpClient
    const authorized = HttpClientRequest.bearerToken(Redacted.isRedacted(token) ? Redacted.value(token) : (token ?? ""))
    const httpClient = token === undefined ? plain : HttpClient.mapRequest(plain, authorized)
    const client = yield* HttpApiClient.makeWith(Api, { baseUrl, httpClient })

    /** What is answered line by line, as it comes. */
    const lines = (request: HttpClientRequest.HttpClientRequest): Stream.Stream<string, ApiError> =>
      Stream.unwrapScoped(
        Effect.gen(function* () {
          const response = yield* httpClient.execute(HttpClientRequest.prependUrl(request, baseUrl))
          if (response.status === 200) return response.stream
          return yield* Effect.flatMap(HttpClientResponse.schemaBodyJson(Problem)(response), Effect.fail)
        })
      ).pipe(Stream.decodeText(), Stream.splitLines)

    return {
      ...client,
      audit: {
        ...client.audit,
        /** Every record, one by one. */
        export: lines(HttpClientRequest.get("/audit/export")),
        /** How far it is, and last the verdict. */
        verify: (evidence: typeof Evidence.Type = {}): Stream.Stream<Verified, ApiError> =>
          Stream.unwrap(
            Effect.map(encodeEvidence(evidence), (body) =>
              lines(HttpClientRequest.bodyUnsafeJson(HttpClientRequest.post("/audit/verify"), body))
            )
          ).pipe(Stream.mapEffect(decodeVerified))
      },
      sessions: {
        ...client.sessions,
        /** Every session, then its turns: what `import` takes. */
        export: lines(HttpClientRequest.get("/sessions/export"))
      }
    }
  })

export type ApiClient = Effect.Effect.Success<ReturnType<typeof make>>
