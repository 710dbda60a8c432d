import { Clock, Deferred, Effect, Exit, Mailbox, Random, Schema, type Scope, Stream } from "effect"
import { ClientError } from "./ClientError.ts"
import * as Memory from "./internal/Memory.ts"
import * as Requests from "./internal/Requests.ts"
import type { Call, Event, EventType, Params, Result, Role, Welcome } from "./Protocol.ts"
import { events, FromGateway, methods, VERSIONS, Welcome as WelcomeSchema } from "./Protocol.ts"
import * as Push from "./Push.ts"
import * as Serve from "./Serve.ts"
import * as Socket from "./Socket.ts"

export interface ClientOptions {
  /** Sent in the first frame, never in the URL. Default: none, for a proxy that adds one. */
  readonly token?: string
  /** What is asked for; the token must have it. Default: `client`. */
  readonly role?: Role
  /** What the gateway's log calls this program, at `debug`. Default: `postilion-client`. */
  readonly name?: string
  /** Default: the global one, or that of `ws`. */
  readonly webSocket?: Socket.SocketConstructor
  /** Milliseconds an answer may take, reconnects included. Default: 60,000. */
  readonly requestTimeoutMs?: number
  /** Milliseconds before the first attempt to reconnect; twice as many before each further one. Default: 100. */
  readonly minReconnectDelayMs?: number
  /** Default: 30,000. */
  readonly maxReconnectDelayMs?: number
  /** Events that wait for a reader; for more it gets a GAP. Default: 10,000. */
  readonly maxBufferedEvents?: number
}

export interface SendOptions {
  /** Whose session. Default: one's own. */
  readonly owner?: string
  /** The message's id: the same one is the same message. Default: a new one. */
  readonly id?: string
  /** Default: the gateway's first agent. */
  readonly agentId?: string
}

export type Message = Extract<Event, { readonly type: "MESSAGE" }>

export interface Client {
  /** Who the gateway says this is, and within what limits. */
  readonly welcome: () => Welcome
  /**
   * Asks. What is asked without a connection, or cut off with one, is asked again on the next, if it can be: sends are the same
   * message however often they are sent. Fails with the gateway's refusal, or as `ClientError` says.
   */
  readonly request: <M extends Call>(method: M, params: Params<M>) => Effect.Effect<Result<M>, ClientError>
  /** Says something in a session, and joins it. Succeeds once the gateway has it on disk. */
  readonly send: (
    session: string,
    text: string,
    options?: SendOptions
  ) => Effect.Effect<Result<"session.send">, ClientError>
  /** Says something and waits for the answer to it. Fails with `suppressed` when a policy or a person kept it from the agent. */
  readonly ask: (session: string, text: string, options?: SendOptions) => Effect.Effect<Message, ClientError>
  /**
   * Takes the tasks of agents that are outside, which needs the role `agent`, until the scope closes: each is given to `handler`,
   * renewed while that works on it, and answered with what it comes to. One that the gateway ends, or that was not renewed in time, is
   * interrupted. Succeeds once the gateway knows; a second call takes the place of the first.
   */
  readonly serve: <R>(
    agents: string | ReadonlyArray<string>,
    handler: Serve.Handler<R>,
    options?: Serve.ServeOptions
  ) => Effect.Effect<void, ClientError, R | Scope.Scope>
  /** What the gateway tells from now on; over all reconnects, each notification once. Fails when the client cannot go on. */
  readonly events: Effect.Effect<Stream.Stream<Event, ClientError>, never, Scope.Scope>
  /** Channels that are published in and heard. */
  readonly push: Push.Push
}

interface Reader {
  readonly mailbox: Mailbox.Mailbox<Event, ClientError>
  readonly wants: (event: Event) => boolean
  /** Events that had no room. */
  missed: number
}

/** Milliseconds a gateway has to say welcome. */
const WELCOME = 15_000
const MAX_BUFFERED = 10_000

/** Refusals of `connect` that another attempt does not change. */
const FINAL = new Set(["unauthorized", "forbidden", "version-mismatch", "invalid-params", "not-understood"])

const decodeFrame = Schema.decodeUnknownEither(Schema.parseJson(FromGateway))
const decodeWelcome = Schema.decodeUnknownEither(WelcomeSchema)
const decoders = Object.fromEntries(
  Object.entries(events).map(([type, { params }]) => [
    type,
    Schema.decodeUnknownOption(params as Schema.Schema<object>)
  ])
)
const decodeEvent = (type: EventType, params: unknown): Event | undefined => {
  const decoded = decoders[type]?.(params)
  return decoded?._tag === "Some" ? ({ type, ...decoded.value } as Event) : undefined
}
const decodeResult = <M extends Call>(method: M, result: unknown) =>
  Effect.mapError(
    Schema.decodeUnknown(methods[method].result as unknown as Schema.Schema<Result<M>>)(result),
    (cause) => Requests.notUnderstood(method, cause)
  )
const FORGOTTEN =
  "answers follow, and what others said is in `session.history`; what else happened meanwhile is not known"
const closed = new ClientError({ code: "closed", message: "the client was closed", nextStep: "connect another one" })

/** A connection to the control plane that outlives its sockets; closed with its scope. Fails when the gateway refuses it. */
export const make = (
  url: string,
  {
    maxBufferedEvents = MAX_BUFFERED,
    maxReconnectDelayMs = 30_000,
    minReconnectDelayMs = 100,
    name = "postilion-client",
    requestTimeoutMs = 60_000,
    role = "client",
    token,
    webSocket
  }: ClientOptions = {}
): Effect.Effect<Client, ClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const Constructor = yield* Socket.find(webSocket)
    const clock = yield* Effect.clock
    const first = yield* Deferred.make<void, ClientError>()
    const memory = Memory.make()
    const requests = Requests.make()
    const readers = new Set<Reader>()
    let welcome: Welcome | undefined
    let leaving = false
    /** Why the last attempt came to nothing. */
    let refusal: ClientError | undefined
    let heardAt = 0

    const tell = (event: Event): void => {
      for (const reader of readers) {
        if (!reader.wants(event)) continue
        if (reader.missed > 0) {
          const gap: Event = { type: "GAP", missed: reader.missed, nextStep: "read events faster" }
          if (reader.mailbox.unsafeOffer(gap)) reader.missed = 0
        }
        if (reader.missed > 0 || !reader.mailbox.unsafeOffer(event)) reader.missed += 1
      }
    }
    const end = (error: ClientError): Effect.Effect<void> =>
      Effect.sync(() => {
        requests.end(error)
        for (const { mailbox } of readers) mailbox.unsafeDone(error === closed ? Exit.void : Exit.fail(error))
        Deferred.unsafeDone(first, error)
      })

    /** One socket: says who this is, and goes on from where the last one broke off. Fails when there is no point in another. */
    const attempt = Effect.gen(function* () {
      const welcomed = yield* Deferred.make<Welcome>()
      let refused: ClientError | undefined
      let send = (_: string): void => {}
      const greeted = (result: unknown): void => {
        const decoded = decodeWelcome(result)
        if (decoded._tag === "Left") {
          refused = Requests.notUnderstood("welcome", decoded.left)
          return
        }
        welcome = decoded.right
        if (memory.welcomed(welcome)) tell({ type: "GAP", missed: null, nextStep: FORGOTTEN })
        requests.opened(send, welcome.resumed ? [] : memory.again(), (error) =>
          Effect.sync(() => tell({ type: "ERROR", code: error.code, message: error.message, nextStep: error.nextStep }))
        )
        Deferred.unsafeDone(welcomed, Effect.succeed(welcome))
        Deferred.unsafeDone(first, Effect.void)
      }
      const received = (text: string): void => {
        heardAt = clock.unsafeCurrentTimeMillis()
        const frame = decodeFrame(text)
        // Of a later version than this client's: it says what the client knows by frames that it does.
        if (frame._tag === "Left") return
        if ("method" in frame.right) {
          const { method, params } = frame.right
          const decoded = decodeEvent(method, params)
          if (decoded !== undefined && memory.isNew(decoded)) tell(decoded)
          const behind = memory.behind()
          // Lost with its socket, it is asked again when the connection stands: `again` has it.
          if (behind !== undefined) Effect.runFork(Effect.ignore(requests.ask("push.subscribe", behind)))
        } else if (frame.right.id !== 0) requests.answered(frame.right.id, frame.right)
        else if ("error" in frame.right) refused = Requests.ofRpcError(frame.right.error)
        else greeted(frame.right.result)
      }
      const opened = (sends: (text: string) => void): void => {
        send = sends
        const params = {
          protocol: VERSIONS,
          role,
          ...(token === undefined ? {} : { token }),
          client: { name, version: "1" },
          ...memory.resume()
        }
        sends(JSON.stringify({ jsonrpc: "2.0", id: 0, method: "connect", params }))
      }
      /** Ends when nothing is heard any more. */
      const watch = Effect.gen(function* () {
        const greeting = yield* Effect.timeoutOption(Deferred.await(welcomed), WELCOME)
        if (greeting._tag === "None") return
        const { heartbeatIntervalMs } = greeting.value.limits
        while (true) {
          yield* Effect.sleep(heartbeatIntervalMs)
          if ((yield* Clock.currentTimeMillis) - heardAt > 2 * heartbeatIntervalMs) return
          // Unanswered, it is silence: the next look ends the socket.
          yield* Effect.fork(Effect.ignore(requests.ask("ping", { seq: memory.seq() })))
        }
      })
      yield* Effect.raceFirst(
        Socket.run(Constructor, Socket.urlOf(url), { opened, received }, () => leaving),
        watch
      ).pipe(Effect.ensuring(Effect.sync(requests.lost)))
      refusal = refused
      if (refused !== undefined && FINAL.has(refused.code)) return yield* refused
      return { greeted: yield* Deferred.isDone(welcomed), after: (refused?.retryAfterSeconds ?? 0) * 1_000 }
    })
    const loop = Effect.gen(function* () {
      for (let failures = 0; ; ) {
        const { after, greeted } = yield* attempt
        failures = greeted ? 0 : failures + 1
        const backoff = Math.min(minReconnectDelayMs * 2 ** failures, maxReconnectDelayMs)
        // Up to half of it less, by chance: what was cut off together does not come back together.
        yield* Effect.sleep(Math.max(backoff * (1 - (yield* Random.next) / 2), after))
      }
    })
    const asked = <M extends Call>(method: M, params: Params<M>): Effect.Effect<Result<M>, ClientError> =>
      requests.ask(method, params).pipe(
        Effect.flatMap((result) => decodeResult(method, result)),
        Effect.timeoutFail({
          duration: requestTimeoutMs,
          onTimeout: () => Requests.noAnswer(method, requestTimeoutMs)
        })
      )
    const join = (params: Params<"session.join">) =>
      Effect.tap(asked("session.join", params), ({ cursor }) => Effect.sync(() => memory.joined(params, cursor)))
    const remembering: Partial<{ readonly [M in Call]: (params: Params<M>) => Effect.Effect<Result<M>, ClientError> }> =
      {
        "session.join": join,
        "session.leave": (params) =>
          Effect.zipRight(
            Effect.sync(() => memory.left(params)),
            asked("session.leave", params)
          ),
        "session.send": (params) =>
          // Before something is said it has to be known where its answer is to be listened for from.
          Effect.zipRight(
            memory.isIn(params) ? Effect.void : join({ session: params.session, owner: params.owner }),
            asked("session.send", params)
          ),
        "events.subscribe": (params) =>
          Effect.tap(asked("events.subscribe", params), ({ cursor }) =>
            Effect.sync(() => memory.subscribed(params.filter, cursor))
          ),
        "agent.serve": (params) =>
          Effect.tap(asked("agent.serve", params), () => Effect.sync(() => memory.serves(params))),
        "events.unsubscribe": (params) =>
          Effect.zipRight(Effect.sync(memory.unsubscribed), asked("events.unsubscribe", params)),
        "push.subscribe": (params) =>
          Effect.zipRight(
            Effect.sync(() => memory.hears(params)),
            asked("push.subscribe", params)
          ).pipe(
            Effect.tap(({ cursor }) => Effect.sync(() => memory.hearsFrom(params.channel, cursor))),
            Effect.tapError(() => Effect.sync(() => memory.hearsNoMore(params.channel)))
          ),
        "push.unsubscribe": (params) =>
          Effect.zipRight(
            Effect.sync(() => memory.hearsNoMore(params.channel)),
            asked("push.unsubscribe", params)
          )
      }
    const request: Client["request"] = (method, params) =>
      (remembering[method] ?? ((own) => asked(method, own)))(params)
    const listen = (wants: Reader["wants"] = () => true) =>
      Effect.acquireRelease(
        Effect.gen(function* () {
          const mailbox = yield* Mailbox.make<Event, ClientError>({ capacity: maxBufferedEvents, strategy: "dropping" })
          const reader: Reader = { mailbox, wants, missed: 0 }
          readers.add(reader)
          return reader
        }),
        (reader) => Effect.sync(() => void readers.delete(reader))
      )
    const send: Client["send"] = (session, text, { agentId, id, owner } = {}) =>
      Effect.gen(function* () {
        const own = id ?? (yield* Push.newId)
        return yield* request("session.send", { session, text, id: own, owner, agentId })
      })

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        leaving = true
        return end(closed)
      })
    )
    yield* Effect.forkScoped(Effect.catchAll(loop, end))
    yield* Effect.timeoutFail(Deferred.await(first), {
      duration: requestTimeoutMs,
      onTimeout: () => refusal ?? Requests.noAnswer("connect", requestTimeoutMs)
    })
    return {
      // The first one has come by now.
      welcome: () => welcome as Welcome,
      request,
      send,
      ask: (session, text, options) =>
        Effect.gen(function* () {
          const { mailbox } = yield* listen()
          const { eventId } = yield* send(session, text, options)
          const answers = Stream.filter(
            Mailbox.toStream(mailbox),
            (event) => "eventId" in event && event.eventId === eventId
          )
          const last = yield* Stream.runHead(
            Stream.filter(
              answers,
              (event) => event.type === "ERROR" || (event.type === "MESSAGE" && event.role === "assistant")
            )
          )
          if (last._tag === "None") return yield* closed
          if (last.value.type === "MESSAGE") return last.value
          const message = last.value.type === "ERROR" ? last.value.message : "there is no answer"
          return yield* new ClientError({
            code: "suppressed",
            message,
            nextStep: "nothing; it was decided not to answer"
          })
        }).pipe(Effect.scoped),
      serve: (agents, handler, options) => {
        const wants = ({ type }: Event) => type === "TASK" || type === "CANCEL"
        const events = Effect.map(listen(wants), ({ mailbox }) => Mailbox.toStream(mailbox))
        return Serve.serve({ request, events }, agents, handler, options)
      },
      events: Effect.map(listen(), ({ mailbox }) => Mailbox.toStream(mailbox)),
      push: Push.make({
        listen,
        request,
        leave: (channel) => {
          memory.hearsNoMore(channel)
          // Nobody listens for the answer; after a lost connection the channel is not asked for again.
          Effect.runFork(Effect.ignore(requests.ask("push.unsubscribe", { channel })))
        }
      })
    }
  })
