import { Context, Effect, FiberMap, Layer, type Scope } from "effect"
import type { Estimate } from "../domain/Budget.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import type { GatewayError } from "../domain/Errors.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import { makeIds } from "../domain/Ids.ts"
import type { Proposal } from "../domain/Proposal.ts"
import type { AgentStatus } from "../domain/Status.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { Store, type StoreError } from "../records/Store.ts"
import { AgentRunner } from "./AgentRunner.ts"
import { make as makeBusy } from "./BusySession.ts"
import { CrashLoop } from "./CrashLoop.ts"
import { KillSwitch } from "./KillSwitch.ts"
import { Lanes } from "./Lanes.ts"
import * as Recovery from "./Recovery.ts"
import { abortedBy, type Dispatch, isNewer, itemOf, laneOf, type RunItem } from "./RunItem.ts"
import { type Abandoned, make as makeSteps } from "./RunSteps.ts"
import * as RunSupervision from "./RunSupervision.ts"
import { make as makeTasks } from "./RunTasks.ts"
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
    const { maxConcurrentRuns, maxWaitingRuns } = config.limits
    const steps = yield* makeSteps(config)
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
    const idle: Array<() => void> = []
    let draining = false
    /** Until what an earlier process left is taken up: the runs that are not of it, since events become due meanwhile. */
    let dispatched: Set<string> | undefined = new Set()
    const fibers = yield* FiberMap.make<string>()
    const fork = yield* FiberMap.runtime(fibers)<never>()
    // After the fibers: it closes before them.
    const work = yield* RunSupervision.make(config, { busy, lanes, steps, supersede, tasks })

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
      if (item.heldBack) {
        item.heldBack = false
        // Whatever was to end it has not: there was nothing to end yet.
        item.stopped = undefined
        item.abortedBy = undefined
        lanes.giveBack(item)
      } else lanes.release(item)
      pump()
      if (active.size === 0) for (const resume of idle.splice(0)) resume()
    }
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
            steps.reply(tx, event, item.agentId, runId, undefined)
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

    const resume = yield* Recovery.make(config, {
      abandon: steps.abandon,
      isOwn: (runId) => dispatched?.has(runId) === true,
      enqueue
    })

    return Dispatcher.of({
      dispatch: (tx, dispatch) => {
        const runId = nextId("run", tx.now)
        steps.record(tx, runId, dispatch, tasks.estimate(dispatch, tx.now))
        dispatched?.add(runId)
        const item = itemOf(dispatch, runId)
        limit.admit(tx, item, (tx, oldest, error) => {
          drop(tx, oldest, error)
          steps.reply(tx, oldest.event, oldest.agentId, oldest.runId, undefined)
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
      onAbandoned: steps.onAbandoned,
      isActive: (sessionKey) => lanes.has(sessionKey),
      resume: Effect.zipLeft(
        resume,
        Effect.sync(() => {
          dispatched = undefined
        })
      ),
      drain: Effect.async<void>((resume) => {
        draining = true
        if (active.size === 0) resume(Effect.void)
        else idle.push(() => resume(Effect.void))
      })
    })
  })

export const layer = (config: GatewayConfig) => Layer.scoped(Dispatcher, make(config))
