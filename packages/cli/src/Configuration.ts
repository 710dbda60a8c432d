import { existsSync, readFileSync } from "node:fs"
import { resolve } from "node:path"
import type { GatewayConfigError } from "@postilion/gateway"
import type { PostilionConfig } from "@postilion/server"
import { Effect, Schema } from "effect"
import { type CliError, misconfigured } from "./Failure.ts"

const DEFAULT_FILE = "gateway.yaml"

export interface Loaded {
  readonly file: string
  readonly config: PostilionConfig
  /** What is right, and had better be written otherwise. */
  readonly warnings: ReadonlyArray<string>
  /** Files that secrets are read from. */
  readonly secrets: ReadonlyArray<string>
  /** Keys whose secrets are written out. */
  readonly written: ReadonlyArray<string>
}

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
    const { PostilionConfig } = yield* Effect.promise(() => import("@postilion/server"))
    return {
      file,
      warnings: [],
      secrets: [],
      written: [],
      config: Schema.decodeUnknownSync(PostilionConfig)(JSON.parse(readFileSync(file, "utf8")))
    }
  })

/** The configuration, where there is one; one that was named has to be there. */
export const find = (given: string | undefined): Effect.Effect<Loaded | undefined, CliError | GatewayConfigError> =>
  given === undefined && !process.env.POSTILION_CONFIG && !existsSync(fileOf(undefined))
    ? Effect.succeed(undefined)
    : load(given)

export const shown = (_: Loaded): ReadonlyArray<{ key: string; value: unknown; from: string }> => []
