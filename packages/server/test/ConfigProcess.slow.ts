import { spawn } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it, vi } from "@effect/vitest"
import { Effect } from "effect"
import { as, delivery, eventually, requestAt, SECRET, sign, tempDir } from "./Support.ts"

vi.setConfig({ testTimeout: 120_000 })

/** Starts a server on a file; it is killed with the scope. */
const start = (file: string, env: Record<string, string> = {}) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        spawn(
          process.execPath,
          [
            "--conditions=@postilion/source",
            "--import",
            "tsx",
            fileURLToPath(new URL("./FileChild.ts", import.meta.url)),
            file
          ],
          { stdio: ["ignore", "pipe", "pipe", "ipc"], env: { ...process.env, ...env } }
        )
      ),
      (child) => Effect.sync(() => void child.kill("SIGKILL"))
    ),
    (child) => {
      let output = ""
      const read = (chunk: unknown): void => {
        output += String(chunk)
      }
      child.stdout?.on("data", read)
      child.stderr?.on("data", read)
      const exit = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)))
      const url = new Promise<string>((resolve, reject) => {
        child.once("message", (message: { readonly url: string }) => resolve(message.url))
        child.once("close", () => reject(new Error(`the child ended: ${output}`)))
      })
      url.catch(() => {})
      return {
        kill: (signal: NodeJS.Signals) => Effect.sync(() => void child.kill(signal)),
        url: Effect.promise(() => url),
        exit: Effect.promise(() => exit),
        output: Effect.sync(() => output)
      }
    }
  )

const FILE = `storage: ":memory:"
port: 0
tokens: { ada: "\${ADA}" }
webhooks: [{ path: /github, adapter: github, secret: "file:github.secret" }]
`

describe("a process on a gateway.yaml", () => {
  it.scopedLive("serves, takes another secret on SIGHUP, and ends on SIGTERM with status 0", () =>
    Effect.gen(function* () {
      const folder = yield* tempDir
      const file = join(folder, "gateway.yaml")
      writeFileSync(file, FILE)
      writeFileSync(join(folder, "github.secret"), "an old one\n", { mode: 0o600 })
      const child = yield* start(file, { ADA: "t0ken" })
      const url = yield* child.url
      const push = (id: string) =>
        Effect.map(requestAt(url, "/webhooks/github", delivery("push", id)), ({ status }) => status)
      expect(sign("")).toContain("sha256=")
      expect(yield* push("d1")).toBe(401)
      writeFileSync(join(folder, "github.secret"), `${SECRET}\n`)
      // The file is the same, so nobody looks again until told to.
      yield* child.kill("SIGHUP")
      yield* eventually(child.output, (output) => output.includes("was read again"))
      expect(yield* push("d1")).toBe(202)
      const { body } = yield* requestAt(url, "/status", as("t0ken"))
      expect(body).toMatchObject({ config: { atRestart: [] }, stats: { webhooksReceived: 1 } })
      writeFileSync(file, `${FILE}prot: 1\n`)
      yield* eventually(child.output, (output) => output.includes('unknown key "prot"; did you mean "port"?'))
      expect(yield* push("d2")).toBe(202)
      yield* child.kill("SIGTERM")
      expect(yield* child.exit).toBe(0)
      const output = yield* child.output
      for (const secret of ["t0ken", "an old one", SECRET]) expect(output).not.toContain(secret)
      // It is the person's file.
      expect(readFileSync(file, "utf8")).toBe(`${FILE}prot: 1\n`)
    })
  )

  it.scopedLive("does not start on one that is broken, and shows all of it", () =>
    Effect.gen(function* () {
      const file = join(yield* tempDir, "gateway.yaml")
      writeFileSync(file, FILE)
      const child = yield* start(file, { ADA: "two words" })
      expect(yield* child.exit).not.toBe(0)
      const output = yield* child.output
      expect(output).toContain(`${file}:3:16: tokens.ada: a token has one or more letters`)
      expect(output).toContain(`${file}:4:54: webhooks[0].secret: cannot read`)
      expect(output).not.toContain("two words")
    })
  )
})
