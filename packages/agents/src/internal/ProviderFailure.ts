import type * as AiError from "@effect/ai/AiError"
import { AgentRunError } from "@postilion/gateway"
import { Option, Schema } from "effect"

/** Which model failed, and where its user sets what it needs. */
export interface ProviderModel {
  readonly provider: string
  readonly model: string
  /** Names the credential a 401 is about: an environment variable or an option. */
  readonly credential: string
}

/**
 * What a run fails with when its model does. Retryable are 408, 429, every 5xx (529 among them) and connection failures.
 * `now` is in milliseconds, for a `retry-after` given as a date. HTTP failures are no cause of the result: they hold the
 * request's headers, and with them the key.
 */
export const toAgentRunError = (failure: AiError.AiError, of: ProviderModel, now: number): AgentRunError => {
  const where = `${of.provider} (model ${of.model})`
  switch (failure._tag) {
    case "HttpRequestError": {
      const detail = failure.description ?? codeOf(failure.cause) ?? failure.reason
      return new AgentRunError({
        message: `${where} cannot be reached at ${originOf(failure.request.url)}: ${detail}. Check the network and the URL.`,
        retryable: failure.reason === "Transport"
      })
    }
    case "HttpResponseError": {
      const { headers, status } = failure.response
      if (status === 401 || status === 403) {
        // Without the body: some servers repeat the key they refuse.
        return new AgentRunError({
          message: `${where} refused the credentials with ${status}: check ${of.credential} and what it may use.`,
          retryable: false
        })
      }
      const retryAfterMillis = parseRetryAfter(headers["retry-after"], now)
      return new AgentRunError({
        message: `${where} answered ${status}: ${explain(failure)}. ${adviceFor(status)}`,
        retryable: status === 408 || status === 429 || status >= 500,
        ...(retryAfterMillis === undefined ? {} : { retryAfterMillis })
      })
    }
    case "MalformedInput":
      return new AgentRunError({
        message: `${where} cannot be asked this: ${failure.description ?? "the prompt does not fit the model"}.`,
        retryable: false,
        cause: failure
      })
    case "MalformedOutput":
      return new AgentRunError({
        message:
          `${where} answered something that is not an answer of its API: ` +
          `${failure.description ?? "the body does not have the documented shape"}. Check the URL and the provider's status.`,
        retryable: false,
        cause: failure
      })
    case "UnknownError":
      return new AgentRunError({ message: `${where} failed: ${failure.message}.`, retryable: false, cause: failure })
  }
}

/**
 * `Retry-After` in milliseconds: whole seconds or an HTTP date, never negative.
 * @see https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
 */
export const parseRetryAfter = (header: string | undefined, now: number): number | undefined => {
  const value = header?.trim() ?? ""
  if (/^\d+$/.test(value)) return Number(value) * 1000
  const date = /^[A-Za-z]{3}/.test(value) ? Date.parse(value) : Number.NaN
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}

const adviceFor = (status: number): string => {
  if (status === 429) return "Try again later, or ask the provider for a higher limit."
  if (status === 408 || status >= 500) return "Try again later."
  if (status === 404) return "Check the model's name and the URL."
  if (status < 400) return "Check the URL: it must be that of the API itself."
  return "Check the model's name, the agent's maxOutputTokens and the length of its prompt."
}

/** Anthropic, OpenAI and the servers like them all answer errors in this shape. */
const ErrorBody = Schema.parseJson(Schema.Struct({ error: Schema.Struct({ message: Schema.String }) }))

const EXPLANATION_CHARACTERS = 300

const explain = ({ body, description, reason }: AiError.HttpResponseError): string => {
  if (reason !== "StatusCode") return description ?? "the body is not JSON"
  const text = Schema.decodeUnknownOption(ErrorBody)(body).pipe(
    Option.map(({ error }) => error.message),
    Option.getOrElse(() => body ?? "")
  )
  return text.trim().slice(0, EXPLANATION_CHARACTERS).replace(/\.$/, "") || "no explanation"
}

/** Without user, password, path and query, which may hold secrets. */
const originOf = (url: string): string => (URL.canParse(url) ? new URL(url).origin : "an invalid URL")

/** The system's code, such as ECONNREFUSED, deepest in the chain of causes: messages may repeat the URL. */
const codeOf = (cause: unknown): string | undefined => {
  if (!(cause instanceof Error)) return undefined
  const code = "code" in cause && typeof cause.code === "string" ? cause.code : undefined
  return codeOf(cause.cause) ?? code
}
