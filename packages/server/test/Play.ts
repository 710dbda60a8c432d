/**
 * Plays a conversation, step by step, with any WebSocket: the same script for every library, and in a browser, so nothing here
 * may be Node's. `fixtures/play.py` does the same in Python.
 *
 * In a frame that is expected, what is not named does not matter, `$_` is anything, and another name with a `$` is whatever it was
 * first; in one that is sent, what it was then. `$ada.seq` is the last number that ada's sockets were told.
 */
export type Step =
  | { readonly says: string }
  /** Tried until it works. */
  | { readonly open: string }
  | { readonly send: string; readonly frame: unknown }
  | { readonly send: string; readonly text: string; readonly times?: number }
  /** The first frame like this that no step has had yet. */
  | { readonly expect: string; readonly frame: unknown }
  /** Of what came and no step has had, there is none like this. */
  | { readonly nothing: string; readonly like: unknown }
  | { readonly close: string; readonly code: number }
  | { readonly closed: string; readonly code: number }

export interface PlayedSocket {
  send(data: string): void
  close(code?: number): void
  addEventListener(type: "open" | "error", listener: () => void): void
  addEventListener(type: "message", listener: (event: { readonly data: unknown }) => void): void
  addEventListener(type: "close", listener: (event: { readonly code: number }) => void): void
}
export type PlayedConstructor = new (url: string) => PlayedSocket

interface Line {
  readonly socket: PlayedSocket
  /** What came, and no step has had yet. */
  readonly frames: Array<unknown>
  readonly closed: () => number | undefined
}
type Known = Map<string, unknown>

/** Milliseconds a step may take. */
const PATIENCE = 30_000

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null

const matches = (pattern: unknown, value: unknown, known: Known): boolean => {
  if (typeof pattern === "string" && pattern.startsWith("$")) {
    if (pattern === "$_") return true
    if (!known.has(pattern)) known.set(pattern, value)
    return known.get(pattern) === value
  }
  if (Array.isArray(pattern)) {
    return (
      Array.isArray(value) &&
      value.length === pattern.length &&
      pattern.every((part, i) => matches(part, value[i], known))
    )
  }
  if (!isObject(pattern)) return pattern === value
  return (
    isObject(value) && Object.entries(pattern).every(([key, part]) => key in value && matches(part, value[key], known))
  )
}

const filled = (value: unknown, known: Known): unknown => {
  if (typeof value === "string" && value.startsWith("$")) return known.get(value)
  if (Array.isArray(value)) return value.map((part) => filled(part, known))
  if (!isObject(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, filled(part, known)]))
}

const seqOf = (frame: unknown): unknown => (isObject(frame) && isObject(frame.params) ? frame.params.seq : undefined)

export const play = async (script: ReadonlyArray<Step>, url: string, WebSocket: PlayedConstructor): Promise<number> => {
  const lines = new Map<string, Line>()
  const known: Known = new Map()
  const waiting = new Set<() => void>()
  const tell = (): void => {
    for (const look of waiting) look()
  }
  /** Looks whenever something has come, until there is something to see. */
  const until = <A>(look: () => A | undefined): Promise<A> =>
    new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer)
        waiting.delete(again)
      }
      const again = (): void => {
        const seen = look()
        if (seen === undefined) return
        done()
        resolve(seen)
      }
      const timer = setTimeout(() => {
        done()
        reject(new Error("nothing came"))
      }, PATIENCE)
      waiting.add(again)
      again()
    })
  const lineOf = (name: string): Line => {
    const line = lines.get(name)
    if (line === undefined) throw new Error(`${name} has no socket`)
    return line
  }
  const open = (name: string): Promise<boolean> =>
    new Promise((resolve) => {
      const frames: Array<unknown> = []
      const socket = new WebSocket(url)
      let code: number | undefined
      socket.addEventListener("open", () => {
        lines.set(name, { socket, frames, closed: () => code })
        resolve(true)
      })
      socket.addEventListener("message", ({ data }) => {
        const frame: unknown = JSON.parse(String(data))
        const seq = seqOf(frame)
        if (seq !== undefined) known.set(`$${name}.seq`, seq)
        frames.push(frame)
        tell()
      })
      socket.addEventListener("error", () => {})
      socket.addEventListener("close", (event) => {
        code = event.code
        resolve(false)
        tell()
      })
    })
  const take = (name: string, pattern: unknown): Promise<true> => {
    const { frames } = lineOf(name)
    return until(() => {
      for (const [i, frame] of frames.entries()) {
        const learned = new Map(known)
        if (!matches(pattern, frame, learned)) continue
        for (const [variable, value] of learned) known.set(variable, value)
        frames.splice(i, 1)
        return true
      }
      return undefined
    })
  }
  const act = async (step: Step): Promise<void> => {
    if ("open" in step) {
      while (!(await open(step.open))) await new Promise((resolve) => setTimeout(resolve, 10))
    } else if ("send" in step) {
      const text = "text" in step ? step.text.repeat(step.times ?? 1) : JSON.stringify(filled(step.frame, known))
      lineOf(step.send).socket.send(text)
    } else if ("expect" in step) await take(step.expect, step.frame)
    else if ("nothing" in step) {
      const found = lineOf(step.nothing).frames.find((frame) => matches(step.like, frame, new Map(known)))
      if (found !== undefined) throw new Error(`there is ${JSON.stringify(found)}`)
    } else if ("close" in step) lineOf(step.close).socket.close(step.code)
    else if ("closed" in step) {
      const code = await until(lineOf(step.closed).closed)
      if (code !== step.code) throw new Error(`closed with ${code}`)
    }
  }
  let chapter = ""
  for (const [number, step] of script.entries()) {
    if ("says" in step) chapter = step.says
    try {
      await act(step)
    } catch (error) {
      const left = JSON.stringify([...lines].map(([name, { frames }]) => [name, frames]))
      throw new Error(`${chapter}: step ${number}, ${JSON.stringify(step)}: ${error}; not taken: ${left}`)
    }
  }
  return script.length
}
