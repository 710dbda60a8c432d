import type { PostilionConfigInput } from "@postilion/server"
import { Effect } from "effect"
import { as, request, server } from "./Support.ts"
import { type Frame, hello, open, type Wire } from "./Wire.ts"

export const BOB = "token-of-bob"
export const EVE = "token-of-eve"
export const OLGA = "token-of-olga"

type PushInput = NonNullable<PostilionConfigInput["push"]>

/** A server with an agent bob, who publishes, a client eve, who hears, and an operator olga. */
export const serving = (push: PushInput = {}, rest: PostilionConfigInput = {}) =>
  server({
    tokens: { bob: { token: BOB, scopes: ["agent"] }, eve: { token: EVE, scopes: ["client"] }, olga: OLGA },
    push,
    ...rest
  })

export const publish = (wire: Wire, data: unknown, channel = "alerts", id = `m${JSON.stringify(data)}`) =>
  wire.ask("push.publish", { channel, id, data })
export const subscribe = (wire: Wire, params: object = {}) =>
  wire.ask("push.subscribe", { channel: "alerts", ...params })
export const ack = (wire: Wire, ...cursors: ReadonlyArray<unknown>) =>
  wire.ask("push.ack", { channel: "alerts", subscription: "pager", cursors })

export const pushes = (wire: Wire) => wire.told("PUSH").map(({ params }) => params ?? {})
export const heard = (wire: Wire) => pushes(wire).map(({ data }) => data)
/** Waits until so many messages have come. */
export const hears = (wire: Wire, count: number) =>
  Effect.as(
    wire.until(() => pushes(wire).length >= count),
    undefined
  ).pipe(Effect.map(() => pushes(wire)))
/** All that was sent so far has arrived. */
export const settled = (wire: Wire) => wire.ask("ping")

/** Loses its socket, without a goodbye. */
export const lose = (wire: Wire) => {
  wire.socket.close(4_000)
  return wire.closed
}
export const resume = (token: string, role: string, welcome: Frame, seq: number) =>
  Effect.tap(open(), (wire) => wire.ask("connect", hello(token, role, { token: welcome.result?.resumeToken, seq })))

const json = (token: string, body: unknown): RequestInit => ({
  method: "POST",
  headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
  body: JSON.stringify(body)
})
export const post = (token: string, path: string, body: unknown) => request(`/push/${path}`, json(token, body))
export const poll = (token: string, query: string, channel = "alerts") =>
  request(`/push/${channel}?${query}`, as(token))
export const deadLetters = (query = "") =>
  Effect.map(request(`/dead-letters?${query}`, as(OLGA)), ({ body }) => body.deadLetters as ReadonlyArray<Letter>)
interface Letter {
  readonly id: string
  readonly [member: string]: unknown
}
