import { Clock, Effect } from "effect"

/** One measurement of ours beside the raw thing, both per second. */
export interface Row {
  readonly name: string
  readonly unit: string
  readonly ours: number
  readonly bare: number
}

/** How often a second `work` did its `count` things, and what it returned. */
export const rate = <A, E, R>(count: number, work: Effect.Effect<A, E, R>): Effect.Effect<readonly [number, A], E, R> =>
  Effect.gen(function* () {
    globalThis.gc?.()
    const started = yield* Clock.currentTimeNanos
    const result = yield* work
    const ended = yield* Clock.currentTimeNanos
    return [(count * 1e9) / Number(ended - started), result] as const
  })

const median = (values: ReadonlyArray<number>): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

const thousands = (value: number): string => Math.round(value).toLocaleString("en-US")

/** Medians by name; the ratio is the median of the pairs' ratios, since both of a pair ran on the machine as it was then. */
export const table = (rows: ReadonlyArray<Row>): string => {
  const names = [...new Set(rows.map(({ name }) => name))]
  const lines = names.map((name) => {
    const of = rows.filter((row) => row.name === name)
    const ours = thousands(median(of.map((row) => row.ours)))
    const bare = thousands(median(of.map((row) => row.bare)))
    const ratio = `${Math.round(median(of.map((row) => row.ours / row.bare)) * 100)} %`
    return [name, ours, bare, ratio, of[0]?.unit ?? ""]
  })
  const all = [["benchmark", "postilion", "bare", "ratio", ""], ...lines]
  const widths = all[0]?.map((_, column) => Math.max(...all.map((line) => (line[column] ?? "").length))) ?? []
  return all
    .map((line) =>
      line
        .map((cell, i) => (i === 0 || i === 4 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
        .join("  ")
    )
    .join("\n")
}
