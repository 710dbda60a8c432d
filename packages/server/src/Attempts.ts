import { sourceOf } from "./Peers.ts"

/** Milliseconds that failed attempts are remembered. */
const WINDOW = 60_000
/** Sources remembered. Of more, the one whose first attempt is the oldest is forgotten: there it may be tried again. */
const MOST_SOURCES = 10_000

export interface Attempts {
  /** Seconds until a token from this address is looked at again; 0: at once. */
  readonly blockedFor: (address: string, now: number) => number
  /** Counts a token that was none. */
  readonly failed: (address: string, now: number) => void
}

/** Counts wrong tokens by where they come from: after `most` in a minute, none from there is looked at until it is over. */
export const make = (most: number): Attempts => {
  const sources = new Map<string, { readonly since: number; count: number }>()
  const live = (source: string, now: number) => {
    const found = sources.get(source)
    if (found === undefined || now < found.since + WINDOW) return found
    sources.delete(source)
    return undefined
  }
  return {
    blockedFor: (address, now) => {
      if (sources.size === 0) return 0
      const found = live(sourceOf(address), now)
      return found === undefined || found.count < most ? 0 : Math.ceil((found.since + WINDOW - now) / 1_000)
    },
    failed: (address, now) => {
      const source = sourceOf(address)
      const found = live(source, now)
      if (found !== undefined) {
        found.count += 1
        return
      }
      if (sources.size >= MOST_SOURCES)
        for (const oldest of sources.keys()) {
          sources.delete(oldest)
          break
        }
      sources.set(source, { since: now, count: 1 })
    }
  }
}
