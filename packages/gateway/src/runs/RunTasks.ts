import { Clock, DateTime, Effect } from "effect"
import type { Estimate } from "../domain/Budget.ts"
import { parseZone } from "../domain/Calendar.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import { AgentRunError } from "../domain/Errors.ts"
import { timeoutOf } from "../domain/Job.ts"
import { make as makePrices } from "../domain/Prices.ts"
import { digestOf, type Proposal, proposalOf } from "../domain/Proposal.ts"
import type { Agent, RunResult, RunTask } from "../domain/Run.ts"
import { BudgetLedger } from "../records/BudgetLedger.ts"
import { SessionStore } from "../records/SessionStore.ts"
import { AgentRunner } from "./AgentRunner.ts"
import { isResult } from "./RunExit.ts"
import { type Dispatch, type RunItem, sessionOf } from "./RunItem.ts"

/** When an attempt last showed that it goes on, as `elapsed` has it; never, for a runner that does not say. */
export interface Progress {
  at: number | undefined
}

/** Milliseconds by a clock that nobody sets: how long a run takes has nothing to do with what the clock on the wall shows. */
export const elapsed = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos) / 1_000_000)

/** The model of a runner that does not name it. */
const UNNAMED = "unknown"

/** What an agent is given for a run, and what it answers. */
export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const sessions = yield* SessionStore
    const runner = yield* AgentRunner
    const ledger = yield* BudgetLedger
    const costOf = makePrices(config.prices, parseZone(config.timezone) ?? DateTime.zoneMakeOffset(0))
    const { historyCharacters, historyTurns, maxAttempts, payloadCharacters, runTimeoutMs } = config.limits
    /** One that is not configured any more has nothing but its name. */
    const agentOf = (id: string): Agent => {
      const { instructions = "", maxOutputTokens = 1024 } = Object.hasOwn(config.agents, id)
        ? (config.agents[id] ?? {})
        : {}
      return { id, instructions, maxOutputTokens }
    }

    const taskOf = (item: Dispatch, runId: string, attempt: number): Omit<RunTask, "history"> => ({
      runId,
      attempt,
      agent: agentOf(item.agentId),
      event: item.event,
      taskDescription: item.taskDescription,
      payloadText:
        item.payloadText.length > payloadCharacters
          ? `${item.payloadText.slice(0, payloadCharacters)}… (${item.payloadText.length - payloadCharacters} more characters)`
          : item.payloadText
    })
    const tokensOf = (task: Omit<RunTask, "history">, dispatch: Dispatch): number =>
      runner.estimate(task, sessionOf(config, dispatch) === undefined ? 0 : historyCharacters)
    /** The most a run for this could use, at the prices of `now`. Money only where it is counted. */
    const estimate = (dispatch: Dispatch, now: number): Estimate => {
      const task = taskOf(dispatch, "", 1)
      const tokens = tokensOf(task, dispatch)
      const model = runner.model?.(dispatch.agentId) ?? UNNAMED
      if (!ledger.hasMoney) return { tokens, usd: null, model }
      const outputTokens = Math.min(task.agent.maxOutputTokens, tokens)
      return { tokens, model, usd: costOf(model, { inputTokens: tokens - outputTokens, outputTokens }, now) }
    }
    const propose = (dispatch: Dispatch): Proposal => {
      const shown = sessionOf(config, dispatch) === undefined ? 0 : 1
      return proposalOf(taskOf(dispatch, "", 1), {
        runTimeoutMs: timeoutOf(dispatch.event, runTimeoutMs),
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
      const key = sessionOf(config, item)
      if (key === undefined) return Effect.succeed([])
      return sessions
        .history(key, { turns: historyTurns, characters: historyCharacters })
        .pipe(Effect.mapError((cause) => new AgentRunError({ message: cause.message, retryable: true, cause })))
    }
    const run = (
      item: RunItem,
      progress: Progress,
      onAssigned: NonNullable<RunTask["onAssigned"]>,
      steering: Effect.Effect<ReadonlyArray<string>> | undefined
    ): Effect.Effect<RunResult, AgentRunError> => {
      const onProgress = Effect.map(elapsed, (now) => {
        progress.at = now
      })
      return Effect.zipRight(checkApproved(item), historyOf(item)).pipe(
        Effect.flatMap((history) =>
          runner.run({
            ...taskOf(item, item.runId, item.attempt),
            history,
            onProgress,
            onAssigned,
            ...(steering === undefined ? {} : { steering })
          })
        ),
        Effect.filterOrFail(
          isResult,
          () =>
            new AgentRunError({
              message:
                "the runner returned no text, model and usage that can be recorded; what was reserved is charged",
              retryable: false,
              usage: { inputTokens: tokensOf(taskOf(item, "", 1), item), outputTokens: 0 }
            })
        )
      )
    }
    return { estimate, propose, run }
  })

export type RunTasks = Effect.Effect.Success<ReturnType<typeof make>>
