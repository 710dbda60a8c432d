import {
  type BudgetLedger,
  Explanation,
  GatewayService,
  type Journal,
  type Reconfiguration,
  type Store,
  supervise,
  WebhookRouter
} from "@postilion/gateway"
import * as Problem from "@postilion/gateway/domain/Problem"
import { Clock, Effect, Either, Fiber, Layer, Schema } from "effect"
import * as Access from "./Access.ts"
import * as ApprovalDoor from "./ApprovalDoor.ts"
import * as ChatDoor from "./ChatDoor.ts"
import * as ControlDoor from "./ControlDoor.ts"
import { json, orProblem } from "./HttpAnswers.ts"
import { type Answering, alive, type HttpHead, HttpListener } from "./HttpListener.ts"
import { filterOf, rangeOf } from "./HttpQueries.ts"
import * as Metrics from "./Metrics.ts"
import * as Readiness from "./Readiness.ts"
import type { Action } from "./Scopes.ts"
import * as TokenDoor from "./TokenDoor.ts"
import type { Tokens } from "./Tokens.ts"

export interface HttpDoorOptions extends ChatDoor.ChatDoorOptions {
  /** Milliseconds that runs under way get to finish when the door closes. */
  readonly drainDeadlineMs: number
}

/** A request that was let in: who asks, and what the path's pattern caught. */
interface Asked {
  readonly principal: Access.Principal
  readonly head: HttpHead
  readonly parts: ReadonlyArray<string>
}

interface Route {
  readonly method: "GET" | "POST" | "DELETE"
  readonly path: RegExp
  readonly action: Action
  readonly answering: (asked: Asked) => Answering
}

const WEBHOOKS = "/webhooks"

/** Milliseconds an answer gets to leave, also where the deadline has passed. */
const FLUSH = 1_000

const encodeExplanation = Schema.encodeSync(Explanation)
/** As text, for whoever asks for that and for nothing else. */
const explained = (id: string, found: Explanation | undefined, accept = ""): Problem.HttpAnswer => {
  if (found === undefined) return Problem.problem(404, `there is no event "${id}"`)
  if (!/^\s*text\/plain\b/i.test(accept)) return json(200, encodeExplanation(found))
  return { status: 200, headers: { "content-type": "text/plain; charset=utf-8" }, body: `${found.render()}\n` }
}

const make = ({ drainDeadlineMs, ...options }: HttpDoorOptions) =>
  Effect.gen(function* () {
    const listener = yield* HttpListener
    const gateway = yield* GatewayService
    const webhooks = yield* WebhookRouter
    const chat = yield* ChatDoor.make(options)
    const approvals = yield* ApprovalDoor.make
    const control = yield* ControlDoor.make
    const tokens = yield* TokenDoor.make
    const metrics = yield* Metrics.make
    const access = yield* Access.Access
    let draining = false

    const readiness = yield* Readiness.make(() => draining)
    const answerApproval =
      (verb: "approve" | "deny", { head, parts: [id = ""], principal }: Asked): Answering =>
      (body) =>
        approvals[verb](id, principal.name, head.headers["content-type"], body)
    const changeDelivery = (verb: "replayDelivery" | "dropDelivery", { parts: [id = ""], principal }: Asked) =>
      orProblem(Effect.map(gateway[verb](id, principal.name), (delivery) => json(200, delivery)))
    const routes: ReadonlyArray<Route> = [
      {
        method: "GET",
        path: /^\/status$/,
        action: "status",
        answering: () => Effect.map(gateway.status(), (status) => json(200, status))
      },
      {
        method: "GET",
        path: /^\/budget$/,
        action: "budget",
        answering: ({ head }) =>
          orProblem(
            Effect.flatMap(rangeOf(head.query), (range) =>
              Effect.map(gateway.budget(range), (report) => json(200, report))
            )
          )
      },
      {
        method: "GET",
        path: /^\/events\/([^/]+)$/,
        action: "events.own",
        answering: ({ parts: [id = ""], principal }) =>
          orProblem(
            Effect.map(gateway.find(id), (record) =>
              record !== undefined &&
              (access.allows(principal, "events.show") || ChatDoor.wasSaidBy(principal.name, record.event))
                ? json(200, record)
                : Problem.problem(404, `there is no event "${id}"`)
            )
          )
      },
      {
        method: "GET",
        path: /^\/events\/([^/]+)\/explain$/,
        action: "events.explain",
        answering: ({ head, parts: [id = ""] }) =>
          orProblem(Effect.map(gateway.explain(id), (found) => explained(id, found, head.headers.accept)))
      },
      { method: "GET", path: /^\/approvals$/, action: "approvals.list", answering: () => approvals.list },
      {
        method: "GET",
        path: /^\/approvals\/([^/]+)$/,
        action: "approvals.list",
        answering: ({ parts: [id = ""] }) => approvals.show(id)
      },
      {
        method: "POST",
        path: /^\/approvals\/([^/]+)\/approve$/,
        action: "approvals.approve",
        answering: (asked) => answerApproval("approve", asked)
      },
      {
        method: "POST",
        path: /^\/approvals\/([^/]+)\/deny$/,
        action: "approvals.deny",
        answering: (asked) => answerApproval("deny", asked)
      },
      {
        method: "GET",
        path: /^\/deliveries$/,
        action: "deliveries.list",
        answering: ({ head }) =>
          orProblem(
            Effect.flatMap(filterOf(head.query), (filter) =>
              Effect.map(gateway.deliveries(filter), (deliveries) => json(200, { deliveries }))
            )
          )
      },
      {
        method: "POST",
        path: /^\/deliveries\/([^/]+)\/replay$/,
        action: "deliveries.replay",
        answering: (asked) => changeDelivery("replayDelivery", asked)
      },
      {
        method: "POST",
        path: /^\/deliveries\/([^/]+)\/drop$/,
        action: "deliveries.drop",
        answering: (asked) => changeDelivery("dropDelivery", asked)
      },
      {
        method: "POST",
        path: /^(?:\/agents\/([^/]+))?\/(pause|resume|stop|terminate)$/,
        action: "control",
        answering: ({ parts: [agentId, verb = ""], principal }) => control.set(verb, agentId, principal.name)
      },
      {
        method: "POST",
        path: /^\/release$/,
        action: "control",
        answering: ({ principal }) => control.release(principal.name)
      },
      { method: "GET", path: /^\/metrics$/, action: "metrics", answering: () => metrics },
      { method: "GET", path: /^\/tokens$/, action: "tokens.list", answering: () => tokens.list },
      {
        method: "POST",
        path: /^\/tokens$/,
        action: "tokens.create",
        answering:
          ({ head, principal }) =>
          (body) =>
            tokens.create(principal, head.headers["content-type"], body)
      },
      {
        method: "DELETE",
        path: /^\/tokens\/([^/]+)$/,
        action: "tokens.revoke",
        answering: ({ parts: [id = ""], principal }) => tokens.revoke(id, principal)
      },
      {
        method: "POST",
        path: /^\/chat$/,
        action: "session.send",
        answering:
          ({ head, principal }) =>
          (body) =>
            chat.say(principal.name, head.headers["content-type"], body)
      }
    ]

    /** What is asked by whatever keeps this process running, without a token. */
    const probes = new Map([
      ["/livez", Effect.succeed(alive)],
      ["/readyz", readiness],
      ["/startupz", Effect.succeed(json(200, { status: "started" }))]
    ])

    const answering = (head: HttpHead): Answering => {
      const { headers, method, path } = head
      if (path.startsWith(`${WEBHOOKS}/`)) {
        // Only browsers name an origin. Where nothing is signed, it is all there is to tell their pages apart.
        const fromPage = headers.origin === undefined ? Either.void : access.checkOrigin(headers)
        if (Either.isLeft(fromPage)) return Effect.succeed(Access.answerOf(fromPage.left))
        return (rawBody) => webhooks.handle({ method, path: path.slice(WEBHOOKS.length), headers, rawBody })
      }
      const asked = method === "HEAD" ? "GET" : method
      const health = probes.get(path)
      if (health !== undefined) {
        return asked === "GET" ? health : Effect.succeed(Problem.methodNotAllowed(method, "GET, HEAD"))
      }
      const allowed = new Set<string>()
      for (const route of routes) {
        const match = route.path.exec(path)
        if (match === null) continue
        allowed.add(route.method === "GET" ? "GET, HEAD" : route.method)
        if (asked !== route.method) continue
        const admitted = access.admit(head, route.action)
        return Either.isLeft(admitted)
          ? Effect.succeed(Access.answerOf(admitted.left))
          : route.answering({ principal: admitted.right, head, parts: match.slice(1) })
      }
      if (allowed.size > 0) return Effect.succeed(Problem.methodNotAllowed(method, [...allowed].join(", ")))
      return Effect.succeed(Problem.problem(404, `there is nothing at ${path}`))
    }

    yield* supervise("http listener", listener.accepting)
    yield* listener.serve(answering)
    const close = Effect.gen(function* () {
      draining = true
      const began = yield* Clock.currentTimeMillis
      const drained = yield* gateway.drain(drainDeadlineMs)
      if (!drained.finished) {
        yield* Effect.logWarning(
          `drainDeadlineMs (${drainDeadlineMs}) has passed; the next start tries again what still ran: ${drained.running}`
        )
      }
      yield* chat.close
      const left = began + drainDeadlineMs - (yield* Clock.currentTimeMillis)
      yield* listener.settle(Math.max(left, FLUSH))
    })
    // Before anything behind the door closes. In a fiber of its own: a finalizer cannot be interrupted, not by its timeouts either.
    yield* Effect.addFinalizer(() => Effect.flatMap(Effect.forkDaemon(Effect.interruptible(close)), Fiber.join))
  })

/**
 * The gateway over HTTP.
 *
 * - `POST /webhooks/*` as `WebhookRouter` answers. `GET /livez`, 200 while the process lives. `GET /startupz`, 200 once the
 *   gateway has started, and `GET /readyz`, 200 while it is of use to send something here, else 503.
 * - With `Authorization: Bearer <token>`: `GET /status`, `GET /budget?from=…&to=…`, `GET /events/:id`,
 *   `GET /events/:id/explain` (JSON, or text with `Accept: text/plain`), `GET /approvals`, `GET /approvals/:id`,
 *   `POST /approvals/:id/approve`, `POST /approvals/:id/deny` (see `ApprovalDoor`), `GET /deliveries?state=…`,
 *   `POST /deliveries/:id/replay`, `POST /deliveries/:id/drop`, `POST /chat` (see `ChatDoor`), `POST /pause`, `/resume`, `/stop`,
 *   `/terminate`, and the same below `/agents/:id`, `POST /release` (see `ControlDoor`), `GET /metrics`, `GET /tokens`, `POST /tokens`, `DELETE /tokens/:id` (see
 *   `TokenDoor`).
 * - Whether a token is for what it is used for is said in `Scopes`.
 *
 * Refusals are RFC 9457 problems. When the scope closes, events are refused with 503 and `retry-after`, runs under way may
 * finish within the deadline, and requests under way are answered, a second later at most; then what is behind the door closes.
 * A person's answer to an approval is still taken: it is kept, and acted upon by the next start.
 */
export const layer = (
  options: HttpDoorOptions
): Layer.Layer<
  never,
  never,
  | Access.Access
  | Tokens
  | HttpListener
  | GatewayService
  | Reconfiguration
  | BudgetLedger
  | Journal
  | Store
  | WebhookRouter
> => Layer.scopedDiscard(make(options))
