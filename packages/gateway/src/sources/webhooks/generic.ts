import { createHash } from "node:crypto"
import { Effect } from "effect"
import type { WebhookConfig } from "../../domain/Config.ts"
import { WebhookValidationError } from "../../domain/Errors.ts"
import type { WebhookAdapter, WebhookRequest } from "../WebhookAdapter.ts"
import { textOf } from "./fields.ts"
import { equalInConstantTime, hmac } from "./hmac.ts"
import type { WebhookSender } from "./Sender.ts"

const UNIX_SECONDS = /^\d{1,12}$/
/** A classification ends up in filters, logs and tasks: anything but a short name is not one. */
const NAME = /^[\w.:/-]{1,128}$/

const nameOf = (payload: unknown): string =>
  ["type", "event", "action"]
    .map((key) => textOf(payload, key))
    .find((text) => text !== undefined && NAME.test(text)) ?? "webhook.received"

type Options = Pick<
  WebhookConfig,
  "algorithm" | "idHeader" | "signatureHeader" | "timestampHeader" | "toleranceSeconds"
>

/** What is signed. */
const signedOf = (timestamp: string | undefined, body: Uint8Array): ReadonlyArray<string | Uint8Array> =>
  timestamp === undefined ? [body] : [`${timestamp}.`, body]

/**
 * Any sender that signs with an HMAC in a header, as hex or base64, with or without `sha256=` (the hash's name) before it.
 * What is signed is the raw body, or `timestamp.body` where there is a timestamp header; then a request from further than
 * `toleranceSeconds` away, in the past or the future, is refused.
 *
 * The delivery id is the id header's; without it, what was signed is, so that the same bytes start one run.
 *
 * Classified by the payload's `type`, `event` or `action`, the first that is a name (at most 128 of `A-Z a-z 0-9 _ . : / -`),
 * else as `webhook.received`. Nothing else in the payload means anything to the gateway: the priority is `normal`.
 */
export const make = (options: Options): WebhookAdapter => {
  const { algorithm, toleranceSeconds } = options
  const idHeader = options.idHeader.toLowerCase()
  const signatureHeader = options.signatureHeader.toLowerCase()
  const timestampHeader = options.timestampHeader?.toLowerCase()
  const prefix = `${algorithm}=`
  const hexDigits = Number(algorithm.slice(3)) / 4

  const refuse = (req: WebhookRequest, message: string) =>
    new WebhookValidationError({ adapter: "generic", path: req.path, message })

  const matches = (req: WebhookRequest, given: string, secret: string): boolean => {
    const signature = given.startsWith(prefix) ? given.slice(prefix.length) : given
    const signed = signedOf(timestampHeader === undefined ? undefined : req.headers[timestampHeader], req.rawBody)
    return signature.length === hexDigits
      ? equalInConstantTime(signature.toLowerCase(), hmac(algorithm, secret, signed, "hex"))
      : equalInConstantTime(signature, hmac(algorithm, secret, signed, "base64"))
  }

  return {
    source: "generic",
    validateSignature: (req, secret) => {
      const signature = req.headers[signatureHeader]
      if (signature === undefined) return refuse(req, `the header ${signatureHeader} is missing; sign the request`)
      if (timestampHeader === undefined) return Effect.succeed(matches(req, signature, secret))
      const timestamp = req.headers[timestampHeader]
      if (timestamp === undefined || !UNIX_SECONDS.test(timestamp)) {
        return refuse(req, `the header ${timestampHeader} must say when this was sent, in Unix seconds`)
      }
      return Math.abs(req.receivedAt.getTime() / 1000 - Number(timestamp)) > toleranceSeconds
        ? refuse(req, `${timestampHeader} is more than ${toleranceSeconds} s from now; send it again, or set the clock`)
        : Effect.succeed(matches(req, signature, secret))
    },
    transform: (req) => {
      const payload: unknown = JSON.parse(req.body)
      const timestamp = timestampHeader === undefined ? undefined : req.headers[timestampHeader]
      const id =
        req.headers[idHeader] ??
        (timestamp === undefined ? "" : `${timestamp}.${createHash("sha256").update(req.rawBody).digest("hex")}`)
      return Effect.succeed({
        id,
        source: "webhook" as const,
        timestamp: req.receivedAt,
        payload,
        priority: "normal" as const,
        metadata: { adapter: "generic", type: nameOf(payload) }
      })
    },
    classify: (event) => String(event.metadata.type)
  }
}

/** A sender that signs as these options say. */
export const sender = ({ algorithm, idHeader, signatureHeader, timestampHeader }: Options): WebhookSender => ({
  event: "note",
  example: (event) => ({ type: event, text: "hello from postilion" }),
  headers: ({ at, body, id }, secret) => {
    const timestamp = timestampHeader === undefined ? {} : { [timestampHeader.toLowerCase()]: String(at) }
    const signed = signedOf(timestampHeader === undefined ? undefined : String(at), body)
    return {
      "content-type": "application/json",
      [idHeader.toLowerCase()]: id,
      ...timestamp,
      ...(secret === undefined
        ? {}
        : { [signatureHeader.toLowerCase()]: `${algorithm}=${hmac(algorithm, secret, signed, "hex")}` })
    }
  }
})
