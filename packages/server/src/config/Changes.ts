import { showPath } from "@postilion/gateway/domain/ConfigProblem"
import { Equal, Redacted } from "effect"
import type { Path } from "./Placing.ts"

const shown = (value: unknown): string => {
  if (value === undefined) return "nothing"
  if (Redacted.isRedacted(value)) return "<redacted>"
  const text = JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

const isMap = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Redacted.isRedacted(value)

/** What is different in `after`, value by value, as it may be shown: `policies.maxActionsPerHour: 30 → 20`. */
export const changesOf = (before: unknown, after: unknown, path: Path = []): ReadonlyArray<string> => {
  if (isMap(before) && isMap(after) && Array.isArray(before) === Array.isArray(after)) {
    const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])]
    return keys.flatMap((key) =>
      changesOf(before[key], after[key], [...path, Array.isArray(after) ? Number(key) : key])
    )
  }
  if (Equal.equals(before, after) || (isMap(before) && isMap(after) && shown(before) === shown(after))) return []
  return [`${showPath(path)}: ${shown(before)} → ${shown(after)}`]
}
