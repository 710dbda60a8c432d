import type { Effect } from "effect"
import type { WebhookTransformError, WebhookValidationError } from "../domain/Errors.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"

/** A webhook request as an adapter sees it. */
export interface WebhookRequest {
  readonly method: string
  /** Below `/webhooks`, such as `/github`. */
  readonly path: string
  /** By lower-case name. Has no prototype: a header that was not sent is `undefined`, whatever its name. */
  readonly headers: Readonly<Record<string, string>>
  /** `rawBody` as UTF-8, decoded when first read. Reading a body that is not UTF-8 throws a `SyntaxError` (400). */
  readonly body: string
  /** The bytes as they were sent: what a signature is over. */
  readonly rawBody: Uint8Array
  /** When its body had arrived, by the gateway's clock. */
  readonly receivedAt: Date
}

/**
 * What the gateway must know of a sender of webhooks: how it signs, and what its requests mean. Adapters are trusted
 * code; the payloads they read are not.
 *
 * An adapter that throws, dies or fails with anything but the errors below is logged, and its request answered 500. As the
 * exception, a `SyntaxError` (what `JSON.parse` throws) is answered 400.
 *
 * ```ts
 * const acme: WebhookAdapter = {
 *   source: "acme",
 *   validateSignature: (req, secret) => Effect.succeed(verifyAcme(req.headers["acme-signature"], req.rawBody, secret)),
 *   transform: (req) => {
 *     const body = JSON.parse(req.body)
 *     return Effect.succeed({
 *       id: body.id,
 *       source: "webhook" as const,
 *       timestamp: req.receivedAt,
 *       payload: body,
 *       priority: "normal" as const,
 *       metadata: { type: body.type }
 *     })
 *   },
 *   classify: (event) => String(event.metadata.type)
 * }
 * ```
 */
export interface WebhookAdapter {
  /** The name that `webhooks[].adapter` refers to. */
  readonly source: string
  /** Media types read besides JSON (`application/json` and `*+json`). Default: none; others are answered 415. */
  readonly contentTypes?: ReadonlyArray<string>
  /** Classifications that are let in only when `webhooks[].events` names them, such as a sender's test. Default: none. */
  readonly optIn?: ReadonlyArray<string>
  /**
   * Whether the request was signed with `secret`; runs before anything is parsed. `false` or a `WebhookValidationError` is
   * answered 401, the error's message with it.
   */
  readonly validateSignature: (req: WebhookRequest, secret: string) => Effect.Effect<boolean, WebhookValidationError>
  /**
   * What the request says. A `WebhookTransformError` is answered with its status and message.
   *
   * `id` is the delivery's id, the same whenever the sender sends the delivery again: a second one is answered with the
   * first one's event id and starts nothing. `""` means there is none; then a signed request is known by its bytes. The
   * event gets an id of the gateway's own. `agentId` is used where the configuration names no agent. `sender` and
   * `sessionKey` are not used: a signature proves who holds the secret, and nothing that is said in the body.
   */
  readonly transform: (req: WebhookRequest) => Effect.Effect<GatewayEvent, WebhookTransformError>
  /** What kind of event it is, such as `pull_request.opened`: what `webhooks[].events` filters by. */
  readonly classify: (event: GatewayEvent) => string
}
