import { lookup } from "node:dns/promises"
import { request as plainRequest } from "node:http"
import { request as tlsRequest } from "node:https"
import { isIP, type LookupFunction } from "node:net"
import type { SendOutcome } from "@postilion/gateway/domain/Errors"
import { Context, Data, Effect } from "effect"
import { refusalOf } from "./AddressPolicy.ts"

export interface OutboundRequest {
  /** `http:` or `https:`. */
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** Whether the host may be on this machine or in a private network. */
  readonly allowPrivate: boolean
  /** Milliseconds to resolve the name, and again to get the answer. */
  readonly timeoutMs: number
  /** Bytes of the answer's body that are read. */
  readonly maxAnswerBytes: number
}

export interface OutboundAnswer {
  readonly status: number
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
  /** What was read of the body: all, or as much as was allowed or came in time. */
  readonly body: string
}

/** There was no answer. `outcome` says whether the request may have arrived. */
export class OutboundError extends Data.TaggedError("OutboundError")<{
  readonly outcome: SendOutcome
  readonly message: string
  readonly cause?: unknown
}> {}

export interface Address {
  readonly address: string
  /** 4 or 6. */
  readonly family: number
}

/** Gives a name's addresses. Default: as the operating system does. */
export class Resolver extends Context.Reference<Resolver>()("@postilion/server/Resolver", {
  defaultValue:
    () =>
    (host: string): Promise<ReadonlyArray<Address>> =>
      lookup(host, { all: true })
}) {}

const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[(.*)\]$/, "$1")

/** The host's addresses, resolved once and all of them checked: none may lead where it should not. */
const addressesOf = ({
  allowPrivate,
  timeoutMs,
  url
}: OutboundRequest): Effect.Effect<ReadonlyArray<Address>, OutboundError> =>
  Effect.gen(function* () {
    const resolve = yield* Resolver
    const host = hostOf(url)
    const family = isIP(host)
    const addresses =
      family !== 0
        ? [{ address: host, family }]
        : yield* Effect.tryPromise({
            try: () => resolve(host),
            catch: (cause) =>
              new OutboundError({ outcome: "not-sent", message: `"${host}" could not be resolved`, cause })
          }).pipe(
            Effect.timeoutFail({
              duration: timeoutMs,
              onTimeout: () =>
                new OutboundError({
                  outcome: "not-sent",
                  message: `"${host}" could not be resolved within ${timeoutMs} ms`
                })
            })
          )
    for (const { address } of addresses) {
      const refusal = refusalOf(address, allowPrivate)
      if (refusal !== undefined) {
        return yield* new OutboundError({ outcome: "rejected", message: `"${host}" is not sent to: ${refusal}` })
      }
    }
    return addresses
  })

/** Connects to what was checked, whatever the name resolves to by now. */
const pinned =
  (addresses: ReadonlyArray<Address>): LookupFunction =>
  (hostname, { all, family }, done) => {
    const usable = addresses.filter((one) => (family !== 4 && family !== 6 ? true : one.family === family))
    const [first] = usable
    if (first === undefined) done(new Error(`no address of ${hostname}`), "", 0)
    else if (all === true) done(null, [...usable])
    else done(null, first.address, first.family)
  }

const exchange = (asked: OutboundRequest, addresses: ReadonlyArray<Address>) =>
  Effect.async<OutboundAnswer, OutboundError>((resume) => {
    const { body, headers, maxAnswerBytes, timeoutMs, url } = asked
    const secure = url.protocol === "https:"
    // From when the connection stands, all of the request may have arrived, whatever happens next.
    let connected = false
    let answered: (() => OutboundAnswer) | undefined

    const request = (secure ? tlsRequest : plainRequest)(url, {
      method: "POST",
      headers: { ...headers, "content-length": String(Buffer.byteLength(body)), connection: "close" },
      // A connection of its own: one that was kept and breaks would leave in doubt what was never sent.
      agent: false,
      lookup: pinned(addresses)
    })
    const finish = (result: Effect.Effect<OutboundAnswer, OutboundError>): void => {
      resume(result)
      end()
    }
    const end = (): void => {
      clearTimeout(timer)
      request.destroy()
    }
    const fail = (message: string, cause?: unknown): void => {
      // The status says it all: what breaks after it changes nothing.
      if (answered !== undefined) finish(Effect.succeed(answered()))
      else finish(new OutboundError({ outcome: connected ? "unknown" : "not-sent", message, cause }))
    }
    const timer = setTimeout(
      () => fail(`${connected ? "there was no answer" : "there was no connection"} within ${timeoutMs} ms`),
      timeoutMs
    )
    request.on("socket", (socket) => {
      connected = !secure && !socket.connecting
      socket.once(secure ? "secureConnect" : "connect", () => {
        connected = true
      })
    })
    request.on("error", (cause: NodeJS.ErrnoException) => fail(cause.code ?? cause.message, cause))
    request.on("response", (response) => {
      const chunks: Array<Uint8Array> = []
      let room = maxAnswerBytes
      answered = () => ({
        status: response.statusCode ?? 0,
        headers: response.headers,
        body: Buffer.concat(chunks).toString("utf8")
      })
      const done = answered
      response.on("data", (chunk: Uint8Array) => {
        chunks.push(chunk.subarray(0, room))
        room -= Math.min(room, chunk.length)
        if (room === 0) finish(Effect.succeed(done()))
      })
      response.on("end", () => finish(Effect.succeed(done())))
      response.on("error", () => finish(Effect.succeed(done())))
    })
    request.end(body)
    return Effect.sync(end)
  })

/**
 * The one way out to an HTTP address that a configuration names: POSTs, and gives the answer whatever its status. The name is
 * resolved once, every address it has is checked (see `AddressPolicy`), and the connection goes to one of those. Redirects are
 * not followed; nothing of a proxy's or of an earlier connection is used.
 *
 * Fails with `not-sent` when there was no connection, `rejected` when there must not be one, `unknown` when there was one and no
 * answer.
 */
export const post = (request: OutboundRequest): Effect.Effect<OutboundAnswer, OutboundError> =>
  Effect.flatMap(addressesOf(request), (addresses) => exchange(request, addresses))
