import { Cause, Context, Effect, Exit, FiberMap, Layer, Schedule, type Scope } from "effect"
import type { Estimate } from "../domain/Budget.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import { AgentRunError, type GatewayError } from "../domain/Errors.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import { makeIds } from "../domain/Ids.ts"
import { jobOf, timeoutOf } from "../domain/Job.ts"
import type { Proposal } from "../domain/Proposal.ts"
import type { Worker } from "../domain/Run.ts"
import type { AgentStatus } from "../domain/Status.ts"
import { EVENT_COLUMNS, toLazyEvent } from "../records/EventCodec.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { Store, type StoreError } from "../records/Store.ts"
import { AgentRunner } from "./AgentRunner.ts"
import * as Attempts from "./Attempt.ts"
import { make as makeBusy } from "./BusySession.ts"
import { CrashLoop } from "./CrashLoop.ts"
import { KillSwitch } from "./KillSwitch.ts"
import { Lanes } from "./Lanes.ts"
import {
  type Abandoned,
  type Attempt,
  abortedBy,
  type Dispatch,
  LEASE,
  make as makeSteps,
  NO_USAGE,
  type RunItem
} from "./RunSteps.ts"
import { elapsed, make as makeTasks, type Progress } from "./RunTasks.ts"
import { make as makeLimit } from "./SessionLimit.ts"
import { make as makeSessionSteps } from "./SessionSteps.ts"

export interface DispatcherShape {
  /** Records a run within the step that decided it, reserving its tokens, and dispatches it once that is committed; its id. */
  readonly dispatch: (tx: Tx, dispatch: Dispatch) => string
  /**
   * Whether an event has to be refused since too much waits in its session. Within the step that would accept it: that it is
   * refused is recorded in it.
   */
  readonly refuses: (tx: Tx, sessionKey: string, agentId: string) => boolean
  /** The most a run for this could use, at the prices of `now`. */
  readonly estimate: (dispatch: Dispatch, now: number) => Estimate
  /** What a run for this would be, as a person is asked to approve it. */
  readonly propose: (dispatch: Dispatch) => Proposal
  /** Runs the agents have now. */
  readonly running: () => number
  /** Runs that wait for their turn. */
  readonly waiting: () => number
  /** The same by agent. */
  readonly agents: () => ReadonlyArray<AgentStatus>
  /** Whether as many runs of this agent wait as may, as the steps so far have it. */
  readonly isFull: (agentId: string) => boolean
  /** Whether a run of this session is under way or waits. */
  readonly isActive: (sessionKey: string) => boolean
  /**
   * Ends a run of this event: one that waits does not begin, one that is under way is interrupted, and waited for. Does nothing
   * where it has ended; how it did is in the records.
   */
  readonly abort: (runId: string, event: GatewayEvent, by: string) => Effect.Effect<void, GatewayError>
  /** Calls `listener` in the step that abandons a run, until the scope closes. */
  readonly onAbandoned: (listener: (tx: Tx, abandoned: Abandoned) => void) => Effect.Effect<void, never, Scope.Scope>
  /** Takes up the runs an earlier process left: those that wait, and those it was cut off in. Once, at start. */
  readonly resume: Effect.Effect<void, StoreError | GatewayError>
  /** Dispatches nothing more, and waits for what runs. What waits stays recorded for the next start. */
  readonly drain: Effect.Effect<void>
}

/** The single point where events reach an agent: one run per session, so many per agent and in all, none past the kill switch. */
export class Dispatcher extends Context.Tag("@postilion/gateway/Dispatcher")<Dispatcher, DispatcherShape>() {}

/** What a person can say of a run that was abandoned. */
const ASK = "approve to try it again, deny to drop it"
/** Whether one was asked after the other, though it may have been let through before. */
const isNewer = (one: RunItem, other: RunItem): boolean => one.event.id > other.event.id
const RETRY_BASE = 1_000
const RETRY_MOST = 60_000
const PAGE = 500
const RUN_COLUMNS = [
  "id",
  "event_id",
  "agent_id",
  "source",
  "state",
  "attempt",
  "task",
  "started_at",
  "input_tokens",
  "output_tokens"
] as const

export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const tasks = yield* makeTasks(config)
    const [last] = yield* store.find("runs", { orderBy: ["id", "desc"], limit: 1 })
    // A session's runs are taken up in the order of their ids, so that order must outlive a clock that is set back.
    const nextId = makeIds(last?.id)
    const runner = yield* AgentRunner
    const killSwitch = yield* KillSwitch
    const crashLoop = yield* CrashLoop
    const { interruptGraceMs, maxAttempts, maxConcurrentRuns, maxWaitingRuns, onCrash, runStallMs, runTimeoutMs } =
      config.limits
    const { abandon, assign, end, extend, fenced, record, reply, retry, start } = yield* makeSteps(config)
    const { drop, merge, supersede } = yield* makeSessionSteps(config)

    const limitOf = (agentId: string): number =>
      Math.min(
        config.agents[agentId]?.maxConcurrentRuns ?? maxConcurrentRuns,
        maxConcurrentRuns,
        runner.capacity?.(agentId) ?? maxConcurrentRuns
      )
    const lanes = new Lanes<RunItem>({
      limit: maxConcurrentRuns,
      limitOf,
      mayStart: (agentId) => killSwitch.mode(agentId) === "running"
    })
    const limit = yield* makeLimit(config.sessions, lanes)
    const busy = yield* makeBusy(config.sessions, { ...limit, merge })
    const { collectMs, maxWaiting, whenBusy } = config.sessions
    const active = new Map<string, RunItem>()
    /** Runs recorded by a step that is not committed yet, by agent. A batch that is withdrawn takes them back. */
    const coming = new Map<string, number>()
    yield* journal.register(Effect.sync(() => coming.clear()))
    const comingOf = (agentId: string): number => coming.get(agentId) ?? 0
    /** Runs that got their turn, but not their attempt: the kill switch was thrown in between. They wait again. */
    const heldBack = new Set<string>()
    const idle: Array<() => void> = []
    const abandonedListeners = new Set<(tx: Tx, abandoned: Abandoned) => void>()
    const tellAbandoned = (tx: Tx, abandoned: Abandoned): void => {
      const { agentId, event, runId } = abandoned
      reply(tx, event, agentId, runId, undefined)
      for (const listener of abandonedListeners) listener(tx, abandoned)
    }
    let draining = false
    /** Until what an earlier process left is taken up: the runs that are not of it, since events become due meanwhile. */
    let dispatched: Set<string> | undefined = new Set()
    const fibers = yield* FiberMap.make<string>()
    const fork = yield* FiberMap.runtime(fibers)<never>()

    /** Whether the scope closes. */
    let closing = false
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closing = true
      })
    )
    /**
     * What must be written is tried until it is: the gateway does not forget a run because the disk was full for a while. A
     * gateway that closes does not wait for its disk: the next start takes the run up again.
     */
    const untilWritten = <A>(step: Effect.Effect<A, GatewayError>): Effect.Effect<A> =>
      step.pipe(
        Effect.retry({ schedule: Schedule.spaced("1 second"), while: () => !closing }),
        Effect.catchAll(() => Effect.interrupt)
      )

    /** Events of a session have one lane, as have those of a job, unless it lets them overlap. */
    const laneOf = (event: GatewayEvent): string => {
      if (event.sessionKey !== undefined) return event.sessionKey
      const job = jobOf(event)
      return job === undefined || job.overlap === "allow" ? event.id : `job:${job.jobId}`
    }
    const cutShort = (message: string) => new AgentRunError({ message, retryable: true })
    /** Succeeds when the attempt is to be interrupted: it takes too long, or went on and has come to a halt. */
    const watchOf = ({ event }: RunItem, progress: Progress): Effect.Effect<AgentRunError> =>
      Effect.gen(function* () {
        const timeoutMs = timeoutOf(event, runTimeoutMs)
        const began = yield* elapsed
        while (true) {
          const now = yield* elapsed
          const { at } = progress
          if (now >= began + timeoutMs) {
            const which = timeoutMs < runTimeoutMs ? "its job's timeoutMs" : "limits.runTimeoutMs"
            return cutShort(`the run took longer than ${timeoutMs} ms and was interrupted (${which})`)
          }
          if (at !== undefined && now >= at + runStallMs) {
            return cutShort(`the run showed no progress for ${runStallMs} ms and was interrupted (limits.runStallMs)`)
          }
          const deadline = Math.min(began + timeoutMs, (at ?? now) + runStallMs)
          yield* Effect.sleep(deadline - now)
        }
      })
    const keepLease = (item: RunItem, attempt: Attempt) =>
      extend(item, attempt).pipe(
        Effect.catchAll((error) => Effect.logWarning(`the lease of run ${item.runId} was not extended`, error)),
        Effect.schedule(Schedule.spaced(LEASE / 3))
      )
    /** What an attempt that has ended comes to. */
    const exitOf = ({ cut, exit, stopped }: Extract<Attempts.Outcome, { _tag: "Ended" }>): Attempts.RunExit => {
      if (Exit.isSuccess(exit)) return exit
      if (cut !== undefined) return Exit.fail(cut)
      if (stopped || !Exit.isInterrupted(exit)) return exit
      return Exit.fail(new AgentRunError({ message: "the runner interrupted itself", retryable: false }))
    }
    /** An attempt that cannot be ended is let go of. What it reserved is charged, since it may still be using it. */
    const letGo = (item: RunItem, attempt: Attempt, { cut, late }: Extract<Attempts.Outcome, { _tag: "Stuck" }>) =>
      Effect.gen(function* () {
        const { agentId, event, runId } = item
        const why = cut?.message ?? "the run was interrupted"
        const error = `${why}, and went on for more than ${interruptGraceMs} ms (limits.interruptGraceMs): it is abandoned, and what it still comes to is not its result`
        yield* Effect.logError(`run ${runId}: ${error}`)
        const row = {
          id: runId,
          event_id: event.id,
          agent_id: agentId,
          source: event.source,
          attempt: attempt.attempt,
          started_at: attempt.startedAt,
          input_tokens: item.spent.inputTokens,
          output_tokens: item.spent.outputTokens
        }
        const reason = `run ${runId} could not be interrupted, and may still be going on; ${ASK}`
        const { tokens } = tasks.estimate(item, attempt.startedAt)
        yield* untilWritten(abandon(row, error, tokens, (tx) => tellAbandoned(tx, { ...item, reason })))
        yield* late.pipe(
          Effect.flatMap((exit) => fenced(item, attempt, exit)),
          // Once the gateway has closed there is nowhere left to record it.
          Effect.ignoreLogged,
          Effect.forkDaemon
        )
      })
    /** How long to wait before another attempt; `undefined` when there is to be none. */
    const retryDelay = (item: RunItem, exit: Attempts.RunExit): number | undefined => {
      if (Exit.isSuccess(exit) || Exit.isInterrupted(exit) || item.attempt >= maxAttempts) return undefined
      const failure = Cause.failureOption(exit.cause)
      if (failure._tag === "None" || !failure.value.retryable) return undefined
      const delay = failure.value.retryAfterMillis ?? Math.min(RETRY_BASE * 2 ** (item.attempt - 1), RETRY_MOST)
      return delay > runTimeoutMs ? undefined : delay
    }
    /** Sees a run to its end, or to where the kill switch holds back its next attempt. */
    const work = (item: RunItem): Effect.Effect<void> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          if (
            whenBusy === "interrupt" &&
            item.approved === undefined &&
            item.event.sessionKey !== undefined &&
            lanes.waitingIn(item.lane).some((waiting) => isNewer(waiting, item))
          ) {
            return yield* untilWritten(supersede(item))
          }
          yield* untilWritten(busy.collect(item))
          while (true) {
            const attempt = yield* untilWritten(start(item))
            if (attempt === undefined) {
              if (!item.gone) heldBack.add(item.runId)
              return
            }
            const progress: Progress = { at: undefined }
            const assigned = (worker: Worker) => untilWritten(assign(item, attempt, worker))
            const outcome = yield* Attempts.run(tasks.run(item, progress, assigned, busy.steering(item)), {
              restore,
              watch: watchOf(item, progress),
              beside: keepLease(item, attempt),
              graceMs: interruptGraceMs
            })
            if (outcome._tag === "Stuck") return yield* letGo(item, attempt, outcome)
            let exit = exitOf(outcome)
            const delay = retryDelay(item, exit)
            if (delay !== undefined && Exit.isFailure(exit)) {
              yield* untilWritten(retry(item, attempt, exit, delay))
              const waited = yield* Effect.exit(restore(Effect.sleep(delay)))
              if (Exit.isSuccess(waited)) continue
              exit = Exit.failCause(waited.cause)
            }
            // Cut off by the end of the process, a run has not ended: the next start takes it up again.
            if (Exit.isInterrupted(exit) && item.stopped === undefined) return
            return yield* untilWritten(end(item, attempt, exit))
          }
        })
      )

    /** Starts what may start. */
    const pump = (): void => {
      while (!draining && crashLoop.held() === undefined) {
        const item = lanes.next()
        if (item === undefined) return
        active.set(item.runId, item)
        fork(
          item.runId,
          Effect.ensuring(
            work(item),
            Effect.sync(() => release(item))
          )
        )
      }
    }
    const releases = new Set<() => void>()
    const release = (item: RunItem): void => {
      active.delete(item.runId)
      for (const look of releases) look()
      if (heldBack.delete(item.runId)) {
        // Whatever was to end it has not: there was nothing to end yet.
        item.stopped = undefined
        item.abortedBy = undefined
        lanes.giveBack(item)
      } else lanes.release(item)
      pump()
      if (active.size === 0) for (const resume of idle.splice(0)) resume()
    }
    const itemOf = (dispatch: Dispatch, runId: string, attempt = 0, spent = NO_USAGE): RunItem => ({
      event: dispatch.event,
      agentId: dispatch.agentId,
      taskDescription: dispatch.taskDescription,
      payloadText: dispatch.payloadText,
      approved: dispatch.approved,
      runId,
      attempt,
      spent,
      lane: laneOf(dispatch.event),
      priority: dispatch.event.priority,
      gone: false,
      stopped: undefined,
      abortedBy: undefined
    })
    const enqueue = (item: RunItem): void => {
      if (item.gone) return
      lanes.add(item)
      if (item.event.sessionKey !== undefined) arrived(item)
      pump()
    }
    /** Interrupts a run that is not to be tried again. */
    const stop = (item: RunItem, why: RunItem["stopped"]): void => {
      item.stopped ??= why
      fork(`stop:${item.runId}`, FiberMap.remove(fibers, item.runId))
    }
    /** Waits for a run that is under way to be so no more. */
    const untilReleased = ({ runId }: RunItem) =>
      Effect.async<void>((resume) => {
        const look = (): void => {
          if (active.has(runId)) return
          releases.delete(look)
          resume(Effect.void)
        }
        releases.add(look)
        look()
        return Effect.sync(() => void releases.delete(look))
      })
    const abort: DispatcherShape["abort"] = (runId, event, by) =>
      Effect.gen(function* () {
        while (true) {
          const running = active.get(runId)
          if (running !== undefined) {
            if (running.stopped === undefined) running.abortedBy = by
            stop(running, "aborted")
            // The kill switch may have held it back before it began: then it waits again.
            yield* untilReleased(running)
          }
          const left = yield* journal.step((tx) => {
            const item = limit.waitingIn(laneOf(event)).find((waiting) => waiting.runId === runId)
            if (item === undefined) return active.has(runId)
            limit.leave(tx, item)
            drop(tx, item, abortedBy(by), by)
            reply(tx, event, item.agentId, runId, undefined)
            return false
          })
          if (!left) return
        }
      })
    const arrived = (item: RunItem): void => {
      const { lane } = item
      if (whenBusy === "interrupt") {
        for (const running of active.values()) {
          // What a person approved runs as it is.
          if (running.lane === lane && running.approved === undefined && isNewer(item, running)) {
            stop(running, "superseded")
          }
        }
      }
      if (whenBusy !== "collect") return
      // As many wait as may: whatever comes from here on is no reason to wait longer.
      if (limit.waitingIn(lane).length >= maxWaiting) {
        lanes.open(lane)
        return
      }
      // Until no more has come for a while.
      lanes.hold(lane)
      const open = Effect.sync(() => {
        lanes.open(lane)
        pump()
      })
      fork(`collect:${lane}`, Effect.zipRight(Effect.sleep(collectMs), open))
    }

    const reconsider = (): void => {
      lanes.reconsider()
      pump()
    }
    yield* killSwitch.onChange(() => {
      for (const item of active.values()) {
        if (killSwitch.mode(item.agentId) !== "terminated") continue
        stop(item, "terminated")
      }
      reconsider()
    })
    yield* runner.onCapacity?.(reconsider) ?? Effect.void

    yield* crashLoop.onRelease(pump)

    const resume = Effect.gen(function* () {
      // By id, not by time: a clock may stand still or be set back, and a session's runs are in order all the same.
      let after = ""
      while (true) {
        const page = yield* store.find("runs", {
          columns: RUN_COLUMNS,
          where: { state: { in: ["pending", "running"] }, id: { gt: after } },
          orderBy: ["id", "asc"],
          limit: PAGE
        })
        const last = page.at(-1)
        if (last === undefined) {
          dispatched = undefined
          return
        }
        after = last.id
        const rows = yield* store.find("events", {
          columns: EVENT_COLUMNS,
          where: { id: { in: page.map((run) => run.event_id) } }
        })
        const events = new Map(rows.map((row) => [row.id, row]))
        const approvals = yield* store.find("approvals", {
          columns: ["consumed_by", "digest"],
          where: { event_id: { in: [...events.keys()] } }
        })
        const approvedFor = new Map(approvals.map(({ consumed_by, digest }) => [consumed_by, digest]))
        for (const run of page) {
          if (dispatched?.has(run.id)) continue
          const row = events.get(run.event_id)
          if (row === undefined) {
            yield* abandon(run, "the event it was to handle is not in the records any more", 0, () => {})
            continue
          }
          const { agent_id: agentId, attempt, id: runId, task: taskDescription } = run
          const approved = approvedFor.get(runId)
          const dispatch = { agentId, taskDescription, approved, event: toLazyEvent(row), payloadText: row.payload }
          const cutOff = run.state === "running"
          if (cutOff && (attempt >= maxAttempts || onCrash === "escalate")) {
            const error =
              attempt >= maxAttempts
                ? `cut off in its last attempt of ${maxAttempts}`
                : `cut off in attempt ${attempt}, and not tried again (limits.onCrash)`
            const reason = `run ${runId} was cut off in attempt ${attempt}; ${ASK}`
            yield* abandon(run, error, 0, (tx) => tellAbandoned(tx, { ...dispatch, runId, reason }))
          } else {
            const spent = { inputTokens: run.input_tokens, outputTokens: run.output_tokens }
            enqueue(itemOf(dispatch, runId, attempt, spent))
          }
        }
      }
    })

    return Dispatcher.of({
      dispatch: (tx, dispatch) => {
        const runId = nextId("run", tx.now)
        record(tx, runId, dispatch, tasks.estimate(dispatch, tx.now))
        dispatched?.add(runId)
        const item = itemOf(dispatch, runId)
        limit.admit(tx, item, (tx, oldest, error) => {
          drop(tx, oldest, error)
          reply(tx, oldest.event, oldest.agentId, oldest.runId, undefined)
        })
        const { agentId } = dispatch
        coming.set(agentId, comingOf(agentId) + 1)
        tx.onCommit(() => {
          if (comingOf(agentId) > 1) coming.set(agentId, comingOf(agentId) - 1)
          else coming.delete(agentId)
          enqueue(item)
        })
        return runId
      },
      refuses: limit.refuses,
      abort,
      estimate: tasks.estimate,
      propose: tasks.propose,
      running: () => active.size,
      waiting: () => lanes.waiting,
      agents: () =>
        Object.keys(config.agents).map((id) => ({
          id,
          running: lanes.runningOf(id),
          waiting: lanes.waitingOf(id),
          limit: limitOf(id)
        })),
      isFull: (agentId) =>
        lanes.waitingOf(agentId) + Math.max(0, comingOf(agentId) - lanes.roomFor(agentId)) >= maxWaitingRuns,
      onAbandoned: (listener) =>
        Effect.acquireRelease(
          Effect.sync(() => void abandonedListeners.add(listener)),
          () => Effect.sync(() => void abandonedListeners.delete(listener))
        ),
      isActive: (sessionKey) => lanes.has(sessionKey),
      resume,
      drain: Effect.async<void>((resume) => {
        draining = true
        if (active.size === 0) resume(Effect.void)
        else idle.push(() => resume(Effect.void))
      })
    })
  })

export const layer = (config: GatewayConfig) => Layer.scoped(Dispatcher, make(config))
