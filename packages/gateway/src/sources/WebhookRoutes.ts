import { Effect, Redacted } from "effect"
import type { WebhookConfig } from "../domain/Config.ts"
import { GatewayConfigError } from "../domain/Errors.ts"
import type { WebhookAdapter } from "./WebhookAdapter.ts"
import { BUILT_IN } from "./webhooks/builtIn.ts"

export interface WebhookRouterOptions {
  readonly webhooks: ReadonlyArray<WebhookConfig>
  /** Besides `github` and `generic`; one of the same name takes the built-in's place. Default: none. */
  readonly adapters?: ReadonlyArray<WebhookAdapter>
}

/** A path, and how what comes there is read. */
export interface Route {
  readonly config: WebhookConfig
  readonly adapter: WebhookAdapter
  /** `undefined`: requests need no signature. */
  readonly secret: Redacted.Redacted<string> | undefined
  readonly window: MinuteWindow
}

export const MINUTE = 60_000

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

const names = (filter: ReadonlyArray<string>, type: string): boolean =>
  filter.some((name) => type === name || type.startsWith(`${name}.`))

/** Whether a request that was classified so becomes an event. */
export const isLetIn = ({ config, adapter }: Route, type: string): boolean =>
  config.events === undefined ? adapter.optIn === undefined || !names(adapter.optIn, type) : names(config.events, type)

/** What `webhooks[].adapter` may be. */
export const adapterNames = (adapters: ReadonlyArray<WebhookAdapter> = []): ReadonlyArray<string> => [
  ...new Set([...BUILT_IN.keys(), ...adapters.map(({ source }) => source)])
]

/** The routes by path. `before`: what has come this minute still counts. */
export const make = (
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
