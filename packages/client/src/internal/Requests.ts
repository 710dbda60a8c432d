import { Effect } from "effect"
import { ClientError } from "../ClientError.ts"
import { type Call, methods, type RequestId, type RpcError } from "../Protocol.ts"
import type { Again } from "./Memory.ts"

export const ofRpcError = ({ data, message }: RpcError): ClientError =>
  new ClientError({
    code: data.code,
    message,
    nextStep: data.nextStep,
    ...(data.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: data.retryAfterSeconds })
  })
export const notUnderstood = (what: string, cause: unknown): ClientError =>
  new ClientError({
    code: "not-understood",
    message: `the gateway's answer to ${what} is not of this protocol: ${cause}`,
    nextStep: "use a client of the gateway's version",
    cause
  })
export const noAnswer = (what: string, millis: number): ClientError =>
  new ClientError({
    code: "no-answer",
    message: `no answer to ${what} within ${millis} ms (requestTimeoutMs)`,
    nextStep: "see whether the gateway can be reached"
  })
const lostOf = (method: Call): ClientError =>
  new ClientError({
    code: "connection-lost",
    message: `the connection was lost before ${method} was answered; it may have been done`,
    nextStep: "see whether it was, then ask again"
  })

/** Requests that may wait for an answer at a time. */
const MOST_PENDING = 1_000

interface Pending {
  readonly method: Call
  readonly frame: string
  readonly answer: (outcome: Effect.Effect<unknown, ClientError>) => void
  sent: boolean
}

type Answered = { readonly result: unknown } | { readonly error: RpcError }

const frameOf = (id: RequestId, method: Call, params: object): string =>
  JSON.stringify({ jsonrpc: "2.0", id, method, params })

/** What was asked and is not answered yet, over one socket after the other. */
export const make = () => {
  const pending = new Map<RequestId, Pending>()
  let send: ((text: string) => void) | undefined
  let ended: ClientError | undefined
  let last = 0

  const put = (method: Call, params: object, answer: Pending["answer"]): RequestId => {
    last += 1
    pending.set(last, { method, frame: frameOf(last, method, params), answer, sent: false })
    return last
  }
  const flush = (): void => {
    if (send === undefined) return
    for (const request of pending.values()) {
      if (request.sent) continue
      request.sent = true
      send(request.frame)
    }
  }
  return {
    ask: (method: Call, params: object): Effect.Effect<unknown, ClientError> =>
      Effect.async((resume) => {
        if (ended !== undefined) return resume(ended)
        if (pending.size >= MOST_PENDING) {
          const message = `${MOST_PENDING} requests wait for an answer`
          return resume(new ClientError({ code: "too-many-requests", message, nextStep: "wait for some of them" }))
        }
        const id = put(method, params, resume)
        flush()
        return Effect.sync(() => void pending.delete(id))
      }),
    /** There is a socket: `again` is asked first, then what still waits for an answer. */
    opened: (
      sends: (text: string) => void,
      again: ReadonlyArray<Again>,
      refused: (error: ClientError) => Effect.Effect<void>
    ): void => {
      const waiting = [...pending]
      pending.clear()
      for (const [method, params] of again) {
        put(method, params, (outcome) => void Effect.runFork(Effect.catchAll(outcome, refused)))
      }
      for (const [id, request] of waiting) pending.set(id, request)
      send = sends
      flush()
    },
    answered: (id: RequestId | null, answer: Answered): void => {
      const request = id === null ? undefined : pending.get(id)
      if (id === null || request === undefined) return
      pending.delete(id)
      request.answer("error" in answer ? ofRpcError(answer.error) : Effect.succeed(answer.result))
    },
    /** The socket is gone: what can be asked again is, on the next. */
    lost: (): void => {
      send = undefined
      for (const [id, request] of pending) {
        if (!request.sent) continue
        request.sent = false
        if (methods[request.method].repeatable) continue
        pending.delete(id)
        request.answer(lostOf(request.method))
      }
    },
    end: (error: ClientError): void => {
      ended = error
      for (const request of pending.values()) request.answer(error)
      pending.clear()
    }
  }
}
