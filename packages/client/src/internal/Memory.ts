import type { Call, Event, Params, Welcome } from "../Protocol.ts"

interface Ref {
  readonly session: string
  readonly owner?: string | undefined
}
interface Joined {
  readonly params: Params<"session.join">
  /** Where its answers stand. */
  cursor: number
}
/** A channel that is heard. */
interface Heard {
  readonly params: Params<"push.subscribe">
  /** Of the last message, where each one follows on the last; `undefined` until there is an answer, or a message. */
  cursor: number | undefined
  /** Whether it is asked for again, since one was missing. */
  behind: boolean
}
/** What is asked again of a connection that knows nothing of the one before. */
export type Again = readonly [method: Call, params: object]

/** What a client takes from one socket to the next: how far it has come, which sessions it is in, what it listens to. */
export const make = () => {
  const joined = new Map<string, Joined>()
  let subscription: { readonly filter: Params<"events.subscribe">["filter"]; cursor: string } | undefined
  let serving: Params<"agent.serve"> | undefined
  const heard = new Map<string, Heard>()
  let toAsk: Heard | undefined
  let resumeToken: string | undefined
  let principal = ""
  let seq = 0

  const keyOf = ({ owner = principal, session }: Ref): string => JSON.stringify([owner, session])
  const again = ({ cursor, params }: Heard): Params<"push.subscribe"> =>
    params.subscription === undefined && cursor !== undefined ? { ...params, since: cursor } : params
  /** Whether a message follows on the one before. One that does not is asked for with those that are missing. */
  const follows = (channel: string, cursor: number): boolean => {
    const known = heard.get(channel)
    if (known === undefined || known.params.subscription !== undefined || cursor === 0) return true
    if (known.cursor !== undefined && cursor <= known.cursor) return false
    if (known.cursor === undefined || cursor === known.cursor + 1) {
      known.cursor = cursor
      known.behind = false
      return true
    }
    if (!known.behind) toAsk = known
    known.behind = true
    return false
  }
  return {
    seq: () => seq,
    isIn: (ref: Ref): boolean => joined.has(keyOf(ref)),
    resume: () => (resumeToken === undefined ? {} : { resume: { token: resumeToken, seq } }),
    /** Whether the gateway knows nothing of a connection there has been. */
    welcomed: (welcome: Welcome): boolean => {
      const forgotten = resumeToken !== undefined && !welcome.resumed
      resumeToken = welcome.resumeToken
      principal = welcome.principal
      if (!welcome.resumed) seq = 0
      return forgotten
    },
    again: (): ReadonlyArray<Again> => [
      ...[...joined.values()].map(({ cursor, params }): Again => ["session.join", { ...params, since: cursor }]),
      ...[...heard.values()].map((channel): Again => ["push.subscribe", again(channel)]),
      ...(subscription === undefined
        ? []
        : [["events.subscribe", { filter: subscription.filter, since: subscription.cursor }] as const]),
      ...(serving === undefined ? [] : [["agent.serve", serving] as const])
    ],
    /** Whether it was not told before; then that is where this client stands. */
    isNew: (event: Event): boolean => {
      if ("seq" in event && event.seq !== undefined) {
        if (event.seq <= seq) return false
        seq = event.seq
      }
      if (event.type === "MESSAGE" && event.cursor !== undefined) {
        const session = joined.get(keyOf(event))
        // A gateway that ended before it had written down that this was sent sends it again.
        if (session !== undefined && event.cursor <= session.cursor) return false
        if (session !== undefined) session.cursor = event.cursor
      }
      if (event.type === "PUSH") return follows(event.channel, event.cursor)
      if (event.type === "PUSH_GAP") {
        const known = heard.get(event.channel)
        if (known !== undefined) known.cursor = event.cursor
      }
      if (event.type === "ERROR" && event.channel !== undefined) heard.delete(event.channel)
      if (event.type === "GATEWAY" && subscription !== undefined) subscription.cursor = event.cursor
      return true
    },
    joined: (params: Params<"session.join">, cursor: number): void => {
      const { since: _, ...rest } = params
      const known = joined.get(keyOf(params))
      joined.set(keyOf(params), { params: { ...known?.params, ...rest }, cursor: Math.max(known?.cursor ?? 0, cursor) })
    },
    hears: (params: Params<"push.subscribe">): void => {
      heard.set(params.channel, { params, cursor: params.since, behind: false })
    },
    hearsFrom: (channel: string, cursor: number): void => {
      const known = heard.get(channel)
      if (known !== undefined) known.cursor ??= cursor
    },
    hearsNoMore: (channel: string): void => void heard.delete(channel),
    /** What to ask so as to be told what is missing of a channel, if something has been since this was last asked. */
    behind: (): Params<"push.subscribe"> | undefined => {
      const known = toAsk
      toAsk = undefined
      return known && again(known)
    },
    left: (ref: Ref): void => void joined.delete(keyOf(ref)),
    subscribed: (filter: Params<"events.subscribe">["filter"], cursor: string): void => {
      subscription = { filter, cursor }
    },
    serves: (params: Params<"agent.serve">): void => {
      serving = params.agents.length === 0 ? undefined : params
    },
    unsubscribed: (): void => {
      subscription = undefined
    }
  }
}
