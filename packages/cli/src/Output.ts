import { Effect } from "effect"

/** Where text goes: `out` is what was asked for, `err` what is said besides. */
type Place = "out" | "err"
const streamOf = (place: Place): NodeJS.WriteStream => (place === "out" ? process.stdout : process.stderr)

/** Whether a person looks at it. */
export const isTerminal = (place: Place = "out"): boolean => streamOf(place).isTTY === true
/** https://no-color.org: any value but an empty one. */
const hasColour = (place: Place): boolean => isTerminal(place) && !process.env.NO_COLOR && process.env.TERM !== "dumb"

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const
export type Style = keyof typeof CODES
/** Colours text where a person looks at it. */
export const paint = (style: Style, text: string, place: Place = "out"): string =>
  hasColour(place) ? `\x1b[${CODES[style]}m${text}\x1b[0m` : text

/** Writes a line, and waits where whoever reads is slower. */
const write = (place: Place, text: string): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    const stream = streamOf(place)
    if (stream.write(text)) return resume(Effect.void)
    stream.once("drain", () => resume(Effect.void))
  })
export const print = (text: string): Effect.Effect<void> => write("out", `${text}\n`)
/** What is not an answer: hints, warnings, progress. */
export const say = (text: string): Effect.Effect<void> => write("err", `${text}\n`)

/** One JSON document. */
export const printJson = (value: unknown): Effect.Effect<void> => print(JSON.stringify(value, null, 2))
/** One line of a stream of JSON. */
export const printLine = (value: unknown): Effect.Effect<void> => print(JSON.stringify(value))

export interface Column<A> {
  readonly head: string
  readonly of: (row: A) => string | number | undefined
  readonly style?: (row: A) => Style | undefined
  /** Default: `left`. */
  readonly align?: "left" | "right"
}

/** Nothing that a sender wrote may move the cursor, or pretend to be another line. */
export const oneLine = (text: string, longest = 100): string => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  const line = text.replaceAll(/[\u0000-\u001f\u007f-\u009f]+/g, " ").trim()
  return line.length > longest ? `${line.slice(0, longest - 1)}…` : line
}

/** All of it, on one line: what would not be seen, or would have other text seen elsewhere, is shown by its number. */
export const whole = (text: string): string =>
  text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    const escaped = JSON.stringify(character).slice(1, -1)
    return escaped === character ? `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}` : escaped
  })

/** Rows under heads, as wide as what is in them. */
export const table = <A>(rows: ReadonlyArray<A>, columns: ReadonlyArray<Column<A>>): string => {
  const cells = rows.map((row) => columns.map(({ of }) => oneLine(String(of(row) ?? ""))))
  const widths = columns.map(({ head }, i) => Math.max(head.length, ...cells.map((line) => line[i]?.length ?? 0)))
  const line = (texts: ReadonlyArray<string>, styleOf: (i: number) => Style | undefined): string =>
    texts
      .map((text, i) => {
        const width = widths[i] ?? 0
        const last = i === columns.length - 1
        const padded = columns[i]?.align === "right" ? text.padStart(width) : last ? text : text.padEnd(width)
        const style = styleOf(i)
        return style === undefined ? padded : paint(style, padded)
      })
      .join("  ")
      .trimEnd()
  return [
    line(
      columns.map(({ head }) => head),
      () => "bold"
    ),
    ...cells.map((texts, at) => line(texts, (i) => columns[i]?.style?.(rows[at] as A)))
  ].join("\n")
}

/** Names and what they are, one a line. */
export const facts = (entries: ReadonlyArray<readonly [name: string, value: string | undefined]>): string => {
  const shown = entries.filter(([, value]) => value !== undefined && value !== "")
  const width = Math.max(0, ...shown.map(([name]) => name.length))
  return shown.map(([name, value = ""]) => `${paint("bold", name.padEnd(width))}  ${value}`).join("\n")
}

/** A list for a person or a program; `none` is what a person reads where there is nothing. */
export const printList = <A>(
  json: boolean,
  document: unknown,
  rows: ReadonlyArray<A>,
  columns: ReadonlyArray<Column<A>>,
  none: string
): Effect.Effect<void> => (json ? printJson(document) : rows.length === 0 ? say(none) : print(table(rows, columns)))

const BAR = 30
const count = (value: number): string => value.toLocaleString("en-US")

/** How far long work is, on a terminal only. Ends its line with `done`. */
export const progress = (label: string) => {
  const shown = isTerminal("err")
  let at = -1
  return {
    tell: (done: number, total: number | undefined): void => {
      if (!shown) return
      const part = total === undefined || total === 0 ? undefined : Math.min(1, done / total)
      const step = part === undefined ? Math.floor(done / 100) : Math.floor(part * 100)
      if (step === at) return
      at = step
      const bar =
        part === undefined
          ? ""
          : ` [${"#".repeat(Math.round(part * BAR)).padEnd(BAR, ".")}] ${Math.floor(part * 100)} %`
      process.stderr.write(`\r\x1b[K${label}${bar} ${count(done)}${total === undefined ? "" : ` of ${count(total)}`}`)
    },
    done: (): void => {
      if (shown && at !== -1) process.stderr.write("\r\x1b[K")
    }
  }
}

/** `2026-01-31 09:00:00`, by the clock on the wall here. */
export const when = (at: Date | string | number | null | undefined): string | undefined => {
  if (at === null || at === undefined) return undefined
  const date = new Date(at)
  const two = (value: number): string => String(value).padStart(2, "0")
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
}
