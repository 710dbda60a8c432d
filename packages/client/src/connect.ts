import { Cause, Effect, ExecutionStrategy, Exit, Option, Scope, Stream } from "effect"
import * as Client from "./Client.ts"
import type { ClientError } from "./ClientError.ts"
import type { Call, Event, Params, Result, Welcome } from "./Protocol.ts"
import type * as Push from "./Push.ts"
import { type Handler, type ServeOptions, type Task, type TaskAnswer, TaskError, type Usage } from "./Serve.ts"

/** The platform's `AbortSignal`, which is not among the types of the language. */
type Signal = Parameters<Parameters<typeof Effect.promise>[0]>[0]

/** What a handler of tasks is given besides the task. */
export interface TaskContext {
  /** Aborted when the task is one's own no more. */
  readonly signal: Signal
  /** See `Serve.Progress`. */
  readonly progress: (usage?: Usage) => Promise<void>
}

/** What each method of a `Push` gives, as promises. */
export interface PushConnection {
  readonly publish: (channel: string, data: unknown, options?: Push.PublishOptions) => Promise<Result<"push.publish">>
  /** As `Push.subscribe`, until the loop over it ends. */
  readonly subscribe: (channel: string, options?: Push.SubscribeOptions) => AsyncIterable<Push.Message>
  readonly ack: (message: Push.Acknowledged) => Promise<void>
  readonly nack: (message: Push.Acknowledged, options?: Push.NackOptions) => Promise<void>
  readonly history: (
    channel: string,
    options?: { readonly since?: number; readonly limit?: number }
  ) => Promise<Result<"push.history">>
  readonly presence: (channel: string) => Promise<Result<"presence.query">>
}

/** A connection to the control plane, for programs without Effect. What fails rejects with a `ClientError`. */
export interface Connection {
  readonly welcome: () => Welcome
  readonly request: <M extends Call>(method: M, params: Params<M>) => Promise<Result<M>>
  readonly send: (session: string, text: string, options?: Client.SendOptions) => Promise<Result<"session.send">>
  readonly ask: (session: string, text: string, options?: Client.SendOptions) => Promise<Client.Message>
  /** What the gateway tells from now on, until the loop over it ends or the connection is closed. */
  readonly events: () => AsyncIterable<Event>
  /**
   * Takes the tasks of agents that are outside; see `Client.serve`. What `handler` throws fails the task: a `TaskError` says
   * whether it may be tried again. Resolves, once the gateway knows, with what ends it.
   */
  readonly serve: (
    agents: string | ReadonlyArray<string>,
    handler: (task: Task, context: TaskContext) => Promise<TaskAnswer>,
    options?: ServeOptions
  ) => Promise<() => Promise<void>>
  /** Channels that are published in and heard. */
  readonly push: PushConnection
  readonly close: () => Promise<void>
}

const promised = async <A>(effect: Effect.Effect<A, ClientError>): Promise<A> => {
  const exit = await Effect.runPromiseExit(effect)
  if (Exit.isSuccess(exit)) return exit.value
  throw Cause.squash(exit.cause)
}

/** Goes on with a stream when the next element is asked for, and not before, as `Stream.toAsyncIterable` does. */
async function* pulled<A>(stream: Stream.Stream<A, ClientError>): AsyncGenerator<A> {
  const scope = Effect.runSync(Scope.make())
  try {
    const pull = await promised(Scope.extend(Stream.toPull(stream), scope))
    while (true) {
      // A failure without an error is the end.
      const next = await promised(
        Effect.catchAll(
          Effect.asSome(pull),
          Option.match({ onNone: () => Effect.succeedNone, onSome: Effect.fail<ClientError> })
        )
      )
      if (Option.isNone(next)) return
      yield* next.value
    }
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}

/**
 * Connects to a gateway, `ws://127.0.0.1:8765` say, and reconnects for as long as it is not closed.
 *
 * ```ts
 * const gateway = await connect("ws://127.0.0.1:8765", { token })
 * console.log((await gateway.ask("ops", "how is the disk?")).text)
 * await gateway.close()
 * ```
 */
export const connect = async (url: string, options?: Client.ClientOptions): Promise<Connection> => {
  const scope = await Effect.runPromise(Scope.make())
  const close = () => Effect.runPromise(Scope.close(scope, Exit.void))
  try {
    const client = await promised(Scope.extend(Client.make(url, options), scope))
    return {
      welcome: client.welcome,
      request: (method, params) => promised(client.request(method, params)),
      send: (session, text, sending) => promised(client.send(session, text, sending)),
      ask: (session, text, sending) => promised(client.ask(session, text, sending)),
      // Listened to from here on, not from when the loop over it begins.
      events: () => {
        const own = Effect.runSync(Scope.fork(scope, ExecutionStrategy.sequential))
        const events = Effect.runSync(Scope.extend(client.events, own))
        return Stream.toAsyncIterable(Stream.ensuring(events, Scope.close(own, Exit.void)))
      },
      serve: async (agents, handler, serving) => {
        const own = await Effect.runPromise(Scope.fork(scope, ExecutionStrategy.sequential))
        const handled: Handler = (task, progress) =>
          Effect.tryPromise({
            try: (signal) => handler(task, { signal, progress: (usage) => Effect.runPromise(progress(usage)) }),
            catch: (error) => (error instanceof TaskError ? error : new TaskError({ message: String(error) }))
          })
        await promised(Scope.extend(client.serve(agents, handled, serving), own))
        return () => Effect.runPromise(Scope.close(own, Exit.void))
      },
      push: {
        publish: (...args) => promised(client.push.publish(...args)),
        subscribe: (...args) => pulled(client.push.subscribe(...args)),
        ack: (...args) => promised(client.push.ack(...args)),
        nack: (...args) => promised(client.push.nack(...args)),
        history: (...args) => promised(client.push.history(...args)),
        presence: (...args) => promised(client.push.presence(...args))
      },
      close
    }
  } catch (error) {
    await close()
    throw error
  }
}
