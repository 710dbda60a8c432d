import { existsSync, readFileSync } from "node:fs"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpClient from "@effect/platform/HttpClient"
import type * as ApiClient from "@postilion/client/ApiClient"
import type { GatewayConfigError, Store } from "@postilion/gateway"
import { Effect, Redacted } from "effect"
import { find, type Loaded } from "./Configuration.ts"
import { type CliError, failed, misconfigured, temporary, usage } from "./Failure.ts"
import type { Connected } from "./Flags.ts"

export type Api = ApiClient.ApiClient

/** A gateway's address, and what it is asked with. */
export interface Target {
  readonly url: string
  readonly token: string | undefined
  /** Whether somebody said so, rather than the configuration. */
  readonly named: boolean
  readonly loaded: Loaded | undefined
}

const EVERYWHERE: ReadonlySet<string> = new Set(["0.0.0.0", "::"])

/** Where the gateway of a configuration listens, as seen from here. */
const urlOf = ({ config: { host, port, ssl } }: Loaded): string | undefined => {
  if (port === 0) return undefined
  const local = EVERYWHERE.has(host) ? "127.0.0.1" : host.includes(":") ? `[${host}]` : host
  return `${ssl === undefined ? "http" : "https"}://${local}:${port}`
}

const tokenOf = ({ config: { tokens } }: Loaded): string | undefined => {
  const operator = Object.values(tokens).find(({ scopes }) => scopes.includes("operator"))
  return operator === undefined ? undefined : Redacted.value(operator.token)
}

const fromFile = (file: string): Effect.Effect<string, CliError> =>
  Effect.try({
    try: () => readFileSync(file, "utf8").trim(),
    catch: (cause) => failed(`the token's file "${file}" cannot be read`, "name one that is there and yours", cause)
  })

/** Finds out which gateway is meant: what is said on the command line, then the environment, then the configuration. */
export const target = (flags: Connected): Effect.Effect<Target, CliError | GatewayConfigError> =>
  Effect.gen(function* () {
    const { POSTILION_TOKEN, POSTILION_URL } = process.env
    const named = flags.url ?? (POSTILION_URL || undefined)
    if (named !== undefined && !URL.canParse(named)) {
      return yield* usage(`"${named}" is no URL`, "write it as http://127.0.0.1:8765")
    }
    const given = flags.tokenFile === undefined ? POSTILION_TOKEN || undefined : yield* fromFile(flags.tokenFile)
    const isWhole = named !== undefined && given !== undefined && flags.config === undefined
    const loaded = isWhole ? undefined : yield* find(flags.config)
    const own = loaded === undefined ? undefined : urlOf(loaded)
    const url = named ?? own
    if (url === undefined) {
      return yield* misconfigured(
        loaded === undefined ? "nothing says which gateway is meant" : "the configuration has no port of its own",
        "name it with --url or POSTILION_URL, or do this where its gateway.yaml is"
      )
    }
    // What a configuration holds is for its own gateway, and nobody else.
    const token = given ?? (loaded !== undefined && url === own ? tokenOf(loaded) : undefined)
    return { url: url.replace(/\/+$/, ""), token, named: named !== undefined, loaded }
  })

const ANSWERS_WITHIN = "5 seconds"

/** Whether something listens there. */
export const listens = (url: string): Effect.Effect<boolean> =>
  Effect.flatMap(HttpClient.HttpClient, (http) => http.get(`${url}/livez`)).pipe(
    Effect.timeout(ANSWERS_WITHIN),
    Effect.isSuccess,
    Effect.scoped,
    Effect.provide(FetchHttpClient.layer)
  )

/** That none runs, and what to do; `besides`: what else there is not. */
export const notRunning = ({ loaded, named, url }: Target, besides = ""): CliError =>
  temporary(
    `no gateway answers at ${url}${besides}`,
    loaded !== undefined && !named
      ? "start it first, with `postilion start`"
      : "start it, or name another one with --url"
  )

const apiAt = ({ token, url }: Target): Effect.Effect<Api> =>
  // What is not needed to say what is wrong is loaded when it is.
  Effect.flatMap(
    Effect.promise(() => import("@postilion/client/ApiClient")),
    ({ make }) => make({ baseUrl: url, token })
  ).pipe(Effect.provide(FetchHttpClient.layer))

/** The gateway that is meant, which runs. */
export const running = (flags: Connected): Effect.Effect<Target, CliError | GatewayConfigError> =>
  Effect.flatMap(target(flags), (meant) =>
    Effect.flatMap(listens(meant.url), (listening) => (listening ? Effect.succeed(meant) : notRunning(meant)))
  )

/** Does something that only a gateway that runs can. */
export const asking = <A, E>(
  flags: Connected,
  ask: (api: Api, target: Target) => Effect.Effect<A, E>
): Effect.Effect<A, E | CliError | GatewayConfigError> =>
  Effect.gen(function* () {
    const meant = yield* running(flags)
    return yield* ask(yield* apiAt(meant), meant)
  })

const hasRecords = ({ config: { storage } }: Loaded): boolean => storage !== ":memory:" && existsSync(storage)
const noRecords = ({ config: { storage } }: Loaded): string =>
  storage === ":memory:" ? "what it keeps is in its memory" : `there are no records yet in ${storage}`

/** The records of a gateway, as they are in its file. */
export const records = (loaded: Loaded) =>
  Effect.gen(function* () {
    if (!hasRecords(loaded)) {
      return yield* temporary(noRecords(loaded), "start the gateway once, or set `storage` to where its records are")
    }
    const { SqliteStorage } = yield* Effect.promise(() => import("@postilion/server"))
    return SqliteStorage.layerReadOnly({ filename: loaded.config.storage })
  })

/** Reads from the records where they are here: what is long would only hold up the gateway, or is to be held against it. */
export const readingRecords = <A, E, A2, E2>(
  flags: Connected,
  live: (api: Api) => Effect.Effect<A, E>,
  kept: (loaded: Loaded) => Effect.Effect<A2, E2, Store>
): Effect.Effect<A | A2, E | E2 | CliError | GatewayConfigError> =>
  Effect.gen(function* () {
    const loaded = flags.url === undefined && !process.env.POSTILION_URL ? yield* find(flags.config) : undefined
    if (loaded === undefined || !hasRecords(loaded)) return yield* reading(flags, live, kept)
    return yield* Effect.provide(kept(loaded), yield* records(loaded))
  })

/** Asks the gateway where it runs, and else looks at what it would start with. */
export const configured = <A, E, A2, E2>(
  flags: Connected,
  live: (api: Api) => Effect.Effect<A, E>,
  written: (loaded: Loaded, meant: Target) => Effect.Effect<A2, E2>
): Effect.Effect<A | A2, E | E2 | CliError | GatewayConfigError> =>
  Effect.gen(function* () {
    const meant = yield* target(flags)
    if (yield* listens(meant.url)) return yield* live(yield* apiAt(meant))
    const { loaded, named } = meant
    if (loaded === undefined || named) return yield* notRunning(meant)
    return yield* written(loaded, meant)
  })

/** Reads from the gateway where it runs, and else from its records. */
export const reading = <A, E, A2, E2>(
  flags: Connected,
  live: (api: Api) => Effect.Effect<A, E>,
  kept: (loaded: Loaded) => Effect.Effect<A2, E2, Store>
): Effect.Effect<A | A2, E | E2 | CliError | GatewayConfigError> =>
  configured(flags, live, (loaded, meant) =>
    hasRecords(loaded)
      ? Effect.flatMap(records(loaded), (store) => Effect.provide(kept(loaded), store))
      : notRunning(meant, `, and ${noRecords(loaded)}`)
  )
