import { spawn } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { atFreePort, BIN, folder, follow, type Running } from "./Support.ts"

const page = readFileSync(join(import.meta.dirname, "../../../docs/getting-started.md"), "utf8")

/** The commands of the page, in order. */
const commands = [...page.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block = ""]) => block.trim().split("\n"))

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`

/** Types a command into a terminal: util-linux's `script` makes one, and passes on what the command ends with. */
const type = (line: string, cwd: string): Running => {
  const words = line.replace(/^postilion /, `${quoted(process.execPath)} ${quoted(BIN)} `)
  const { NO_COLOR: _, POSTILION_CONFIG: _c, POSTILION_TOKEN: _t, POSTILION_URL: _u, ...env } = process.env
  return follow(
    spawn("script", ["--quiet", "--flush", "--return", "--command", words, "/dev/null"], {
      cwd,
      env: { ...env, TERM: "xterm", SHELL: "/bin/sh" },
      stdio: ["pipe", "pipe", "pipe"]
    })
  )
}

describe("a person who begins", { timeout: 300_000 }, () => {
  it("goes from an empty folder to a gateway that is proved and stopped, as docs/getting-started.md has it", async () => {
    const cwd = folder()
    const known = new Map<string, string>()
    const seen = new Map<string, string>()
    let server: Running | undefined
    for (const command of commands) {
      const line = command.replaceAll(
        /\b(evt|apr)_…/g,
        (_, kind: string) => known.get(kind) ?? `no ${kind} was shown before`
      )
      if (line === "postilion start") {
        await atFreePort(cwd)
        server = type(line, cwd)
        await server.printed(/Postilion.* at http/)
        continue
      }
      const { code, stdout } = await type(line, cwd).ended
      expect(code, `${line}\n${stdout}`).toBe(0)
      for (const [id, kind = ""] of stdout.matchAll(/\b(evt|apr)_[0-9a-z]{26}\b/g))
        if (!known.has(kind)) known.set(kind, id)
      seen.set(command, stdout)
    }
    expect((await server?.ended)?.code).toBe(0)

    expect(seen.get("postilion webhook send /github --event deployment")).toContain("escalate")
    // The second one is kept: by then it has run.
    expect(seen.get("postilion explain evt_…")).toContain("approved by operator")
    expect(seen.get("postilion approvals list")).toContain("deployment")
    expect(seen.get("postilion budget")).toContain("offline-model")
    expect(seen.get("postilion audit verify")).toContain("\x1b[32mvalid\x1b[0m")
    expect([...seen.keys()]).toEqual(
      expect.arrayContaining([
        "postilion init --yes",
        "postilion check",
        "postilion stop",
        "postilion approvals approve apr_…"
      ])
    )
  })

  it("is asked by init what it needs to know, and what is offered is right", async () => {
    const cwd = folder()
    const asked = type("postilion init", cwd)
    for (const question of [/is your agent called/, /is it for/, /Which model/, /At which port/]) {
      await asked.printed(question)
      asked.process.stdin?.write("\r")
    }
    const { code, stdout } = await asked.ended
    expect(code, stdout).toBe(0)
    expect((await type("postilion check", cwd).ended).code).toBe(0)
  })

  it("and whoever answers with Ctrl-C has it end with 130, with nothing written and nothing said", async () => {
    const cwd = folder()
    const asked = type("postilion init", cwd)
    await asked.printed(/is your agent called/)
    asked.process.stdin?.write("\x03")
    const { code, stdout } = await asked.ended
    expect(code, stdout).toBe(130)
    expect(stdout).not.toContain("error")
    expect(existsSync(join(cwd, "gateway.yaml"))).toBe(false)
  })
})
