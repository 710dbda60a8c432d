import type { Amount } from "../../domain/Budget.ts"
import type { RunPart } from "./Subject.ts"

/** What runs came to; as the report has it. */
export interface Total {
  modelCalls: number
  tokens: number
  usd: number
}
const nothing = (): Total => ({ modelCalls: 0, tokens: 0, usd: 0 })

/** What a run uses, and how long it takes, milliseconds. */
export interface Use extends Amount {
  readonly began: boolean
  readonly duration: number
}
const useOf = ({ attempt, cost_usd, created_at, ended_at, input_tokens, output_tokens }: RunPart): Use => ({
  tokens: input_tokens + output_tokens,
  usd: cost_usd,
  began: attempt > 0,
  duration: ended_at === null ? 0 : Math.max(0, ended_at - created_at)
})

/** What a history came to, as it was and as it is replayed. */
export class Costs {
  readonly recorded = nothing()
  /** What the replay has instead. */
  private readonly without = nothing()
  private readonly instead = nothing()
  readonly estimated = nothing()
  private readonly means = new Map<
    string,
    { runs: number; tokens: number; usd: number; priced: number; duration: number }
  >()

  /** A run of the history. */
  ran(run: RunPart): void {
    const use = useOf(run)
    add(this.recorded, use)
    if (run.state !== "completed") return
    const mean = this.means.get(run.agent_id) ?? { runs: 0, tokens: 0, usd: 0, priced: 0, duration: 0 }
    mean.runs += 1
    mean.tokens += use.tokens
    mean.duration += use.duration
    if (use.usd !== null) {
      mean.usd += use.usd
      mean.priced += 1
    }
    this.means.set(run.agent_id, mean)
  }
  /** A run of the history that is not, or not then, in the replay. */
  drop(run: RunPart): void {
    add(this.without, useOf(run))
  }
  /**
   * A run of the replay: what the recorded one used, where there is one that began; else the average of its agent's runs, or
   * `most`, where it has had none.
   */
  replay(agentId: string, run: RunPart | undefined, most: Amount): Use {
    const mean = this.means.get(agentId)
    const known = run !== undefined && run.attempt > 0 ? useOf(run) : undefined
    const use: Use = known ?? {
      tokens: mean === undefined ? most.tokens : Math.round(mean.tokens / mean.runs),
      usd: mean === undefined ? most.usd : mean.priced === 0 ? null : mean.usd / mean.priced,
      began: true,
      duration: mean === undefined ? 0 : Math.round(mean.duration / mean.runs)
    }
    add(this.instead, use)
    if (known === undefined) add(this.estimated, use)
    return use
  }
  get replayed(): Total {
    const { instead, recorded, without } = this
    const modelCalls = recorded.modelCalls - without.modelCalls + instead.modelCalls
    return {
      modelCalls,
      tokens: recorded.tokens - without.tokens + instead.tokens,
      usd: recorded.usd - without.usd + instead.usd
    }
  }
}

const add = (total: Total, { began, tokens, usd }: Use): void => {
  if (began) total.modelCalls += 1
  total.tokens += tokens
  total.usd += usd ?? 0
}
