import { createHmac } from "node:crypto"
import type { Channel, OutboundMessage } from "@postilion/gateway"
import { between, LONGEST_TIMER, required, Secret, withDefault } from "@postilion/gateway/domain/ConfigFields"
import { ChannelSendError, type SendOutcome } from "@postilion/gateway/domain/Errors"
import { Clock, Effect, Redacted, Schema } from "effect"
import { refusalOf } from "./AddressPolicy.ts"
import * as OutboundHttp from "./OutboundHttp.ts"

const CallbackUrl = Schema.String.pipe(
  Schema.filter((text) => {
    const url = URL.canParse(text) ? new URL(text) : undefined
    if (url === undefined || (url.protocol !== "https:" && url.protocol !== "http:")) {
      return "must be an http or https URL"
    }
    return (url.username === "" && url.password === "") || "must not have a user or password in it; use `secret`"
  })
)
const SigningSecret = Secret.pipe(
  Schema.filter((secret) => keyOf(Redacted.value(secret)).length > 0 || "must not be empty")
)

/** A place on the web that takes answers. */
export const CallbackConfig = Schema.Struct({
  url: required(CallbackUrl, "Where messages are POSTed."),
  secret: required(
    SigningSecret,
    "What messages are signed with: `whsec_` and base64, as Standard Webhooks writes it, or any text."
  ),
  allowPrivate: withDefault(Schema.Boolean, false, "Whether the URL may lead to this machine or a private network."),
  deduplicates: withDefault(
    Schema.Boolean,
    false,
    "Whether the receiver drops what comes again with the same `idempotency-key`."
  ),
  timeoutMs: withDefault(between(1, LONGEST_TIMER), 10_000, "Milliseconds the receiver has to answer.")
})
export type CallbackConfig = typeof CallbackConfig.Type

/** Why nothing will be sent to the address in a URL. A name is checked when it is resolved; an address can be at once. */
export const refusedAddress = ({ allowPrivate, url }: Pick<CallbackConfig, "allowPrivate" | "url">) => {
  const host = new URL(url).hostname.replace(/^\[(.*)\]$/, "$1")
  const refusal = /^[\d.]+$|:/.test(host) ? refusalOf(host, allowPrivate) : undefined
  return refusal === undefined || { path: ["url"], message: refusal }
}

const PREFIX = "whsec_"
const keyOf = (secret: string): Buffer =>
  secret.startsWith(PREFIX) ? Buffer.from(secret.slice(PREFIX.length), "base64") : Buffer.from(secret, "utf8")

/** The signature of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, in base64 behind `v1,`. */
export const signatureOf = (secret: string, id: string, timestamp: number, body: string): string =>
  `v1,${createHmac("sha256", keyOf(secret)).update(`${id}.${timestamp}.${body}`).digest("base64")}`

/** The same for every attempt, to the byte. */
const bodyOf = ({ name }: Pick<Channel, "name">, message: OutboundMessage): string => {
  const { agentId, eventId, key, outcome, preparedAt, runId, target, text } = message
  return JSON.stringify({
    type: `run.${outcome}`,
    timestamp: preparedAt.toISOString(),
    data: { id: key, channel: name, target, text, agentId, eventId, runId }
  })
}

/** Milliseconds that `retry-after` asks for, in seconds or as a date. */
const retryAfterOf = (header: unknown, now: number): number | undefined => {
  if (typeof header !== "string") return undefined
  const millis = /^\d+$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - now
  return Number.isFinite(millis) && millis > 0 ? millis : undefined
}

/**
 * What a status other than 2xx says of the message. A receiver that answers has not taken it. 502 and 504 come from someone
 * between, who does not know.
 */
const outcomeOf = (status: number): SendOutcome => {
  if (status === 502 || status === 504) return "unknown"
  return status >= 500 || status === 408 || status === 425 || status === 429 ? "not-sent" : "rejected"
}

const MAX_ANSWER_BYTES = 65_536
const SHOWN = 200

/** A channel that POSTs each message as JSON, signed as Standard Webhooks are, to one URL. */
export const make = (name: string, config: CallbackConfig): Channel => ({
  name,
  deduplicates: config.deduplicates,
  send: (message) =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const timestamp = Math.floor(now / 1_000)
      const body = bodyOf({ name }, message)
      const answer = yield* OutboundHttp.post({
        url: new URL(config.url),
        headers: {
          "content-type": "application/json",
          "idempotency-key": message.key,
          "webhook-id": message.key,
          "webhook-timestamp": String(timestamp),
          "webhook-signature": signatureOf(Redacted.value(config.secret), message.key, timestamp, body)
        },
        body,
        allowPrivate: config.allowPrivate,
        timeoutMs: config.timeoutMs,
        maxAnswerBytes: MAX_ANSWER_BYTES
      })
      const { headers, status } = answer
      if (status >= 200 && status < 300) return { reference: `HTTP ${status}` }
      const retryAfterMillis = retryAfterOf(headers["retry-after"], now)
      const redirect = status >= 300 && status < 400 ? "; redirects are not followed" : ""
      const shown = answer.body.slice(0, SHOWN).replaceAll(/\s+/g, " ").trim()
      return yield* new ChannelSendError({
        channel: name,
        outcome: outcomeOf(status),
        message: `callback "${name}" answered ${status}${redirect}${shown === "" ? "" : `: ${shown}`}`,
        ...(retryAfterMillis === undefined ? {} : { retryAfterMillis })
      })
    }).pipe(
      Effect.catchTag("OutboundError", ({ cause, message, outcome }) =>
        Effect.fail(new ChannelSendError({ channel: name, outcome, message: `callback "${name}": ${message}`, cause }))
      )
    )
})
