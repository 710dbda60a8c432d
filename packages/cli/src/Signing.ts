import { createHmac } from "node:crypto"
import type { WebhookConfig } from "@postilion/gateway/domain/Config"
import { Effect, Redacted } from "effect"
import { type CliError, failed } from "./Failure.ts"

/** What a sender says of a delivery besides its body. */
export interface Delivery {
  /** Told apart by it from others. */
  readonly id: string
  /** What happened, such as `push`. */
  readonly event: string
  /** Unix seconds. */
  readonly at: number
}

/** The headers that a sender of this adapter's kind would send along, with its signature. */
export const headersOf = (
  webhook: WebhookConfig,
  body: Buffer,
  { at, event, id }: Delivery
): Effect.Effect<Readonly<Record<string, string>>, CliError> => {
  const { adapter, algorithm, idHeader, secret, signatureHeader, timestampHeader } = webhook
  const signed = (prefix: string, ...parts: ReadonlyArray<string | Buffer>): string => {
    const mac = createHmac(
      adapter === "generic" ? algorithm : "sha256",
      secret === undefined ? "" : Redacted.value(secret)
    )
    for (const part of parts) mac.update(part)
    return `${prefix}${mac.digest("hex")}`
  }
  const json = { "content-type": "application/json" }
  switch (adapter) {
    case "github":
      return Effect.succeed({
        ...json,
        "x-github-event": event,
        "x-github-delivery": id,
        ...(secret === undefined ? {} : { "x-hub-signature-256": signed("sha256=", body) })
      })
    case "generic": {
      const stamped = timestampHeader === undefined ? [body] : [`${at}.`, body]
      return Effect.succeed({
        ...json,
        [idHeader]: id,
        ...(timestampHeader === undefined ? {} : { [timestampHeader]: String(at) }),
        ...(secret === undefined ? {} : { [signatureHeader]: signed(`${algorithm}=`, ...stamped) })
      })
    }
    default:
      return failed(
        `how the adapter "${adapter}" signs is not known here`,
        "github and generic are; of others, send what their service sends"
      )
  }
}
