import { Cause, Effect, Exit, Schedule } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import { AgentRunError, type GatewayError } from "../domain/Errors.ts"
import { timeoutOf } from "../domain/Job.ts"
import type { Worker } from "../domain/Run.ts"
import * as Attempt from "./Attempt.ts"
import * as AttemptSteps from "./AttemptSteps.ts"
import type { BusySession } from "./BusySession.ts"
import type { Lanes } from "./Lanes.ts"
import type { RunExit } from "./RunExit.ts"
import { isNewer, type RunItem } from "./RunItem.ts"
import type { RunSteps } from "./RunSteps.ts"
import { elapsed, type Progress, type RunTasks } from "./RunTasks.ts"
import type { SessionSteps } from "./SessionSteps.ts"

const RETRY_BASE = 1_000
const RETRY_MOST = 60_000

export interface RunSupervisionOptions {
  readonly lanes: Pick<Lanes<RunItem>, "waitingIn">
  readonly busy: BusySession
  readonly tasks: RunTasks
  readonly steps: Pick<RunSteps, "abandon" | "end">
  readonly supersede: SessionSteps["supersede"]
}

/**
 * Sees runs from their turn to their end: attempt after attempt, each counted, watched, kept alive and recorded. As its scope
 * closes it gives up on what cannot be written: that is to be before the runs are interrupted.
 */
export const make = (config: GatewayConfig, { busy, lanes, steps, supersede, tasks }: RunSupervisionOptions) =>
  Effect.gen(function* () {
    const attempts = yield* AttemptSteps.make
    const { interruptGraceMs, maxAttempts, runStallMs, runTimeoutMs } = config.limits
    const { whenBusy } = config.sessions

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

    /** Whether a newer message of its session came before its turn did. What a person approved runs as it is. */
    const isOvertaken = (item: RunItem): boolean =>
      whenBusy === "interrupt" &&
      item.approved === undefined &&
      item.event.sessionKey !== undefined &&
      lanes.waitingIn(item.lane).some((waiting) => isNewer(waiting, item))
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
    const keepLease = (item: RunItem, attempt: AttemptSteps.Attempt) =>
      attempts.extend(item, attempt).pipe(
        Effect.catchAll((error) => Effect.logWarning(`the lease of run ${item.runId} was not extended`, error)),
        Effect.schedule(Schedule.spaced(AttemptSteps.LEASE / 3))
      )
    /** What an attempt that has ended comes to. */
    const exitOf = ({ cut, exit, stopped }: Extract<Attempt.Outcome, { _tag: "Ended" }>): RunExit => {
      if (Exit.isSuccess(exit)) return exit
      if (cut !== undefined) return Exit.fail(cut)
      if (stopped || !Exit.isInterrupted(exit)) return exit
      return Exit.fail(new AgentRunError({ message: "the runner interrupted itself", retryable: false }))
    }
    /** An attempt that cannot be ended is let go of. What it reserved is charged, since it may still be using it. */
    const letGo = (
      item: RunItem,
      attempt: AttemptSteps.Attempt,
      { cut, late }: Extract<Attempt.Outcome, { _tag: "Stuck" }>
    ) =>
      Effect.gen(function* () {
        const { agentId, event, runId } = item
        const cause = cut?.message ?? "the run was interrupted"
        const error = `${cause}, and went on for more than ${interruptGraceMs} ms (limits.interruptGraceMs): it is abandoned, and what it still comes to is not its result`
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
        const why = "could not be interrupted, and may still be going on"
        const { tokens } = tasks.estimate(item, attempt.startedAt)
        yield* untilWritten(steps.abandon(row, error, tokens, { dispatch: item, why }))
        yield* late.pipe(
          Effect.flatMap((exit) => attempts.fenced(item, attempt, exit)),
          // Once the gateway has closed there is nowhere left to record it.
          Effect.ignoreLogged,
          Effect.forkDaemon
        )
      })
    /** How long to wait before another attempt; `undefined` when there is to be none. */
    const retryDelay = (item: RunItem, exit: RunExit): number | undefined => {
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
          if (isOvertaken(item)) return yield* untilWritten(supersede(item))
          yield* untilWritten(busy.collect(item))
          while (true) {
            const attempt = yield* untilWritten(attempts.start(item))
            if (attempt === undefined) {
              item.heldBack = !item.gone
              return
            }
            const progress: Progress = { at: undefined }
            const assigned = (worker: Worker) => untilWritten(attempts.assign(item, attempt, worker))
            const outcome = yield* Attempt.run(tasks.run(item, progress, assigned, busy.steering(item)), {
              restore,
              watch: watchOf(item, progress),
              beside: keepLease(item, attempt),
              graceMs: interruptGraceMs
            })
            if (outcome._tag === "Stuck") return yield* letGo(item, attempt, outcome)
            let exit = exitOf(outcome)
            const delay = retryDelay(item, exit)
            if (delay !== undefined && Exit.isFailure(exit)) {
              yield* untilWritten(attempts.retry(item, attempt, exit, delay))
              const waited = yield* Effect.exit(restore(Effect.sleep(delay)))
              if (Exit.isSuccess(waited)) continue
              exit = Exit.failCause(waited.cause)
            }
            // Cut off by the end of the process, a run has not ended: the next start takes it up again.
            if (Exit.isInterrupted(exit) && item.stopped === undefined) return
            return yield* untilWritten(steps.end(item, attempt, exit))
          }
        })
      )
    return work
  })
