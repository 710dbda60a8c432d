import { existsSync } from "node:fs"
import { resolve } from "node:path"
import type { GatewayConfigError } from "@postilion/gateway"
import type { ConfigFile } from "@postilion/server"
import { Effect } from "effect"
import { type CliError, misconfigured } from "./Failure.ts"

const DEFAULT_FILE = "gateway.yaml"

export type Loaded = ConfigFile.Loaded

/** The configuration's file: what is given, `POSTILION_CONFIG`, or `gateway.yaml` here. */
export const fileOf = (given: string | undefined): string =>
  resolve(given ?? (process.env.POSTILION_CONFIG || DEFAULT_FILE))

/** The configuration, which has to be there. */
export const load = (given: string | undefined): Effect.Effect<Loaded, CliError | GatewayConfigError> =>
  Effect.gen(function* () {
    const file = fileOf(given)
    if (!existsSync(file)) {
      return yield* misconfigured(`there is no "${file}"`, "make one with `postilion init`, or name it with --config")
    }
    const { ConfigFile } = yield* Effect.promise(() => import("@postilion/server"))
    return yield* ConfigFile.load(file)
  })

/** The configuration, where there is one; one that was named has to be there. */
export const find = (given: string | undefined): Effect.Effect<Loaded | undefined, CliError | GatewayConfigError> =>
  given === undefined && !process.env.POSTILION_CONFIG && !existsSync(fileOf(undefined))
    ? Effect.succeed(undefined)
    : load(given)

type Setting = ConfigFile.Setting
/** Where a value comes from, in a few words. */
export const originOf = ({ origin }: Setting): string => {
  if (origin.from === "default") return "default"
  const { column, line, secretFile, variables } = origin
  const besides = [
    ...variables.map((name) => `the variable ${name}`),
    ...(secretFile === undefined ? [] : [secretFile])
  ]
  return [`line ${line}:${column}`, ...besides].join(", ")
}

/** Secrets that stand in the configuration itself. */
export const writtenSecrets = ({ settings }: Loaded): ReadonlyArray<Setting> =>
  settings.filter(
    ({ origin, value }) =>
      value === "<redacted>" &&
      origin.from === "file" &&
      origin.secretFile === undefined &&
      origin.variables.length === 0
  )
