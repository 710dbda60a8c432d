import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { PostilionConfigInput } from "@postilion/server"
import { Effect } from "effect"
import { eventually, SECRET } from "./Support.ts"

/** A server in a process of its own, and what it told. */
export interface Child {
  readonly process: ChildProcess
  /** The first message with this key. */
  readonly told: (key: string) => Effect.Effect<Record<string, unknown>>
  readonly finishRun: Effect.Effect<void>
  /** The exit code, or the signal that ended it, and what it printed. */
  readonly exit: Effect.Effect<{
    readonly code: number | null
    readonly signal: string | null
    readonly output: string
  }>
}

export interface StartOptions {
  /** The user it runs as. */
  readonly as?: { readonly uid: number; readonly gid: number }
  /** `crash`: its agent brings the process down. `spend`: its runs end by themselves, some of them with the process. */
  readonly mode?: "crash" | "spend"
}

/** Starts `Child.ts` with this configuration. It is killed with the scope. */
export const start = (config: PostilionConfigInput, { as, mode }: StartOptions = {}) =>
  Effect.acquireRelease(
    Effect.sync((): Child => {
      const full: PostilionConfigInput = {
        port: 0,
        webhooks: [{ path: "/github", adapter: "github", secret: SECRET }],
        ...config
      }
      const child = spawn(
        process.execPath,
        [
          "--conditions=@postilion/source",
          "--import",
          "tsx",
          fileURLToPath(new URL("./Child.ts", import.meta.url)),
          JSON.stringify(full),
          ...(mode === undefined ? [] : [mode])
        ],
        { stdio: ["ignore", "pipe", "pipe", "ipc"], ...as }
      )
      const messages: Array<Record<string, unknown>> = []
      let output = ""
      child.on("message", (message: Record<string, unknown>) => void messages.push(message))
      child.stdout?.on("data", (chunk) => {
        output += chunk
      })
      child.stderr?.on("data", (chunk) => {
        output += chunk
      })
      const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
        child.once("close", (code, signal) => resolve({ code, signal }))
      })
      const failed = Effect.flatMap(
        Effect.promise(() => exited),
        () => Effect.dieMessage(`the child ended: ${output}`)
      )
      return {
        process: child,
        told: (key) =>
          eventually(
            Effect.sync(() => messages.find((message) => key in message)),
            (message) => message !== undefined
          ).pipe(
            Effect.map((message) => message ?? {}),
            Effect.raceFirst(failed)
          ),
        finishRun: Effect.sync(() => void child.send("finish")),
        exit: Effect.map(
          Effect.promise(() => exited),
          (ended) => ({ ...ended, output })
        )
      }
    }),
    ({ process }) => Effect.sync(() => void process.kill("SIGKILL"))
  )

export const urlOf = (child: Child) => Effect.map(child.told("url"), ({ url }) => String(url))
