import { Cause, Data, Effect, FiberMap, type Scope, Stream } from "effect"
import type { Task } from "./AgentProtocol.ts"
import type { ClientError } from "./ClientError.ts"
import type { Call, Event, Params, Result } from "./Protocol.ts"

export type { Task } from "./AgentProtocol.ts"

/** Tokens as the provider counted them. */
export interface Usage {
  readonly inputTokens: number
  readonly outputTokens: number
}

/** What came of a task. */
export interface TaskAnswer {
  readonly text: string
  readonly usage: Usage
  /** As the gateway's price table knows it. Default: the one the gateway is configured with for this agent. */
  readonly model?: string
}

/** A task came to nothing. */
export class TaskError extends Data.TaggedError("TaskError")<{
  readonly message: string
  /** Whether another attempt may succeed. Default: false. */
  readonly retryable?: boolean
  /** Milliseconds that is to wait, at least. */
  readonly retryAfterMs?: number
  /** What was used all the same. */
  readonly usage?: Usage
}> {}

export interface ServeOptions {
  /** Tasks at a time. Default: 1. */
  readonly concurrency?: number
}

/** Says that a task has got on, and what it has used so far. Said once, it must be said at least every `limits.runStallMs`. */
export type Progress = (usage?: Usage) => Effect.Effect<void>

export type Handler<R = never> = (task: Task, progress: Progress) => Effect.Effect<TaskAnswer, TaskError, R>

interface Asking {
  readonly request: <M extends Call>(method: M, params: Params<M>) => Effect.Effect<Result<M>, ClientError>
  readonly events: Effect.Effect<Stream.Stream<Event, ClientError>, never, Scope.Scope>
}

/** Milliseconds the gateway has to hear that nobody serves any more. */
const LEAVING = 1_000
const SHOWN = 10_000

const isLost = (error: ClientError): boolean => error.code === "conflict"

/** See `Client.serve`. */
export const serve = <R>(
  { events, request }: Asking,
  agents: string | ReadonlyArray<string>,
  handler: Handler<R>,
  { concurrency = 1 }: ServeOptions = {}
): Effect.Effect<void, ClientError, R | Scope.Scope> =>
  Effect.gen(function* () {
    const told = yield* events
    const running = yield* FiberMap.make<string>()

    const renewing = (task: string, leaseMs: number): Effect.Effect<void> =>
      request("task.renew", { task }).pipe(
        Effect.delay(leaseMs / 3),
        // What is not heard in time is said again; the lease says when it is too late.
        Effect.catchIf(
          (error) => !isLost(error),
          () => Effect.void
        ),
        Effect.forever,
        Effect.catchAll(() => Effect.void)
      )
    const work = (task: Task): Effect.Effect<void, never, R> => {
      const id = task.task
      const progress: Progress = (usage) =>
        // Refused, the task is another's: `renewing` finds that out too, and ends the work.
        Effect.ignore(request("task.renew", { task: id, progress: true, ...(usage === undefined ? {} : { usage }) }))
      const answered = handler(task, progress).pipe(
        Effect.flatMap((answer) => request("task.complete", { task: id, ...answer })),
        Effect.catchTag("TaskError", ({ message, retryAfterMs, retryable, usage }) =>
          request("task.fail", {
            task: id,
            message: (message || "it came to nothing").slice(0, SHOWN),
            ...(retryable === undefined ? {} : { retryable }),
            ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
            ...(usage === undefined ? {} : { usage })
          })
        ),
        Effect.catchAllDefect((defect) =>
          request("task.fail", {
            task: id,
            message: `the agent died: ${Cause.pretty(Cause.die(defect))}`.slice(0, SHOWN)
          })
        )
      )
      return Effect.raceFirst(Effect.asVoid(answered), renewing(id, task.leaseMs)).pipe(
        // A task that is another's by now, or a gateway that has gone for good: there is nobody to tell.
        Effect.catchAll((error) => Effect.logDebug(`what task ${id} came to was not taken`, error))
      )
    }
    const hear = Stream.runForEach(told, (event) => {
      if (event.type === "TASK") {
        const { seq: _, type: __, ...task } = event
        return FiberMap.run(running, task.task, work(task))
      }
      return event.type === "CANCEL" ? FiberMap.remove(running, event.task) : Effect.void
    })
    // It fails when the client cannot go on, which every request of the client then says.
    yield* Effect.forkScoped(Effect.ignore(hear))
    yield* request("agent.serve", { agents: typeof agents === "string" ? [agents] : agents, concurrency })
    yield* Effect.addFinalizer(() => {
      const leave = Effect.zipRight(
        request("agent.serve", { agents: [] }),
        Effect.forEach(running, ([task]) =>
          request("task.fail", { task, message: "the program that had it stops", retryable: true })
        )
      )
      // A gateway that is not told finds out by the leases.
      return Effect.ignore(Effect.timeout(Effect.interruptible(leave), LEAVING))
    })
  })
