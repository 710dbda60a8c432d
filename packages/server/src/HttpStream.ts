import type { ServerResponse } from "node:http"
import type * as Problem from "@postilion/gateway/domain/Problem"
import { Effect, Stream } from "effect"

/** An answer that is sent as it comes: each of `chunks` once the one before has left. */
export interface StreamedAnswer extends Omit<Problem.HttpAnswer, "body"> {
  readonly chunks: Stream.Stream<string, unknown>
}

export interface StreamOptions {
  /** Milliseconds a client may take to read some of it; then it is cut off. */
  readonly stallMs: number
  /** Whether the connection is not to be kept alive. */
  readonly isClosing: () => boolean
  /** Answers in its place, where it fails before it has begun. */
  readonly onFailure: (response: ServerResponse) => void
}

/** `stallMs` where nothing is said. */
export const STALLED = 60_000

/** Sends one more piece of an answer, and waits until there is room for the next. */
const write = (response: ServerResponse, chunk: string, stallMs: number): Effect.Effect<void, Error> =>
  Effect.async<void, Error>((resume) => {
    if (response.write(chunk)) return resume(Effect.void)
    const timer = setTimeout(() => resume(Effect.fail(new Error("the client has stopped reading"))), stallMs)
    const onDrain = (): void => {
      clearTimeout(timer)
      resume(Effect.void)
    }
    response.once("drain", onDrain)
    return Effect.sync(() => {
      clearTimeout(timer)
      response.off("drain", onDrain)
    })
  })

/** Sends an answer as it comes. Interrupted, it makes no more of it. */
export const sendStream = (
  response: ServerResponse,
  { chunks, headers, status }: StreamedAnswer,
  { isClosing, onFailure, stallMs }: StreamOptions
): Effect.Effect<void> => {
  const begin = (): void => {
    if (response.headersSent) return
    if (isClosing()) response.shouldKeepAlive = false
    response.writeHead(status, headers)
  }
  const sent =
    response.req.method === "HEAD"
      ? Effect.void
      : Stream.runForEach(chunks, (chunk) => {
          begin()
          return write(response, chunk, stallMs)
        })
  return Effect.matchCauseEffect(sent, {
    onSuccess: () =>
      Effect.sync(() => {
        begin()
        response.end()
      }),
    onFailure: (cause) =>
      Effect.zipRight(
        Effect.logError("sending an answer failed", cause),
        // What was begun is cut off, so that nobody takes what was sent for all of it.
        Effect.sync(() => (response.headersSent ? void response.destroy() : onFailure(response)))
      )
  })
}
