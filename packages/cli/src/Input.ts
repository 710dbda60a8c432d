import { readFileSync } from "node:fs"
import { Effect } from "effect"
import { type CliError, failed } from "./Failure.ts"

/** The bytes of a file; `-` is what is typed or piped in. */
export const bytesOf = (file: string): Effect.Effect<Buffer, CliError> =>
  Effect.try({
    try: () => readFileSync(file === "-" ? 0 : file),
    catch: (cause) =>
      failed(
        `"${file}" cannot be read: ${cause instanceof Error ? cause.message : cause}`,
        "name a file, or - to pipe it in"
      )
  })
