import { Cause, Context, Effect, Exit, FiberMap, Layer, MutableList, Schedule } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import { AgentRunError, type GatewayError } from "../domain/Errors.ts"
import type { Agent, RunResult, RunTask } from "../domain/Run.ts"
import { toEvent } from "../records/EventCodec.ts"
import type { Tx } from "../records/Journal.ts"
import { SessionStore } from "../records/SessionStore.ts"
import { Store, type StoreError } from "../records/Store.ts"
import { AgentRunner } from "./AgentRunner.ts"
import { KillSwitch } from "./KillSwitch.ts"
import { type Dispatch, isResult, make as makeSteps, type RunItem } from "./RunSteps.ts"

export interface DispatcherShape {
  /** Records a run within the step that decided it, reserving its tokens, and dispatches it once that is committed. */
  readonly dispatch: (tx: Tx, runId: string, dispatch: Dispatch) => void
  /** The most tokens a run for this could use. */
  readonly estimate: (dispatch: Dispatch) => number
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
    /** Until what an earlier process left is taken up: the runs that are not of it, since events become due meanwhile. */
    let dispatched: Set<string> | undefined = new Set()
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
    const historyOf = (item: RunItem) => {
      const key = sessionOf(item)
      if (key === undefined) return Effect.succeed([])
      return sessions
        .history(key, { turns: historyTurns, characters: historyCharacters })
        .pipe(Effect.mapError((cause) => new AgentRunError({ message: cause.message, retryable: true, cause })))
    }
    const callAgent = (item: RunItem): Effect.Effect<RunResult, AgentRunError> =>
      historyOf(item).pipe(
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
    const work = (item: RunItem): Effect.Effect<void> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          while (true) {
            const startedAt = yield* untilWritten(start(item))
            let exit = yield* Effect.exit(restore(callAgent(item)))
            const delay = retryDelay(item, exit)
            if (delay !== undefined) {
              const waited = yield* Effect.exit(restore(Effect.sleep(delay)))
              if (Exit.isSuccess(waited)) continue
              exit = Exit.failCause(waited.cause)
            }
            // Cut off by the end of the process, a run has not ended: the next start takes it up again.
            if (Exit.isInterrupted(exit) && !terminated.has(item.runId)) return
            return yield* untilWritten(end(item, startedAt, exit))
          }
        })
      )

    /** Starts what may start: the first of each lane that is ready, within the limit and the kill switch. */
    const pump = (): void => {
      while (!draining && active.size < maxConcurrentRuns) {
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
          Effect.ensuring(
            work(item),
            Effect.sync(() => release(item, lane))
          )
        )
      }
    }
    const release = (item: RunItem, lane: string): void => {
      active.delete(item.runId)
      terminated.delete(item.runId)
      if (lanes.get(lane)?.length === 0) lanes.delete(lane)
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

    const resume = Effect.gen(function* () {
      // Pages overlap by one instant, since several runs may share it.
      let from = 0
      let seen: ReadonlySet<string> = new Set()
      while (true) {
        const open = yield* store.find("runs", {
          where: { state: { in: ["pending", "running"] }, created_at: { gte: from } },
          orderBy: ["created_at", "asc"],
          limit: PAGE + seen.size
        })
        const page = open.filter(({ id }) => !seen.has(id))
        if (page.length === 0) {
          dispatched = undefined
          return
        }
        from = page.at(-1)?.created_at ?? from
        seen = new Set(open.filter(({ created_at }) => created_at === from).map(({ id }) => id))
        const rows = yield* store.find("events", { where: { id: { in: page.map((run) => run.event_id) } } })
        const events = new Map(rows.map((row) => [row.id, row]))
        for (const run of page) {
          if (dispatched?.has(run.id)) continue
          const row = events.get(run.event_id)
          if (row === undefined || (run.state === "running" && run.attempt >= maxAttempts)) {
            yield* abandon(run)
            continue
          }
          const { agent_id: agentId, attempt, id: runId, task: taskDescription } = run
          enqueue({ runId, attempt, agentId, taskDescription, event: toEvent(row), payloadText: row.payload })
        }
      }
    })

    return Dispatcher.of({
      dispatch: (tx, runId, dispatch) => {
        record(tx, runId, dispatch, estimate(dispatch))
        dispatched?.add(runId)
        tx.onCommit(() => enqueue({ ...dispatch, runId, attempt: 0 }))
      },
      estimate,
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
