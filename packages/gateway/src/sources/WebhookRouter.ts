import { createHash } from "node:crypto"
import { Cause, Context, Effect, Exit, Layer, Redacted, Runtime } from "effect"
import type { WebhookConfig } from "../domain/Config.ts"
import {
  type GatewayConfigError,
  GatewayError,
  WebhookTransformError,
  WebhookValidationError
} from "../domain/Errors.ts"
import type { GatewayEvent, RawInput } from "../domain/GatewayEvent.ts"
import * as Problem from "../domain/Problem.ts"
import { Admission, type Receipt } from "../harness/Admission.ts"
import type { WebhookAdapter, WebhookRequest } from "./WebhookAdapter.ts"
import * as Routes from "./WebhookRoutes.ts"
import { MINUTE, type Route, type WebhookRouterOptions } from "./WebhookRoutes.ts"

/** What the HTTP listener hands over. Its limit on the size of bodies holds before this. */
export interface IncomingWebhook {
  readonly method: string
  /** Below `/webhooks`, without the query: `/github`. */
  readonly path: string
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  readonly rawBody: Uint8Array
}

type Done = (answer: Problem.HttpAnswer) => void

export interface WebhookRouterShape {
  /**
   * Answers a webhook. Never fails: what goes wrong is an RFC 9457 problem.
   *
   * - 202 `{ eventId, status: "accepted" | "duplicate", decision }` once the event is committed, its place in `location`.
   *   `decision` is `null` when the policies have not answered yet.
   * - 200 `{ status: "filtered", type }` when `webhooks[].events` leaves it out. Not 202: nothing was kept.
   * - 404 no such path, 405 not a POST, 415 not JSON, 429 over `maxPerMinute` (`retry-after`), 401 not signed by the secret,
   *   400 not JSON after all, 422 not an event, 503 not now (`retry-after`), 500 the adapter failed; in this order.
   */
  readonly handle: (request: IncomingWebhook) => Effect.Effect<Problem.HttpAnswer>
  /** `handle` for plain code, which is told by `done`: it costs no fiber where the adapter answers at once. */
  readonly unsafeHandle: (request: IncomingWebhook, done: Done) => void
  /** Prepares to serve these webhooks in place of those there are. What is prepared is done by calling it. */
  readonly reconfigure: (webhooks: ReadonlyArray<WebhookConfig>) => Effect.Effect<() => void, GatewayConfigError>
}

/** Turns signed HTTP requests into events. */
export class WebhookRouter extends Context.Tag("@postilion/gateway/WebhookRouter")<
  WebhookRouter,
  WebhookRouterShape
>() {}

const utf8 = new TextDecoder("utf-8", { fatal: true })

const decode = (bytes: Uint8Array): string => {
  try {
    return utf8.decode(bytes)
  } catch (cause) {
    throw new SyntaxError("it is not UTF-8", { cause })
  }
}

class Request implements WebhookRequest {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly rawBody: Uint8Array
  readonly receivedAt: Date
  private decoded: string | undefined

  constructor({ headers, method, path, rawBody }: IncomingWebhook, receivedAt: Date) {
    this.method = method
    this.path = path
    this.headers = Object.assign(Object.create(null), headers)
    this.rawBody = rawBody
    this.receivedAt = receivedAt
  }
  /** Decoded late: what is not signed is not read. */
  get body(): string {
    this.decoded ??= decode(this.rawBody)
    return this.decoded
  }
}

const isReadable = (adapter: WebhookAdapter, contentType: string | undefined): boolean => {
  if (contentType === "application/json") return true
  const essence = contentType?.split(";", 1)[0]?.trim().toLowerCase() ?? ""
  return essence === "application/json" || essence.endsWith("+json") || adapter.contentTypes?.includes(essence) === true
}

const sha256 = (data: string | Uint8Array): string => createHash("sha256").update(data).digest("hex")

const LONGEST_ID = 256

/** The name of a delivery on its path, the same whenever it is sent again. */
const deliveryOf = (route: Route, event: GatewayEvent, request: WebhookRequest): string | undefined => {
  const prefix = `webhook:${route.config.path}:`
  // An adapter may read the id from the payload, so that it can be anything.
  if (typeof event.id === "string" && event.id !== "") {
    return prefix + (event.id.length > LONGEST_ID ? sha256(event.id) : event.id)
  }
  return route.secret === undefined ? undefined : prefix + sha256(request.rawBody)
}

/** Only what a signature can vouch for; what the server says of the event overrides what the adapter says. */
const inputOf = (route: Route, event: GatewayEvent, type: string, request: WebhookRequest): RawInput => ({
  source: "webhook",
  payload: event.payload,
  agentId: route.config.agentId ?? event.agentId,
  priority: event.priority,
  metadata: { ...event.metadata, adapter: route.adapter.source, path: route.config.path, type },
  timestamp: event.timestamp,
  replyTo: route.config.deliverTo,
  traceId: event.traceId,
  idempotencyKey: deliveryOf(route, event, request)
})
/** What kind of event it is, and what is submitted: nothing of one that is left out. */
const readingOf = (route: Route, event: GatewayEvent, request: WebhookRequest) => {
  const type = route.adapter.classify(event)
  return { type, input: Routes.isLetIn(route, type) ? inputOf(route, event, type, request) : undefined }
}

const json = { "content-type": "application/json" }

const accepted = ({ eventId, duplicate, decision }: Receipt): Problem.HttpAnswer => ({
  status: 202,
  headers: { ...json, location: `/events/${eventId}` },
  body: JSON.stringify({ eventId, status: duplicate ? "duplicate" : "accepted", decision: decision ?? null })
})

const filtered = (type: string): Problem.HttpAnswer => ({
  status: 200,
  headers: json,
  body: JSON.stringify({ status: "filtered", type })
})

const overRate = ({ config }: Route, now: number): Problem.HttpAnswer =>
  Problem.tooManyRequests(
    `more than ${config.maxPerMinute} requests this minute at ${config.path} (webhooks[].maxPerMinute); try again later`,
    Math.ceil((MINUTE - (now % MINUTE)) / 1000)
  )

const unauthorized = ({ config }: Route, why: string): Problem.HttpAnswer =>
  Problem.problem(401, `${config.path}: ${why}`)

const MISMATCH = "the signature does not match the body; sign it with the secret that is configured for this path"

const failed = ({ config, adapter }: Route, cause: Cause.Cause<unknown>): Effect.Effect<Problem.HttpAnswer> =>
  Effect.as(Effect.logError(`webhook ${config.path}: adapter "${adapter.source}" failed`, cause), Problem.internalError)

/** What is answered when the adapter did not make an event of the request. */
const unread = (route: Route, cause: Cause.Cause<unknown>): Effect.Effect<Problem.HttpAnswer> => {
  const error = Cause.squash(cause)
  const { path } = route.config
  if (error instanceof WebhookValidationError) return Effect.succeed(unauthorized(route, error.message))
  if (error instanceof WebhookTransformError && error.status !== 500) {
    return Effect.succeed(Problem.problem(error.status, `${path}: ${error.message}`))
  }
  if (error instanceof SyntaxError) {
    return Effect.succeed(Problem.problem(400, `${path}: the body must be JSON: ${error.message}`))
  }
  return failed(route, cause)
}

/** What is answered when the gateway did not take the event. */
const untaken = (route: Route, cause: Cause.Cause<GatewayError>): Effect.Effect<Problem.HttpAnswer> => {
  const error = Cause.squash(cause)
  if (!(error instanceof GatewayError)) {
    return Effect.as(Effect.logError(`webhook ${route.config.path}: submit died`, cause), Problem.internalError)
  }
  const answer = Problem.ofGatewayError(error)
  return error.reason === "storage"
    ? Effect.as(Effect.logError(`webhook ${route.config.path}: not stored`, cause), answer)
    : Effect.succeed(answer)
}

/** What `call` returns, or throws. */
const exitOf = <A>(call: () => A): Exit.Exit<A> => {
  try {
    return Exit.succeed(call())
  } catch (defect) {
    return Exit.die(defect)
  }
}

export const make = (options: WebhookRouterOptions): Effect.Effect<WebhookRouterShape, GatewayConfigError, Admission> =>
  Effect.gen(function* () {
    const admission = yield* Admission
    const clock = yield* Effect.clock
    const runCallback = Runtime.runCallback(yield* Effect.runtime<never>())
    let routes = yield* Routes.make(options)

    /** Goes on with what an effect comes to. Most adapters answer at once, which costs no fiber. */
    const after = <A, E>(call: () => Effect.Effect<A, E>, next: (exit: Exit.Exit<A, E>) => void): void => {
      const called = exitOf(call)
      if (Exit.isFailure(called)) next(Exit.failCause(called.cause))
      else if (Exit.isExit(called.value)) next(called.value as Exit.Exit<A, E>)
      else runCallback(called.value, { onExit: next })
    }

    // Plain code: this is run for each request.
    const receive = (route: Route, request: WebhookRequest, done: Done): void => {
      const { adapter, secret, window } = route
      const say = (answer: Effect.Effect<Problem.HttpAnswer>): void =>
        after(
          () => answer,
          (exit) => done(Exit.isSuccess(exit) ? exit.value : Problem.internalError)
        )
      const submit = (input: RawInput): void =>
        admission.unsafeSubmit(input, (exit) =>
          Exit.isSuccess(exit) ? done(accepted(exit.value)) : say(untaken(route, exit.cause))
        )
      const letIn = (): void => {
        // Asked again: an adapter may take its time, and others be let in meanwhile.
        const now = clock.unsafeCurrentTimeMillis()
        if (!window.take(now)) {
          done(overRate(route, now))
          return
        }
        after(
          () => adapter.transform(request),
          (exit) => {
            const read = Exit.flatMap(exit, (event) => exitOf(() => readingOf(route, event, request)))
            if (Exit.isFailure(read)) say(unread(route, read.cause))
            else if (read.value.input === undefined) done(filtered(read.value.type))
            else submit(read.value.input)
          }
        )
      }
      const arrived = request.receivedAt.getTime()
      if (window.isFull(arrived)) done(overRate(route, arrived))
      else if (secret === undefined) letIn()
      else {
        after(
          () => adapter.validateSignature(request, Redacted.value(secret)),
          (exit) => {
            if (Exit.isFailure(exit)) say(unread(route, exit.cause))
            else if (exit.value === true) letIn()
            else done(unauthorized(route, MISMATCH))
          }
        )
      }
    }

    const unsafeHandle: WebhookRouterShape["unsafeHandle"] = (incoming, done) => {
      const { method, path } = incoming
      const route = routes.get(path)
      if (route === undefined) {
        done(Problem.problem(404, `there is no webhook at ${path}; paths are set by webhooks[].path`))
      } else if (method !== "POST") done(Problem.methodNotAllowed(method, "POST"))
      else {
        const request = new Request(incoming, new Date(clock.unsafeCurrentTimeMillis()))
        if (isReadable(route.adapter, request.headers["content-type"])) receive(route, request, done)
        else done(Problem.problem(415, `${path}: the body must be JSON; send content-type: application/json`))
      }
    }
    return {
      reconfigure: (webhooks) =>
        Effect.map(Routes.make({ ...options, webhooks }, routes), (next) => () => {
          routes = next
        }),
      handle: (incoming) => Effect.async((resume) => unsafeHandle(incoming, (answer) => resume(Exit.succeed(answer)))),
      unsafeHandle
    }
  })

export const layer = (options: WebhookRouterOptions): Layer.Layer<WebhookRouter, GatewayConfigError, Admission> =>
  Layer.effect(WebhookRouter, make(options))
