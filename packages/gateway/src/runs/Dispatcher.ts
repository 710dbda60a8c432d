import { Cause, Context, Effect, Exit, FiberMap, Layer, MutableList, Schedule } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import { AgentRunError, type GatewayError } from "../domain/Errors.ts"
import { digestOf, type Proposal, proposalOf } from "../domain/Proposal.ts"
import type { Agent, RunResult, RunTask } from "../domain/Run.ts"
import { toEvent } from "../records/EventCodec.ts"
import type { Tx } from "../records/Journal.ts"
import { SessionStore } from "../records/SessionStore.ts"
import { Store, type StoreError } from "../records/Store.ts"
import { AgentRunner } from "./AgentRunner.ts"
import { CrashLoop } from "./CrashLoop.ts"
import { KillSwitch } from "./KillSwitch.ts"
import { type Dispatch, isResult, make as makeSteps, type RunItem } from "./RunSteps.ts"

export interface DispatcherShape {
  /** Records a run within the step that decided it, reserving its tokens, and dispatches it once that is committed. */
  readonly dispatch: (tx: Tx, runId: string, dispatch: Dispatch) => void
  /** The most tokens a run for this could use. */
  readonly estimate: (dispatch: Dispatch) => number
  /** What a run for this would be, as a person is asked to approve it. */
  readonly propose: (dispatch: Dispatch) => Proposal
  /** Runs the agents have now. */
  readonly running: () => number
  /** Runs that wait for their turn. */
  readonly waiting: () => number
  /** Whether a run of this session is under way or waits. */
  readonly isActive: (sessionKey: string) => boolean
  /** Takes up the runs an earlier process left: those that wait, and those it was cut off in. Once, at start. */
  readonly resume: Effect.Effect<void, StoreError | GatewayError>
  /** Dispatches nothing more, and waits for what runs. What waits stays recorded for the next start. */
  readonly drain: Effect.Effect<void>
}

/** The single point where events reach an agent: one run per session, so many at a time, none past the kill switch. */
export class Dispatcher extends Context.Tag("@postilion/gateway/Dispatcher")<Dispatcher, DispatcherShape>() {}

const RETRY_BASE = 1_000
const RETRY_MOST = 60_000
const PAGE = 500

/** What must be written is tried until it is: the gateway does not forget a run because the disk was full for a while. */
const untilWritten = <A>(step: Effect.Effect<A, GatewayError>): Effect.Effect<A> =>
  step.pipe(Effect.retry(Schedule.spaced("1 second")), Effect.orDie)

export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const store = yield* Store
    const sessions = yield* SessionStore
    const runner = yield* AgentRunner
    const killSwitch = yield* KillSwitch
    const crashLoop = yield* CrashLoop
    const { historyCharacters, historyTurns, maxAttempts, maxConcurrentRuns, payloadCharacters, runTimeoutMs } =
      config.limits
    const { abandon, end, record, sessionOf, start } = yield* makeSteps(config)

    const agents = new Map<string, Agent>(Object.entries(config.agents).map(([id, agent]) => [id, { id, ...agent }]))
    const lanes = new Map<string, Array<RunItem>>()
    const ready = MutableList.empty<string>()
    /** Lanes whose first item the kill switch holds back. */
    const parked = new Set<string>()
    const active = new Map<string, RunItem>()
    const terminated = new Set<string>()
    const idle: Array<() => void> = []
    let waiting = 0
    let draining = false
    const fibers = yield* FiberMap.make<string>()
    const fork = yield* FiberMap.runtime(fibers)<never>()

    const laneOf = ({ event }: RunItem): string => event.sessionKey ?? event.id
    const taskOf = (item: Dispatch, runId: string, attempt: number): Omit<RunTask, "history"> => ({
      runId,
      attempt,
      agent: agents.get(item.agentId) ?? { id: item.agentId, instructions: "", maxOutputTokens: 1024 },
      event: item.event,
      taskDescription: item.taskDescription,
      payloadText:
        item.payloadText.length > payloadCharacters
          ? `${item.payloadText.slice(0, payloadCharacters)}… (${item.payloadText.length - payloadCharacters} more characters)`
          : item.payloadText
    })
    const estimate = (dispatch: Dispatch): number =>
      runner.estimate(taskOf(dispatch, "", 1), sessionOf(dispatch) === undefined ? 0 : historyCharacters)
    const propose = (dispatch: Dispatch): Proposal => {
      const shown = sessionOf(dispatch) === undefined ? 0 : 1
      return proposalOf(taskOf(dispatch, "", 1), {
        runTimeoutMs,
        maxAttempts,
        historyTurns: shown * historyTurns,
        historyCharacters: shown * historyCharacters
      })
    }
    /** The last look before the agent is called: a restart may have brought other instructions, or other limits. */
    const checkApproved = (item: RunItem): Effect.Effect<void, AgentRunError> =>
      item.approved === undefined || item.approved === digestOf(propose(item))
        ? Effect.void
        : new AgentRunError({
            message: `this is no longer what was approved (digest ${item.approved}), so it was not run; submit it again to have it approved as it is now`,
            retryable: false
          })
    const historyOf = (item: RunItem) => {
      const key = sessionOf(item)
      if (key === undefined) return Effect.succeed([])
      return sessions
        .history(key, { turns: historyTurns, characters: historyCharacters })
        .pipe(Effect.mapError((cause) => new AgentRunError({ message: cause.message, retryable: true, cause })))
    }
    const callAgent = (item: RunItem): Effect.Effect<RunResult, AgentRunError> =>
      Effect.zipRight(checkApproved(item), historyOf(item)).pipe(
        Effect.flatMap((history) => runner.run({ ...taskOf(item, item.runId, item.attempt), history })),
        Effect.filterOrFail(
          isResult,
          () =>
            new AgentRunError({
              message:
                "the runner returned no text, model and usage that can be recorded; what was reserved is charged",
              retryable: false,
              usage: { inputTokens: estimate(item), outputTokens: 0 }
            })
        ),
        Effect.timeoutFail({
          duration: runTimeoutMs,
          onTimeout: () =>
            new AgentRunError({
              message: `the run took longer than ${runTimeoutMs} ms and was interrupted (limits.runTimeoutMs)`,
              retryable: true
            })
        })
      )
    /** How long to wait before another attempt; `undefined` when there is to be none. */
    const retryDelay = (item: RunItem, exit: Exit.Exit<RunResult, AgentRunError>): number | undefined => {
      if (Exit.isSuccess(exit) || Exit.isInterrupted(exit) || item.attempt >= maxAttempts) return undefined
      const failure = Cause.failureOption(exit.cause)
      if (failure._tag === "None" || !failure.value.retryable) return undefined
      const delay = failure.value.retryAfterMillis ?? Math.min(RETRY_BASE * 2 ** (item.attempt - 1), RETRY_MOST)
      return delay > runTimeoutMs ? undefined : delay
    }
    /** Sees a run to its end; `false` when the kill switch holds back its next attempt. */
    const work = (item: RunItem): Effect.Effect<boolean> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          while (true) {
            const startedAt = yield* untilWritten(start(item))
            if (startedAt === undefined) return false
            let exit = yield* Effect.exit(restore(callAgent(item)))
            const delay = retryDelay(item, exit)
            if (delay !== undefined) {
              const waited = yield* Effect.exit(restore(Effect.sleep(delay)))
              if (Exit.isSuccess(waited)) continue
              exit = Exit.failCause(waited.cause)
            }
            // Cut off by the end of the process, a run has not ended: the next start takes it up again.
            if (Exit.isInterrupted(exit) && !terminated.has(item.runId)) return true
            yield* untilWritten(end(item, startedAt, exit))
            return true
          }
        })
      )

    /** Starts what may start: the first of each lane that is ready, within the limit and the kill switch. */
    const pump = (): void => {
      while (!draining && crashLoop.held() === undefined && active.size < maxConcurrentRuns) {
        const lane = MutableList.shift(ready)
        if (lane === undefined) return
        const queue = lanes.get(lane)
        const item = queue?.[0]
        if (queue === undefined || item === undefined) continue
        if (killSwitch.mode(item.agentId) !== "running") {
          parked.add(lane)
          continue
        }
        queue.shift()
        waiting -= 1
        active.set(item.runId, item)
        fork(
          item.runId,
          Effect.onExit(work(item), (exit) =>
            Effect.sync(() => release(item, lane, Exit.isSuccess(exit) && !exit.value))
          )
        )
      }
    }
    const release = (item: RunItem, lane: string, heldBack: boolean): void => {
      active.delete(item.runId)
      terminated.delete(item.runId)
      const queue = lanes.get(lane)
      if (heldBack && queue !== undefined) {
        queue.unshift(item)
        waiting += 1
      }
      if (queue?.length === 0) lanes.delete(lane)
      else MutableList.append(ready, lane)
      pump()
      if (active.size === 0) for (const resume of idle.splice(0)) resume()
    }
    const enqueue = (item: RunItem): void => {
      const lane = laneOf(item)
      const queue = lanes.get(lane)
      waiting += 1
      if (queue === undefined) {
        lanes.set(lane, [item])
        MutableList.append(ready, lane)
        pump()
      } else queue.push(item)
    }

    yield* killSwitch.onChange(() => {
      for (const item of active.values()) {
        if (killSwitch.mode(item.agentId) !== "terminated") continue
        terminated.add(item.runId)
        fork(`terminate:${item.runId}`, FiberMap.remove(fibers, item.runId))
      }
      for (const lane of parked) MutableList.append(ready, lane)
      parked.clear()
      pump()
    })

    yield* crashLoop.onRelease(pump)

    const resume = Effect.gen(function* () {
      const open = yield* store.find("runs", {
        where: { state: { in: ["pending", "running"] } },
        orderBy: ["created_at", "asc"]
      })
      for (let from = 0; from < open.length; from += PAGE) {
        const page = open.slice(from, from + PAGE)
        const rows = yield* store.find("events", { where: { id: { in: page.map((run) => run.event_id) } } })
        const events = new Map(rows.map((row) => [row.id, row]))
        const approvals = yield* store.find("approvals", { where: { event_id: { in: [...events.keys()] } } })
        const approvedFor = new Map(approvals.map(({ digest, run_id }) => [run_id, digest]))
        for (const run of page) {
          const row = events.get(run.event_id)
          if (row === undefined || (run.state === "running" && run.attempt >= maxAttempts)) {
            yield* abandon(run)
            continue
          }
          const { agent_id: agentId, attempt, id: runId, task: taskDescription } = run
          const approved = approvedFor.get(runId)
          enqueue({ runId, attempt, agentId, taskDescription, approved, event: toEvent(row), payloadText: row.payload })
        }
      }
    })

    return Dispatcher.of({
      dispatch: (tx, runId, dispatch) => {
        record(tx, runId, dispatch, estimate(dispatch))
        tx.onCommit(() => enqueue({ ...dispatch, runId, attempt: 0 }))
      },
      estimate,
      propose,
      running: () => active.size,
      waiting: () => waiting,
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
