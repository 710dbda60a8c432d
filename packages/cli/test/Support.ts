import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { onTestFinished } from "vitest"

/** What a package that was installed puts into the path. */
export const BIN = join(import.meta.dirname, "../bin/postilion.js")

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly process: ChildProcess
  readonly ended: Promise<Ended>
  /** Resolves once what was printed, to either place, matches; fails when the process has ended without. */
  readonly printed: (pattern: RegExp) => Promise<string>
}

export interface Where {
  readonly cwd: string
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
}

/** An environment in which nothing of this machine's says which gateway is meant. */
const environment = (own: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv => {
  const { NO_COLOR: _, POSTILION_CONFIG: _c, POSTILION_TOKEN: _t, POSTILION_URL: _u, ...rest } = process.env
  return { ...rest, ...own }
}

/** Follows a child until it has ended. It is killed with the test. */
export const follow = (child: ChildProcess): Running => {
  let stdout = ""
  let stderr = ""
  const listeners = new Set<() => void>()
  const tell = () => {
    for (const listener of [...listeners]) listener()
  }
  child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
    stdout += chunk
    tell()
  })
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk
    tell()
  })
  const ended = new Promise<Ended>((resolve) => {
    child.once("close", (code) => resolve({ code, stdout, stderr }))
  })
  onTestFinished(() => void child.kill("SIGKILL"))
  return {
    process: child,
    ended,
    printed: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          if (!pattern.test(stdout + stderr)) return
          listeners.delete(look)
          resolve(stdout + stderr)
        }
        listeners.add(look)
        look()
        void ended.then(({ code }) => reject(new Error(`ended with ${code} before ${pattern}:\n${stdout}${stderr}`)))
      })
  }
}

/** Begins a command, as a process of its own. */
export const begin = (args: ReadonlyArray<string>, { cwd, env, input }: Where): Running => {
  const child = spawn(process.execPath, [BIN, ...args], { cwd, env: environment(env) })
  child.stdin.end(input ?? "")
  return follow(child)
}
/** Runs a command to its end. */
export const cli = (args: ReadonlyArray<string>, where: Where): Promise<Ended> => begin(args, where).ended

/** Runs commands one after the other in one process, which loads them once. */
export const batch = async (lines: ReadonlyArray<ReadonlyArray<string>>, { cwd, env }: Where) => {
  const child = spawn(process.execPath, [join(import.meta.dirname, "Batch.mjs"), JSON.stringify(lines)], {
    cwd,
    env: environment(env)
  })
  const { stderr, stdout } = await follow(child).ended
  const [, results] = stdout.split("\u0000")
  if (results === undefined) throw new Error(`the commands did not end: ${stderr}`)
  return JSON.parse(results) as ReadonlyArray<Ended>
}

/** An empty folder, gone with the test. */
export const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), "postilion-cli-"))
  onTestFinished(() => rmSync(made, { recursive: true, force: true }))
  return made
}

export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer().on("error", reject)
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

/** Has the configuration in a folder listen at a port that is free. */
export const atFreePort = async (cwd: string): Promise<number> => {
  const port = await freePort()
  const file = join(cwd, "gateway.yaml")
  writeFileSync(file, readFileSync(file, "utf8").replace(/^port: .*$/m, `port: ${port}`))
  return port
}

/** A folder with what `init` makes, at a port of its own. */
export const project = async (more = "") => {
  const cwd = folder()
  const made = await cli(["init", "--yes"], { cwd })
  if (made.code !== 0) throw new Error(made.stderr)
  const port = await atFreePort(cwd)
  const file = join(cwd, "gateway.yaml")
  writeFileSync(file, readFileSync(file, "utf8") + more)
  return { cwd, port, url: `http://127.0.0.1:${port}` }
}

/** Starts the gateway of a folder, and waits until it listens. */
export const start = async (cwd: string, ...flags: ReadonlyArray<string>): Promise<Running> => {
  const server = begin(["start", ...flags], { cwd })
  await server.printed(/Postilion at http/)
  return server
}
