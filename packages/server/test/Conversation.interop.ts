import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { browser, site, visit } from "./Chromium.ts"
import { converse, script, scriptFile } from "./Conversation.ts"

/** That of the Debian package `python3-websockets`, or another that has the library. */
const PYTHON = process.env.PYTHON ?? "/usr/bin/python3"

/** What a program printed, once it has ended well. */
const printed = (command: string, args: ReadonlyArray<string>) =>
  new Promise<string>((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] })
    let output = ""
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text
      })
    }
    child.on("error", reject)
    child.on("close", (code) => (code === 0 ? resolve(output) : reject(new Error(output))))
  })

describe("the same conversation as in Conversation.test.ts", () => {
  it.live("with Python's `websockets`", () =>
    Effect.gen(function* () {
      const player = fileURLToPath(new URL("./fixtures/play.py", import.meta.url))
      const output = yield* converse((url) => Effect.promise(() => printed(PYTHON, [player, scriptFile, url])))
      expect(output).toBe(`played ${script.length} steps\n`)
    })
  )

  it.scopedLive("with the WebSocket of a browser", () =>
    Effect.gen(function* () {
      const { origin } = yield* site
      const inside = yield* visit(yield* browser, origin)
      const played = yield* converse((url) => inside("play", script, url), { allowedOrigins: [origin] })
      expect(played).toBe(script.length)
    })
  )
})
