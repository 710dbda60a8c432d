import { Effect } from "effect"
import { ClientError } from "./ClientError.ts"

/** What is used of a WebSocket, as browsers, `ws` and `undici` have it. */
export interface Socket {
  send(data: string): void
  close(code?: number): void
  onopen: unknown
  onmessage: unknown
  onclose: unknown
  onerror: unknown
}
export type SocketConstructor = new (url: string) => Socket

const isConstructor = (value: unknown): value is SocketConstructor => typeof value === "function"

/** Node.js 20 has none of its own. A name that bundlers do not follow: in a browser nothing of it is needed. */
const WS = "ws"

/** The WebSocket there is: the one given, the global one, or that of `ws`. */
export const find = (given: SocketConstructor | undefined): Effect.Effect<SocketConstructor, ClientError> => {
  const known = given ?? Reflect.get(globalThis, "WebSocket")
  if (isConstructor(known)) return Effect.succeed(known)
  return Effect.tryPromise((): Promise<Record<string, unknown>> => import(/* @vite-ignore */ WS)).pipe(
    Effect.map((module) => module.WebSocket),
    Effect.filterOrFail(isConstructor),
    Effect.mapError(
      (cause) =>
        new ClientError({
          code: "no-websocket",
          message: "there is no global WebSocket, and `ws` is not installed",
          nextStep: "install `ws`, or give `webSocket`",
          cause
        })
    )
  )
}

/** `http://host:8765` or `ws://host:8765/ws`: where the control plane is. */
export const urlOf = (url: string): string => {
  const socketUrl = url.replace(/^http/, "ws").replace(/\/+$/, "")
  return /^wss?:\/\/[^/]+$/.test(socketUrl) ? `${socketUrl}/ws` : socketUrl
}

export interface Handlers {
  readonly opened: (send: (text: string) => void) => void
  readonly received: (text: string) => void
}

/** How a client's own closing is told from one it comes back after. */
export const GONE = 1000
const DEAD = 4000

/** One socket, from being opened to being closed, with the code it was closed with. Interrupted, it is closed. */
export const run = (
  Constructor: SocketConstructor,
  url: string,
  { opened, received }: Handlers,
  leaving: () => boolean
): Effect.Effect<number, ClientError> =>
  Effect.async((resume) => {
    let socket: Socket
    try {
      socket = new Constructor(url)
    } catch (cause) {
      const nextStep = "give a URL such as ws://127.0.0.1:8765/ws"
      resume(new ClientError({ code: "no-websocket", message: `no WebSocket by ${url}: ${cause}`, nextStep, cause }))
      return
    }
    socket.onopen = () => opened((text) => socket.send(text))
    socket.onmessage = ({ data }: { readonly data: unknown }) => received(String(data))
    socket.onclose = ({ code }: { readonly code: number }) => resume(Effect.succeed(code))
    // What went wrong is followed by a close.
    socket.onerror = () => {}
    return Effect.sync(() => {
      socket.onopen = () => socket.close(GONE)
      socket.onmessage = null
      socket.onclose = null
      socket.close(leaving() ? GONE : DEAD)
    })
  })
