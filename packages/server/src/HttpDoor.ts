import { Reconfiguration, supervise, WebhookRouter } from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Effect, Either, Layer } from "effect"
import * as Access from "./Access.ts"
import { approvals } from "./api/Approvals.ts"
import { audit } from "./api/Audit.ts"
import { chat } from "./api/Chat.ts"
import { deliveries } from "./api/Deliveries.ts"
import { documents } from "./api/Document.ts"
import { events } from "./api/Events.ts"
import { gateway, switches } from "./api/Gateway.ts"
import { health } from "./api/Health.ts"
import { jobs } from "./api/Jobs.ts"
import * as Operations from "./api/Operations.ts"
import { policies } from "./api/Policies.ts"
import { deadLetters, push } from "./api/Push.ts"
import { runs } from "./api/Runs.ts"
import { sessions } from "./api/Sessions.ts"
import { tokens } from "./api/Tokens.ts"
import * as Conversations from "./Conversations.ts"
import * as Cors from "./Cors.ts"
import { type Answering, type Handler, type HttpHead, HttpListener } from "./HttpListener.ts"
import { Push } from "./push/Push.ts"
import * as Stopping from "./Stopping.ts"

export interface HttpDoorOptions extends Conversations.ConversationsOptions {
  /** Milliseconds that runs under way get to finish when the door closes. */
  readonly drainDeadlineMs: number
}

const WEBHOOKS = "/webhooks"

/** Bytes of sessions that are imported at a time: they are held in memory, and written in one step. */
const LARGEST_IMPORT = 16 * 1_048_576

const make = ({ drainDeadlineMs, ...options }: HttpDoorOptions) =>
  Effect.gen(function* () {
    const listener = yield* HttpListener
    const webhooks = yield* WebhookRouter
    const access = yield* Access.Access
    const { current } = yield* Reconfiguration
    const agents = () => Object.keys(current().agents)
    const conversations = yield* Conversations.make(options)
    const channels = yield* Push
    const stopping = yield* Stopping.Stopping

    const handlers = yield* Effect.all({
      gateway: gateway(agents),
      switches,
      events,
      approvals,
      deliveries,
      runs,
      push,
      deadLetters,
      chat: Effect.succeed(chat(conversations)),
      sessions: sessions(agents),
      jobs,
      policies,
      audit,
      tokens,
      health: health(() => stopping.until() !== undefined)
    })
    const readable = yield* documents
    const operations = Operations.make(handlers, { maxBodyBytes: { "sessions.import": LARGEST_IMPORT } })

    const operate = (head: HttpHead): Answering => {
      const { headers, method, path } = head
      const text = readable.get(path)
      if (text !== undefined) {
        if (method !== "GET" && method !== "HEAD") return Effect.succeed(Problem.methodNotAllowed(method, "GET, HEAD"))
        const checked = access.checkOrigin(headers)
        return Either.isLeft(checked) ? Effect.succeed(Access.answerOf(checked.left)) : text
      }
      const found = operations.find(path)
      if (found === undefined) return Effect.succeed(Problem.problem(404, `there is nothing at ${path}`))
      const operation = found.operations.get(method === "HEAD" ? "GET" : method)
      if (operation === undefined) {
        const methods = [...found.operations.keys()]
          .map((method) => (method === "GET" ? "GET, HEAD" : method))
          .join(", ")
        const { origin } = headers
        // A browser asks it for a page, without a token: what may be asked is no secret.
        return method === "OPTIONS" && origin !== undefined && Either.isRight(access.checkOrigin(headers))
          ? Effect.succeed(Cors.preflight(origin, methods))
          : Effect.succeed(Problem.methodNotAllowed(method, methods))
      }
      if (operation.action === undefined) return operation.answering(head, found.parts, undefined)
      const admitted = access.admit(head, operation.action)
      return Either.isLeft(admitted)
        ? Effect.succeed(Access.answerOf(admitted.left))
        : operation.answering(head, found.parts, admitted.right)
    }
    const answering: Handler = (head) => {
      const { headers, method, path } = head
      const { origin } = headers
      if (path.startsWith(`${WEBHOOKS}/`)) {
        // Only browsers name an origin. Where nothing is signed, it is all there is to tell their pages apart.
        const fromPage = origin === undefined ? Either.void : access.checkOrigin(headers)
        if (Either.isLeft(fromPage)) return Effect.succeed(Access.answerOf(fromPage.left))
        return {
          onBody: (rawBody, respond) =>
            webhooks.unsafeHandle({ method, path: path.slice(WEBHOOKS.length), headers, rawBody }, respond)
        }
      }
      return origin === undefined || Either.isLeft(access.checkOrigin(headers))
        ? operate(head)
        : Cors.readable(origin, operate(head))
    }

    yield* supervise("http listener", listener.accepting)
    yield* listener.serve(answering)
    yield* Stopping.onClose({ drainDeadlineMs, release: Effect.zipRight(conversations.close, channels.close) })
  })

/**
 * The gateway over HTTP.
 *
 * - `POST /webhooks/*` as `WebhookRouter` answers: nothing else stands before it.
 * - All operations of `Api`, as it declares them. Whether a token is for what it is used for is said in `Scopes`; health checks
 *   need none.
 * - `GET /openapi.json`, the document made of that declaration, and `GET /docs`, a page that shows it. Neither needs a token.
 *
 * Refusals are RFC 9457 problems. When the scope closes, events are refused with 503 and `retry-after`, runs under way may
 * finish within the deadline, and requests under way are answered, a second later at most; then what is behind the door closes.
 * A person's answer to an approval is still taken: it is kept, and acted upon by the next start.
 */
export const layer = (options: HttpDoorOptions) => Layer.scopedDiscard(make(options))
