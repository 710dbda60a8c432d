import { type Connection, connect, type Protocol } from "@postilion/client"
import { type PlayedConstructor, play, type Step } from "./Play.ts"

// What runs in a browser: made one script by `Chromium.ts`, and called from the tests by its name, `inPage`.

const WebSocket: PlayedConstructor = Reflect.get(globalThis, "WebSocket")
const events: Array<Protocol.Event> = []
let gateway: Connection | undefined

const connected = (): Connection => {
  if (gateway === undefined) throw new Error("not connected")
  return gateway
}

const inPage = {
  play: (script: ReadonlyArray<Step>, url: string) => play(script, url, WebSocket),
  /** The code a WebSocket of this page is closed with, and whether it was ever open. */
  tries: (url: string) =>
    new Promise<{ readonly opened: boolean; readonly code: number }>((resolve) => {
      let opened = false
      const socket = new WebSocket(url)
      socket.addEventListener("open", () => {
        opened = true
        socket.close()
      })
      socket.addEventListener("close", ({ code }) => resolve({ opened, code }))
    }),
  connect: async (url: string, token: string, requestTimeoutMs = 60_000) => {
    gateway = await connect(url, { token, minReconnectDelayMs: 10, requestTimeoutMs })
    const heard = gateway.events()
    void (async () => {
      for await (const event of heard) events.push(event)
    })()
  },
  send: (session: string, text: string, id: string) => connected().send(session, text, { id }),
  ask: (session: string, text: string) => connected().ask(session, text),
  history: (session: string) => connected().request("session.history", { session }),
  welcome: () => connected().welcome(),
  events: () => events,
  close: () => connected().close()
}
export type InPage = typeof inPage

Reflect.set(globalThis, "inPage", inPage)
