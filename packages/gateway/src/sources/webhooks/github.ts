import { Effect } from "effect"
import { WebhookTransformError, WebhookValidationError } from "../../domain/Errors.ts"
import type { WebhookAdapter, WebhookRequest } from "../WebhookAdapter.ts"
import { fieldOf, textOf } from "./fields.ts"
import { equalInConstantTime, hmac } from "./hmac.ts"
import type { WebhookSender } from "./Sender.ts"

const FORM = "application/x-www-form-urlencoded"

/** Kinds of which one run may handle several at once. Deployments are not among them: each is a decision of its own. */
const MERGED: ReadonlySet<string> = new Set([
  "check_run",
  "check_suite",
  "issues",
  "pull_request",
  "push",
  "workflow_job",
  "workflow_run"
])

const EVENT_NAME = /^\w{1,64}$/

const refuse = (req: WebhookRequest, status: 400 | 422, message: string) =>
  Effect.fail(new WebhookTransformError({ adapter: "github", path: req.path, status, message }))

/** A hook's content type is chosen on GitHub: JSON, or a form whose one field is the JSON. */
const jsonOf = (req: WebhookRequest): string =>
  req.headers["content-type"]?.toLowerCase().startsWith(FORM) === true
    ? (new URLSearchParams(req.body).get("payload") ?? "")
    : req.body

/** A line that tells this event from others of its kind, as a merged run lists it. */
const summaryOf = (event: string, payload: object, repository: string | undefined): string => {
  const subject = fieldOf(payload, event === "issues" ? "issue" : event)
  const number = fieldOf(subject, "number")
  const parts = [
    repository,
    typeof number === "number" ? `#${number}` : undefined,
    textOf(payload, "ref"),
    textOf(subject, "title") ?? textOf(subject, "name") ?? textOf(payload, "head_commit", "message")?.split("\n", 1)[0],
    textOf(payload, "action"),
    textOf(subject, "conclusion")
  ]
  return parts.filter((part) => part !== undefined).join(" ")
}

const signatureOf = (body: Uint8Array, secret: string): string => `sha256=${hmac("sha256", secret, [body], "hex")}`

/**
 * GitHub: `X-Hub-Signature-256` over the raw bytes, `X-GitHub-Delivery` as the delivery id. A redelivery has the same one.
 * GitHub signs the body alone, no header and no time: who holds a signed request can send it again under another id.
 *
 * Classified as `push`, `pull_request.opened`, …: the event, and its action if it has one. `ping`, GitHub's test of a new
 * hook, is let in only where `webhooks[].events` names it.
 *
 * Metadata: `event`, `action`, `repository` (its full name), `senderLogin` (what the payload says; not an identity),
 * `summary`, `mergeKey` for kinds that come in bursts, and `category: "deploy"` for `deployment`.
 *
 * Source: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
 */
export const github: WebhookAdapter = {
  source: "github",
  contentTypes: [FORM],
  optIn: ["ping"],
  validateSignature: (req, secret) => {
    const signature = req.headers["x-hub-signature-256"]
    if (signature === undefined) {
      return new WebhookValidationError({
        adapter: "github",
        path: req.path,
        message: "the header x-hub-signature-256 is missing; set a secret on the hook at GitHub"
      })
    }
    return Effect.succeed(equalInConstantTime(signature, signatureOf(req.rawBody, secret)))
  },
  transform: (req) => {
    const event = req.headers["x-github-event"]
    if (event === undefined || !EVENT_NAME.test(event)) {
      return refuse(req, 400, "the header x-github-event must name the event, such as push; GitHub always sends it")
    }
    const payload: unknown = JSON.parse(jsonOf(req))
    if (typeof payload !== "object" || payload === null || Array.isArray(payload)) {
      return refuse(req, 422, "the payload must be a JSON object, as GitHub's are")
    }
    const action = textOf(payload, "action")
    const repository = textOf(payload, "repository", "full_name")
    const senderLogin = textOf(payload, "sender", "login")
    const metadata: Record<string, string> = {
      adapter: "github",
      type: action === undefined ? event : `${event}.${action}`,
      event,
      summary: summaryOf(event, payload, repository)
    }
    if (action !== undefined) metadata.action = action
    if (repository !== undefined) metadata.repository = repository
    if (senderLogin !== undefined) metadata.senderLogin = senderLogin
    if (repository !== undefined && MERGED.has(event)) metadata.mergeKey = `github:${event}:${repository}`
    if (event === "deployment") metadata.category = "deploy"
    return Effect.succeed({
      id: req.headers["x-github-delivery"] ?? "",
      source: "webhook" as const,
      timestamp: req.receivedAt,
      payload,
      priority: "normal" as const,
      metadata
    })
  },
  classify: (event) => String(event.metadata.type)
}

/** As GitHub sends. */
export const sender: WebhookSender = {
  event: "push",
  example: () => ({ repository: { full_name: "example/hello" }, sender: { login: "postilion" } }),
  headers: ({ body, event, id }, secret) => ({
    "content-type": "application/json",
    "x-github-event": event,
    "x-github-delivery": id,
    ...(secret === undefined ? {} : { "x-hub-signature-256": signatureOf(body, secret) })
  })
}
