import type { PlacedProblem } from "@postilion/gateway"
import { showPath } from "@postilion/gateway/domain/ConfigProblem"
import type { Path } from "./Placing.ts"
import type { Source } from "./Source.ts"

/** Something to say of a place in a file. */
export type FileNotice = PlacedProblem

export const noticeAt = (source: Source, file: string, at: number, path: Path, message: string): FileNotice => {
  const { col, line } = source.lines.linePos(Math.min(at, source.text.trimEnd().length))
  return { path: showPath(path), message, file, line: Math.max(line, 1), column: Math.max(col, 1) }
}

const MASK = "***"
/** In a text that could not be read, what might be secret is known by its name only. */
const SUSPECT = /((?:secret|token|key|password|passphrase)\w*["']?\s*[:=]\s*)(\S.*)$/i

/** A line as it may be shown, and where in it a column has gone. */
const masked = (
  source: Source,
  hidden: ReadonlyArray<{ readonly at: number; readonly end: number }>,
  { column, line }: FileNotice
): { readonly text: string; readonly column: number } => {
  const start = source.lines.lineStarts[line - 1] ?? 0
  const next = source.lines.lineStarts[line] ?? source.text.length + 1
  const raw = source.text.slice(start, next - 1).replace(/\r$/, "")
  if (source.root === undefined) {
    const text = raw.replace(SUSPECT, `$1${MASK}`)
    return { text, column: Math.min(column, text.length + 1) }
  }
  let text = ""
  let shift = 0
  let from = 0
  const covered = hidden
    .map(({ at, end }) => ({ at: Math.max(at - start, 0), end: Math.min(end - start, raw.length) }))
    .filter(({ at, end }) => end > at && at < raw.length)
    .sort((a, b) => a.at - b.at)
  for (const { at, end } of covered) {
    if (at < from) continue
    text += raw.slice(from, at) + MASK
    from = end
    if (column - 1 >= end) shift += MASK.length - (end - at)
  }
  return { text: text + raw.slice(from), column: column + shift }
}

/** A notice as a compiler shows it: the place, what is wrong, the line, a caret under it. */
export const render = (
  notice: FileNotice,
  source: Source,
  hidden: ReadonlyArray<{ readonly at: number; readonly end: number }>
): string => {
  const { file, line, message, path } = notice
  const shown = masked(source, hidden, notice)
  const gutter = " ".repeat(String(line).length)
  const indent = shown.text.slice(0, shown.column - 1).replaceAll(/[^\t]/g, " ")
  return [
    `${file}:${line}:${notice.column}: ${path === "" ? "" : `${path}: `}${message}`,
    `${gutter} |`,
    `${line} | ${shown.text}`,
    `${gutter} | ${indent}^`
  ].join("\n")
}
