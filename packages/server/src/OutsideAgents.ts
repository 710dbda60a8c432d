import type { Params, Result } from "@postilion/client/Protocol"
import { AgentRunner, estimateTask } from "@postilion/gateway"
import { AgentRunError } from "@postilion/gateway/domain/Errors"
import type { RunResult, RunTask, Usage } from "@postilion/gateway/domain/Run"
import { Clock, Context, Deferred, Effect, Exit, FiberId, Layer } from "effect"
import type { OutsideAgent, OutsideConfig } from "./OutsideConfig.ts"
import { type Connection, frameOf } from "./socket/Connection.ts"
import { Refusal } from "./socket/Refusal.ts"

export interface OutsideAgentsShape {
  /** Has a connection take tasks. */
  readonly serve: (connection: Connection, params: Params<"agent.serve">) => Result<"agent.serve"> | Refusal
  readonly renew: (connection: Connection, params: Params<"task.renew">) => Effect.Effect<Result<"task.renew">, Refusal>
  /** The event whose run it answers. */
  readonly complete: (connection: Connection, params: Params<"task.complete">) => { readonly eventId: string } | Refusal
  readonly fail: (connection: Connection, params: Params<"task.fail">) => Result<"task.fail"> | Refusal
  /** A connection has a socket again. */
  readonly resumed: (connection: Connection) => void
  /** A connection is gone for good: what it had is another's. */
  readonly dropped: (connection: Connection) => void
}

/** The programs that take the runs of agents that are outside. */
export class OutsideAgents extends Context.Tag("@postilion/server/OutsideAgents")<
  OutsideAgents,
  OutsideAgentsShape
>() {}

/** Answers that are remembered, so that one that comes again after a lost connection is no conflict. */
const MOST_ANSWERED = 1_000

/** A connection that takes tasks. */
interface Server {
  readonly connection: Connection
  agents: ReadonlySet<string>
  concurrency: number
  readonly tasks: Set<Assignment>
}

/** A run that is to be done outside, in one attempt. */
interface Assignment {
  readonly id: string
  readonly task: RunTask
  readonly config: OutsideAgent
  readonly outcome: Deferred.Deferred<RunResult, AgentRunError>
  /** Somebody is to have it. */
  readonly taken: Deferred.Deferred<Server>
  holder: Server | undefined
  /** Unix milliseconds; 0 until its holder is told of it. */
  leaseUntil: number
  /** What it is known to have used. */
  usage: Usage | undefined
}

const make = (config: OutsideConfig) =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const inside = yield* AgentRunner
    const agents = new Map(Object.entries(config))
    /** In the order their turn comes. */
    const servers = new Map<Connection, Server>()
    const assignments = new Map<string, Assignment>()
    const answered = new Map<string, { readonly principal: string; readonly eventId: string }>()
    const listeners = new Set<() => void>()

    const isThere = (server: Server, agentId: string): boolean =>
      server.connection.socket !== undefined && server.agents.has(agentId)
    const capacity = (agentId: string): number => {
      let sum = 0
      for (const server of servers.values()) if (isThere(server, agentId)) sum += server.concurrency
      return sum
    }
    /** Gives it to who has the fewest; of those, to whose turn it is. */
    const assign = (assignment: Assignment): void => {
      const { task } = assignment
      let least: Server | undefined
      for (const server of servers.values()) {
        if (!isThere(server, task.agent.id) || server.tasks.size >= server.concurrency) continue
        if (least === undefined || server.tasks.size < least.tasks.size) least = server
      }
      if (least === undefined) return
      servers.delete(least.connection)
      servers.set(least.connection, least)
      least.tasks.add(assignment)
      assignment.holder = least
      Deferred.unsafeDone(assignment.taken, Exit.succeed(least))
    }
    /** Tells its holder. From here on it is under a lease. */
    const hand = (assignment: Assignment, { connection }: Server): void => {
      const { config, id, task } = assignment
      assignment.leaseUntil = clock.unsafeCurrentTimeMillis() + config.leaseMs
      const { agent, event } = task
      connection.tell(
        frameOf("TASK", {
          task: id,
          runId: task.runId,
          attempt: task.attempt,
          agentId: agent.id,
          instructions: agent.instructions,
          maxOutputTokens: agent.maxOutputTokens,
          description: task.taskDescription,
          payload: task.payloadText,
          history: task.history.map(({ at, content, role, sender }) => ({
            role,
            content,
            at: at.toISOString(),
            ...(sender === undefined ? {} : { sender })
          })),
          event: {
            id: event.id,
            source: event.source,
            priority: event.priority,
            ...(event.sender === undefined ? {} : { sender: event.sender }),
            ...(event.sessionKey === undefined ? {} : { sessionKey: event.sessionKey })
          },
          leaseMs: config.leaseMs,
          leaseUntil: new Date(assignment.leaseUntil).toISOString()
        })
      )
    }
    /** Somebody may take more: first what waits in its attempt, then what waits for its turn. */
    const changed = (): void => {
      for (const assignment of assignments.values()) if (assignment.holder === undefined) assign(assignment)
      for (const listener of listeners) listener()
    }
    const forget = (assignment: Assignment): void => {
      const { holder, id } = assignment
      assignments.delete(id)
      holder?.tasks.delete(assignment)
      if (holder !== undefined && holder.agents.size === 0 && holder.tasks.size === 0) servers.delete(holder.connection)
      changed()
    }
    const lost = ({ usage }: Assignment, message: string) =>
      new AgentRunError({ message, retryable: true, retryAfterMillis: 0, ...(usage === undefined ? {} : { usage }) })
    /** Fails when the lease ends. */
    const expiry = (assignment: Assignment): Effect.Effect<never, AgentRunError> =>
      Effect.gen(function* () {
        while (true) {
          const left = assignment.leaseUntil - (yield* Clock.currentTimeMillis)
          if (left > 0) yield* Effect.sleep(left)
          else {
            const { leaseMs } = assignment.config
            const message = `who had the task did not renew it within ${leaseMs} ms (outside.${assignment.task.agent.id}.leaseMs)`
            return yield* lost(assignment, message)
          }
        }
      })
    const run = (task: RunTask, config: OutsideAgent): Effect.Effect<RunResult, AgentRunError> =>
      Effect.acquireUseRelease(
        Effect.sync((): Assignment => {
          const assignment: Assignment = {
            // An attempt is what fences: what comes of an earlier one is another task's.
            id: `${task.runId}/${task.attempt}`,
            task,
            config,
            outcome: Deferred.unsafeMake(FiberId.none),
            taken: Deferred.unsafeMake(FiberId.none),
            holder: undefined,
            leaseUntil: 0,
            usage: undefined
          }
          assignments.set(assignment.id, assignment)
          assign(assignment)
          return assignment
        }),
        (assignment) =>
          Effect.gen(function* () {
            const server = yield* Deferred.await(assignment.taken)
            const { client, principal } = server.connection
            // Nobody has a task before it is recorded that they do.
            yield* task.onAssigned?.({ principal: principal.name, client }) ?? Effect.void
            hand(assignment, server)
            return yield* Effect.raceFirst(Deferred.await(assignment.outcome), expiry(assignment))
          }),
        (assignment, exit) =>
          Effect.sync(() => {
            const { holder, id, leaseUntil } = assignment
            if (holder !== undefined && leaseUntil > 0 && !answered.has(id)) {
              const reason = Exit.isInterrupted(exit) ? "the run was ended" : "the lease has ended"
              holder.connection.tell(frameOf("CANCEL", { task: id, reason }))
            }
            forget(assignment)
          })
      )

    /** The task of this id, if this principal has it. */
    const held = ({ principal }: Connection, id: string): Assignment | Refusal => {
      const assignment = assignments.get(id)
      if (assignment?.holder?.connection.principal.name === principal.name && !answered.has(id)) return assignment
      const message = `task "${id.slice(0, 100)}" is not yours, or not any more`
      return new Refusal({ code: "conflict", message })
    }
    const answer = (
      connection: Connection,
      id: string,
      exitOf: (assignment: Assignment) => Exit.Exit<RunResult, AgentRunError>
    ): { readonly eventId: string } | Refusal => {
      const before = answered.get(id)
      if (before?.principal === connection.principal.name) return before
      const assignment = held(connection, id)
      if (assignment instanceof Refusal) return assignment
      const entry = { principal: connection.principal.name, eventId: assignment.task.event.id }
      answered.set(id, entry)
      for (const oldest of answered.keys()) {
        if (answered.size <= MOST_ANSWERED) break
        answered.delete(oldest)
      }
      Deferred.unsafeDone(assignment.outcome, exitOf(assignment))
      return entry
    }

    const shape: OutsideAgentsShape = {
      serve: (connection, { agents: ids, concurrency = 1 }) => {
        const known = [...agents.keys()].join(", ") || "none"
        const { name } = connection.principal
        for (const id of ids) {
          const agent = agents.get(id)
          if (agent === undefined) {
            return new Refusal({
              code: "not-found",
              message: `there is no agent "${id}" outside; those that are: ${known}`
            })
          }
          if (!(agent.principals ?? [id]).includes(name)) {
            return new Refusal({
              code: "forbidden",
              message: `${name} is not agent "${id}" (outside.${id}.principals)`
            })
          }
        }
        const server = servers.get(connection) ?? { connection, agents: new Set(), concurrency, tasks: new Set() }
        server.agents = new Set(ids)
        server.concurrency = concurrency
        servers.set(connection, server)
        changed()
        return { agents: ids.map((id) => ({ id, leaseMs: agents.get(id)?.leaseMs ?? 0 })) }
      },
      renew: (connection, { progress = false, task: id, usage }) =>
        Effect.suspend(() => {
          const assignment = held(connection, id)
          if (assignment instanceof Refusal) return assignment
          // Renewed by another connection of the same principal, it is that one's: it has come back as another.
          const server = servers.get(connection)
          if (server !== undefined && server !== assignment.holder) {
            assignment.holder?.tasks.delete(assignment)
            server.tasks.add(assignment)
            assignment.holder = server
          }
          assignment.leaseUntil = clock.unsafeCurrentTimeMillis() + assignment.config.leaseMs
          assignment.usage = usage ?? assignment.usage
          const leaseUntil = new Date(assignment.leaseUntil).toISOString()
          return Effect.as((progress ? assignment.task.onProgress : undefined) ?? Effect.void, { leaseUntil })
        }),
      complete: (connection, { model, task: id, text, usage }) =>
        answer(connection, id, ({ config }) => Exit.succeed({ text, usage, model: model ?? config.model ?? UNNAMED })),
      fail: (connection, { message, retryable = false, retryAfterMs, task: id, usage }) => {
        const failed = answer(connection, id, (assignment) => {
          const charged = usage ?? assignment.usage
          return Exit.fail(
            new AgentRunError({
              message,
              retryable,
              ...(retryAfterMs === undefined ? {} : { retryAfterMillis: retryAfterMs }),
              ...(charged === undefined ? {} : { usage: charged })
            })
          )
        })
        return failed instanceof Refusal ? failed : {}
      },
      resumed: (connection) => {
        if (servers.has(connection)) changed()
      },
      dropped: (connection) => {
        const server = servers.get(connection)
        if (server === undefined) return
        servers.delete(connection)
        for (const assignment of server.tasks) {
          const error = lost(assignment, `the program that had the task (${connection.principal.name}) is gone`)
          Deferred.unsafeDone(assignment.outcome, Exit.fail(error))
        }
      }
    }
    const runner: Context.Tag.Service<AgentRunner> = {
      ...inside,
      run: (task) => {
        const outside = agents.get(task.agent.id)
        return outside === undefined ? inside.run(task) : run(task, outside)
      },
      estimate: (task, historyCharacters) =>
        (agents.has(task.agent.id) ? estimateTask : inside.estimate)(task, historyCharacters),
      model: (agentId) => {
        const outside = agents.get(agentId)
        return outside === undefined ? inside.model?.(agentId) : outside.model
      },
      capacity: (agentId) =>
        agents.has(agentId) ? capacity(agentId) : (inside.capacity?.(agentId) ?? Number.POSITIVE_INFINITY),
      onCapacity: (listener) =>
        Effect.zipRight(
          Effect.acquireRelease(
            Effect.sync(() => void listeners.add(listener)),
            () => Effect.sync(() => void listeners.delete(listener))
          ),
          inside.onCapacity?.(listener) ?? Effect.void
        )
    }
    return Context.make(OutsideAgents, shape).pipe(Context.add(AgentRunner, runner))
  })

/** A model that was not named. */
const UNNAMED = "unknown"

/**
 * An `AgentRunner` that hands the runs of some agents to programs outside, and the others to the runner there is. A run waits for
 * its turn while no program is there to take it; one that has it renews its lease, and loses it to another when it does not.
 */
export const layer = (config: OutsideConfig): Layer.Layer<OutsideAgents | AgentRunner, never, AgentRunner> =>
  Layer.effectContext(make(config))
