import type * as Problem from "@postilion/gateway/domain/Problem"
import { Effect } from "effect"
import type { Answer, Answering } from "./HttpListener.ts"

/** Headers of an answer that a page may not read unless it is told so. */
const EXPOSED = "retry-after, www-authenticate"
/** Headers, besides those that every page may send. */
const ALLOWED = "authorization, content-type"
/** Seconds a browser remembers what may be asked. */
const REMEMBERED = "600"

const allowing = (origin: string) => ({ "access-control-allow-origin": origin, vary: "origin" })

/** What a browser is answered that asks whether a page of `origin` may ask this: by these methods, with a token. */
export const preflight = (origin: string, methods: string): Problem.HttpAnswer => ({
  status: 200,
  headers: {
    ...allowing(origin),
    "access-control-allow-methods": methods,
    "access-control-allow-headers": ALLOWED,
    "access-control-max-age": REMEMBERED
  },
  body: ""
})

/** The same answer, so that a browser shows it to a page of `origin`. */
export const readable = (origin: string, answering: Answering): Answering => {
  const tell = (answer: Effect.Effect<Answer>): Effect.Effect<Answer> =>
    Effect.map(answer, (told) => ({
      ...told,
      headers: { ...told.headers, ...allowing(origin), "access-control-expose-headers": EXPOSED }
    }))
  if (typeof answering !== "function") return tell(answering)
  const { maxBodyBytes } = answering
  return Object.assign((body: Uint8Array) => tell(answering(body)), maxBodyBytes === undefined ? {} : { maxBodyBytes })
}
