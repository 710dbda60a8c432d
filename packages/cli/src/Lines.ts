import { once } from "node:events"
import { createWriteStream } from "node:fs"
import { Effect, Stream } from "effect"
import { failed } from "./Failure.ts"
import { print, progress, say } from "./Output.ts"

/** Writes lines to a file, where one is named, telling how far it is; else to where answers go. */
export const write = <E, R>(
  lines: Stream.Stream<string, E, R>,
  { file, total, what }: { readonly file: string | undefined; readonly total?: number; readonly what: string }
) => {
  if (file === undefined) return Stream.runForEach(lines, print)
  const bar = progress(`writing ${what}`)
  const refuse = (cause: unknown) =>
    failed(`"${file}" cannot be written: ${cause instanceof Error ? cause.message : cause}`, "name a file that may be")
  return Effect.gen(function* () {
    // Never over a file that is there: it may be the export before.
    const stream = yield* Effect.acquireRelease(
      Effect.tryPromise({
        try: async () => {
          const opened = createWriteStream(file, { flags: "wx", mode: 0o600 })
          await once(opened, "open")
          return opened
        },
        catch: refuse
      }),
      (opened) => Effect.promise(() => new Promise<void>((resolve) => opened.end(resolve)))
    )
    let written = 0
    yield* Stream.runForEach(lines, (line) =>
      Effect.tryPromise({
        try: async () => {
          if (!stream.write(`${line}\n`)) await once(stream, "drain")
          written += 1
          bar.tell(written, total)
        },
        catch: refuse
      })
    ).pipe(Effect.ensuring(Effect.sync(bar.done)))
    yield* say(`${file}: ${written.toLocaleString("en-US")} ${what}`)
  }).pipe(Effect.scoped)
}
