import { existsSync } from "node:fs"
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import type { SchedulingPolicy } from "@postilion/gateway"
import { Duration, Effect, Option, Record } from "effect"
import { type Loaded, load } from "../Configuration.ts"
import { failed } from "../Failure.ts"
import * as Flags from "../Flags.ts"
import { print, printJson, progress } from "../Output.ts"
import { records } from "../Reach.ts"

const isPolicy = (value: unknown): value is SchedulingPolicy =>
  typeof value === "object" &&
  value !== null &&
  "_tag" in value &&
  typeof value._tag === "string" &&
  "evaluate" in value &&
  typeof value.evaluate === "function"

const WHAT = "name a configuration, or a module in JavaScript that exports policies"

const module = (file: string) =>
  Effect.tryPromise({
    try: () => import(pathToFileURL(resolve(file)).href) as Promise<{ readonly default?: unknown }>,
    catch: (cause) =>
      failed(`"${file}" cannot be loaded: ${cause instanceof Error ? cause.message : cause}`, WHAT, cause)
  })

/** The policies to judge by: those of another configuration, or those of a module beside the configured ones. */
const candidates = (file: string, { config }: Loaded) =>
  Effect.gen(function* () {
    const { Gateway, Policy } = yield* Effect.promise(() => import("@postilion/gateway"))
    if (!existsSync(file)) return yield* failed(`there is no "${resolve(file)}"`, WHAT)
    if (/\.(ya?ml|json)$/i.test(file)) return Gateway.builtInPolicies((yield* load(file)).config)
    const { default: exported } = yield* module(file)
    // A module that stands alone has no package to import: it is given what makes policies.
    const own = [typeof exported === "function" ? exported(Policy) : exported].flat()
    const strange = own.findIndex((policy) => !isPolicy(policy))
    if (strange !== -1) {
      return yield* failed(
        `"${file}" exports something that is no policy`,
        "its default export has to be a policy, as `Policy.make` makes one, or a list of them"
      )
    }
    const policies = own.filter(isPolicy)
    const named = new Set(policies.map(({ _tag }) => _tag))
    return [...Gateway.builtInPolicies(config).filter(({ _tag }) => !named.has(_tag)), ...policies]
  })

/** An instant, or how long before now: `-30 days`. */
const instantOf = (text: string): Date | string | undefined => {
  const [, ago] = /^\s*-\s*(.*)$/.exec(text) ?? []
  if (ago !== undefined) return Option.isSome(Duration.decodeUnknown(ago)) ? text : undefined
  return Number.isNaN(Date.parse(text)) ? undefined : new Date(text)
}
const time = (name: string, about: string) =>
  Flags.read(
    name,
    "time",
    `${about} An ISO 8601 time, or "-30 days". Default: all there are.`,
    instantOf,
    'a time such as 2026-01-31T09:00:00Z, or "-30 days"'
  )

export const backtest = Command.make(
  "backtest",
  {
    policies: Options.text("policies").pipe(
      Options.withPseudoName("file"),
      Options.withDescription(
        "Another configuration, whose built-in policies judge, at the limits that were recorded; or a module of JavaScript, whose default export is a policy, several, or a function that is given `Policy` and makes them: they judge beside the configured ones, or in place of one of the same name."
      )
    ),
    from: time("from", "Events received from here on."),
    to: time("to", "Events received before."),
    json: Flags.json,
    ...Flags.configured
  },
  ({ config: given, from, json, policies: file, to }) =>
    Effect.gen(function* () {
      const loaded = yield* load(given)
      const policies = yield* candidates(file, loaded)
      const { Backtest } = yield* Effect.promise(() => import("@postilion/gateway"))
      const bar = progress("judging")
      const { limits, policies: configured, prices, timezone } = loaded.config
      // Without what only a server has to know of them.
      const agents = Record.map(
        loaded.config.agents,
        ({ budget, instructions, maxConcurrentRuns, maxOutputTokens }) => ({
          instructions,
          maxOutputTokens,
          ...(budget === undefined ? {} : { budget }),
          ...(maxConcurrentRuns === undefined ? {} : { maxConcurrentRuns })
        })
      )
      const report = yield* Backtest.run({
        policies,
        config: { agents, limits, policies: configured, prices, timezone },
        onProgress: (events) => bar.tell(events, undefined),
        ...(from === undefined ? {} : { from }),
        ...(to === undefined ? {} : { to })
      }).pipe(Effect.provide(yield* records(loaded)), Effect.ensuring(Effect.sync(bar.done)))
      yield* json ? printJson(report) : print(report.render())
    })
).pipe(
  Command.withDescription(
    "Judges recorded events again by other policies, and says which decisions, model calls, tokens and dollars differ. Nothing is written or run."
  )
)
