import { HttpAddress } from "@postilion/server"
import { Effect, type Scope } from "effect"
import { WebSocket } from "ws"

/** A frame as it came. */
export type Frame = Record<string, unknown> & {
  readonly id?: unknown
  readonly method?: string
  readonly params?: Record<string, unknown>
  readonly result?: Record<string, unknown>
  readonly error?: { readonly code: number; readonly message: string; readonly data: { readonly code: string } }
}

/** What a WebSocket of any library has. */
export interface AnySocket {
  send(data: string | Uint8Array): void
  close(code?: number): void
  addEventListener(type: "open" | "error", listener: () => void): void
  addEventListener(type: "message", listener: (event: { readonly data: unknown }) => void): void
  addEventListener(type: "close", listener: (event: { readonly code: number }) => void): void
}
export type Open = (url: string) => AnySocket

export const ofWs =
  (headers: Record<string, string> = {}): Open =>
  (url) =>
    new WebSocket(url, { headers }) as unknown as AnySocket

/** A socket as a client without our library has it: frames in, frames out. */
export interface Wire {
  readonly socket: AnySocket
  readonly frames: ReadonlyArray<Frame>
  /** Asks, and waits for what is answered. */
  readonly ask: (method: string, params?: unknown) => Effect.Effect<Frame>
  readonly send: (frame: unknown) => void
  /** The first frame, from the beginning, that is so. */
  readonly until: (isSo: (frame: Frame) => boolean) => Effect.Effect<Frame>
  /** The notifications of this kind so far. */
  readonly told: (method: string) => ReadonlyArray<Frame>
  /** The close code; 1006 when there was none. */
  readonly closed: Effect.Effect<number>
}

export const open = (how: Open = ofWs()): Effect.Effect<Wire, never, HttpAddress | Scope.Scope> =>
  Effect.gen(function* () {
    const { url } = yield* HttpAddress
    const socket = how(`${url.replace("http", "ws")}/ws`)
    yield* Effect.addFinalizer(() => Effect.sync(() => socket.close()))
    const frames: Array<Frame> = []
    const listeners = new Set<() => void>()
    let code: number | undefined
    let asked = 0
    const tell = () => {
      for (const listener of listeners) listener()
    }
    const wait = <A>(look: () => A | undefined): Effect.Effect<A> =>
      Effect.async<A>((resume) => {
        const listener = () => {
          const seen = look()
          if (seen === undefined) return
          listeners.delete(listener)
          resume(Effect.succeed(seen))
        }
        listeners.add(listener)
        listener()
      })
    socket.addEventListener("message", ({ data }) => {
      frames.push(JSON.parse(String(data)) as Frame)
      tell()
    })
    socket.addEventListener("error", () => {})
    socket.addEventListener("close", (event) => {
      code = event.code
      tell()
    })
    yield* Effect.async<void>((resume) => {
      socket.addEventListener("open", () => resume(Effect.void))
      socket.addEventListener("close", () => resume(Effect.void))
    })
    const send = (frame: unknown): void => socket.send(typeof frame === "string" ? frame : JSON.stringify(frame))
    return {
      socket,
      frames,
      send,
      ask: (method, params) =>
        Effect.suspend(() => {
          asked += 1
          const id = asked
          send({ jsonrpc: "2.0", id, method, params })
          return wait(() => frames.find((frame) => frame.id === id))
        }),
      until: (isSo) => wait(() => frames.find(isSo)),
      told: (method) => frames.filter((frame) => frame.method === method),
      closed: wait(() => code)
    }
  })

export const hello = (token: string | undefined, role = "client", resume?: { token: unknown; seq: number }) => ({
  protocol: [1, 1],
  role,
  ...(token === undefined ? {} : { token }),
  client: { name: "wire", version: "1" },
  ...(resume === undefined ? {} : { resume })
})

/** A wire that has said who it is. */
export const connected = (token: string, role = "client", how: Open = ofWs()) =>
  Effect.tap(open(how), (wire) => wire.ask("connect", hello(token, role)))

export const isMethod =
  (method: string) =>
  (frame: Frame): boolean =>
    frame.method === method
