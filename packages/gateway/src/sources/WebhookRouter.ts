import { createHash } from "node:crypto"
import { Cause, Context, Effect, Layer, Redacted } from "effect"
import type { WebhookConfig } from "../domain/Config.ts"
import { GatewayConfigError, GatewayError, WebhookTransformError, WebhookValidationError } from "../domain/Errors.ts"
import type { GatewayEvent, RawInput } from "../domain/GatewayEvent.ts"
import * as Problem from "../domain/Problem.ts"
import { Admission, type Receipt } from "../harness/Admission.ts"
import type { WebhookAdapter, WebhookRequest } from "./WebhookAdapter.ts"
import { BUILT_IN } from "./webhooks/builtIn.ts"

/** What the HTTP listener hands over. Its limit on the size of bodies holds before this. */
export interface IncomingWebhook {
  readonly method: string
  /** Below `/webhooks`, without the query: `/github`. */
  readonly path: string
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  readonly rawBody: Uint8Array
}

export interface WebhookRouterOptions {
  readonly webhooks: ReadonlyArray<WebhookConfig>
  /** Besides `github` and `generic`; one of the same name takes the built-in's place. Default: none. */
  readonly adapters?: ReadonlyArray<WebhookAdapter>
}

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
  /** Prepares to serve these webhooks in place of those there are. What is prepared is done by calling it. */
  readonly reconfigure: (webhooks: ReadonlyArray<WebhookConfig>) => Effect.Effect<() => void, GatewayConfigError>
}

/** Turns signed HTTP requests into events. */
export class WebhookRouter extends Context.Tag("@postilion/gateway/WebhookRouter")<
  WebhookRouter,
  WebhookRouterShape
>() {}

interface Route {
  readonly config: WebhookConfig
  readonly adapter: WebhookAdapter
  /** `undefined`: requests need no signature. */
  readonly secret: Redacted.Redacted<string> | undefined
  readonly window: MinuteWindow
}

const MINUTE = 60_000

/**
 * Counts requests by the minute of the clock. Only those that were signed count, so that a stranger cannot use up what the
 * sender may send.
 */
class MinuteWindow {
  private minute = Number.NaN
  private count = 0
  private readonly limit: number

  constructor(limit: number, before?: MinuteWindow) {
    this.limit = limit
    this.minute = before?.minute ?? Number.NaN
    this.count = before?.count ?? 0
  }
  isFull(now: number): boolean {
    const minute = Math.floor(now / MINUTE)
    if (minute !== this.minute) {
      this.minute = minute
      this.count = 0
    }
    return this.count >= this.limit
  }
  /** Whether there was room for one more. */
  take(now: number): boolean {
    if (this.isFull(now)) return false
    this.count += 1
    return true
  }
}

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
  private decoded: string | undefined

  constructor({ headers, method, path, rawBody }: IncomingWebhook) {
    this.method = method
    this.path = path
    this.headers = Object.assign(Object.create(null), headers)
    this.rawBody = rawBody
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

const names = (filter: ReadonlyArray<string>, type: string): boolean =>
  filter.some((name) => type === name || type.startsWith(`${name}.`))

const isLetIn = ({ config, adapter }: Route, type: string): boolean =>
  config.events === undefined ? adapter.optIn === undefined || !names(adapter.optIn, type) : names(config.events, type)

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

/** What `webhooks[].adapter` may be. */
export const adapterNames = (adapters: ReadonlyArray<WebhookAdapter> = []): ReadonlyArray<string> => [
  ...new Set([...BUILT_IN.keys(), ...adapters.map(({ source }) => source)])
]

/** `before`: what has come this minute still counts. */
const routesOf = (
  options: WebhookRouterOptions,
  before?: ReadonlyMap<string, Route>
): Effect.Effect<ReadonlyMap<string, Route>, GatewayConfigError> =>
  Effect.gen(function* () {
    // Maps, because paths come from the network: an object has a `constructor`.
    const adapters = new Map([...BUILT_IN].map(([name, { adapter }]) => [name, adapter]))
    for (const adapter of options.adapters ?? []) adapters.set(adapter.source, () => adapter)

    const invalid = (path: string, message: string) =>
      new GatewayConfigError({ path, message: `configuration: ${path}: ${message}` })

    const routes = new Map<string, Route>()
    for (const [i, config] of options.webhooks.entries()) {
      const adapter = adapters.get(config.adapter)
      if (adapter === undefined) {
        const known = adapterNames(options.adapters).join(", ")
        return yield* invalid(`webhooks[${i}].adapter`, `there is no adapter "${config.adapter}"; adapters: ${known}`)
      }
      const secret = config.unsigned ? undefined : config.secret
      if (!config.unsigned && (secret === undefined || Redacted.value(secret) === "")) {
        return yield* invalid(`webhooks[${i}].secret`, "missing; set the secret the sender signs with")
      }
      routes.set(config.path, {
        config,
        adapter: adapter(config),
        secret,
        window: new MinuteWindow(config.maxPerMinute, before?.get(config.path)?.window)
      })
    }
    return routes
  })

export const make = (options: WebhookRouterOptions): Effect.Effect<WebhookRouterShape, GatewayConfigError, Admission> =>
  Effect.gen(function* () {
    const admission = yield* Admission
    const clock = yield* Effect.clock
    let routes = yield* routesOf(options)

    const submit = (route: Route, request: WebhookRequest, event: GatewayEvent): Effect.Effect<Problem.HttpAnswer> => {
      const type = route.adapter.classify(event)
      if (!isLetIn(route, type)) return Effect.succeed(filtered(type))
      return Effect.matchCauseEffect(admission.submit(inputOf(route, event, type, request)), {
        onFailure: (cause) => untaken(route, cause),
        onSuccess: (receipt) => Effect.succeed(accepted(receipt))
      })
    }
    const letIn = (route: Route, request: WebhookRequest) => {
      // Asked again: an adapter may take its time, and others be let in meanwhile.
      const now = clock.unsafeCurrentTimeMillis()
      if (!route.window.take(now)) return Effect.succeed(overRate(route, now))
      return Effect.flatMap(route.adapter.transform(request), (event) => submit(route, request, event))
    }
    // Not a generator, and the clock read as it is: this is run for each request.
    const receive = (route: Route, request: WebhookRequest): Effect.Effect<Problem.HttpAnswer> => {
      const { adapter, secret, window } = route
      const checked = Effect.suspend(() => {
        const arrived = clock.unsafeCurrentTimeMillis()
        if (window.isFull(arrived)) return Effect.succeed(overRate(route, arrived))
        if (secret === undefined) return letIn(route, request)
        return Effect.flatMap(adapter.validateSignature(request, Redacted.value(secret)), (valid) =>
          valid === true ? letIn(route, request) : Effect.succeed(unauthorized(route, MISMATCH))
        )
      })
      return Effect.catchAllCause(checked, (cause) => unread(route, cause))
    }

    return {
      reconfigure: (webhooks) =>
        Effect.map(routesOf({ ...options, webhooks }, routes), (next) => () => {
          routes = next
        }),
      handle: (incoming) => {
        const route = routes.get(incoming.path)
        if (route === undefined) {
          return Effect.succeed(
            Problem.problem(404, `there is no webhook at ${incoming.path}; paths are set by webhooks[].path`)
          )
        }
        if (incoming.method !== "POST") return Effect.succeed(Problem.methodNotAllowed(incoming.method, "POST"))
        const request = new Request(incoming)
        if (!isReadable(route.adapter, request.headers["content-type"])) {
          return Effect.succeed(
            Problem.problem(415, `${incoming.path}: the body must be JSON; send content-type: application/json`)
          )
        }
        return receive(route, request)
      }
    }
  })

export const layer = (options: WebhookRouterOptions): Layer.Layer<WebhookRouter, GatewayConfigError, Admission> =>
  Layer.effect(WebhookRouter, make(options))
