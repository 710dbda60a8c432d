import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { type Question, type ServerOptions, TELLING, type Told } from "./Protocol.ts"

export interface Call {
  readonly runId: string
  readonly eventId: string
  readonly attempt: number
}

export interface Ended {
  readonly code: number | null
  readonly signal: string | null
}

/** A server in a process of its own. */
export interface Child {
  readonly pid: number
  /** Where it listens, once it does; `undefined` when it ended before. Rejects when it takes too long. */
  readonly ready: Promise<string | undefined>
  readonly ended: Promise<Ended>
  readonly isAlive: () => boolean
  /** The end of what it logged. */
  readonly log: () => string
  /** Whether it did what it was asked; `false` when it ended first, or said that it could not. */
  readonly ask: (question: Question) => Promise<boolean>
  readonly signal: (signal: NodeJS.Signals) => void
  /** Waits for its end, and ends it when that takes too long; then it rejects. */
  readonly end: (within: number) => Promise<Ended>
}

/** A busy machine takes its time: what comes after a minute and a half does not come. Milliseconds. */
const READY_WITHIN = 90_000
const LOG_KEPT = 20_000

/** Compiled code starts in half the time; from sources, as the tests run, it takes what Node needs to read them. */
const isSource = import.meta.url.endsWith(".ts")
const file = fileURLToPath(new URL(isSource ? "./server.ts" : "./server.js", import.meta.url))
const flags = isSource ? ["--conditions=@postilion/source", "--import", "tsx"] : []

/** None of them outlives this process, not even one that is frozen. */
const alive = new Set<ChildProcess>()
process.once("exit", () => {
  for (const child of alive) child.kill("SIGKILL")
})

const within = <A>(promise: Promise<A>, millis: number, what: () => string): Promise<A> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${what()} within ${millis} ms`)), millis)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })

/** Starts a server whose clock is `shift` milliseconds from the real one. `onCall` is told whenever it calls an agent. */
export const start = (options: ServerOptions, shift: number, onCall: (call: Call) => void): Child => {
  const child: ChildProcess = spawn(process.execPath, [...flags, file, JSON.stringify(options)], {
    stdio: ["ignore", "pipe", "pipe", "pipe", "ipc"],
    env: { ...process.env, FAULTS_CLOCK_SHIFT: String(shift) }
  })
  alive.add(child)
  const waiting = new Map<number, (done: boolean) => void>()
  let log = ""
  let asked = 0
  let unread = ""
  let isReady = (_: string | undefined): void => {}
  const ready = new Promise<string | undefined>((resolve) => {
    isReady = resolve
  })
  const hear = (told: Told): void => {
    if ("call" in told) onCall(told.call)
    else if ("ready" in told) isReady(told.ready)
    else {
      if (told.error !== undefined) log += `${told.error}\n`
      waiting.get(told.answered)?.(told.error === undefined)
      waiting.delete(told.answered)
    }
  }
  child.stdio[TELLING]?.on("data", (chunk: Buffer) => {
    const lines = (unread + chunk.toString()).split("\n")
    unread = lines.pop() ?? ""
    for (const line of lines) hear(JSON.parse(line) as Told)
  })
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk: Buffer) => {
      log = (log + chunk.toString()).slice(-LOG_KEPT)
    })
  }
  // A channel that closes while something is sent is how a kill looks from here.
  child.on("error", (error) => {
    log += `${error.message}\n`
  })
  // `close` and not `exit`: then everything it told has been heard.
  const ended = new Promise<Ended>((resolve) => {
    child.once("close", (code, signal) => {
      alive.delete(child)
      isReady(undefined)
      for (const answer of waiting.values()) answer(false)
      resolve({ code, signal })
    })
  })
  const signal = (name: NodeJS.Signals): void => void child.kill(name)
  return {
    pid: child.pid ?? -1,
    ready: within(ready, READY_WITHIN, () => `the server was not ready\n${log}`),
    ended,
    isAlive: () => alive.has(child),
    log: () => log,
    ask: (question) =>
      new Promise((resolve) => {
        if (!child.connected) return resolve(false)
        asked += 1
        waiting.set(asked, resolve)
        child.send({ ...question, id: asked }, (error) => {
          if (error !== null) resolve(false)
        })
      }),
    signal,
    end: (millis) =>
      within(ended, millis, () => `the server did not end\n${log}`).catch(async (error: unknown) => {
        signal("SIGKILL")
        await ended
        throw error
      })
  }
}
