/**
 * JSON as the gateway keeps it: what may enter a record, and its canonical form.
 */

/** A value that survives `JSON.stringify` and `JSON.parse` unchanged. */
export type Json = null | boolean | number | string | ReadonlyArray<Json> | { readonly [key: string]: Json }

/** Levels of nesting that are kept; deeper ones, cycles among them, are refused before they exhaust the stack. */
const MAX_DEPTH = 200

/** Whether `value` is JSON as it stands: `JSON.parse(JSON.stringify(value))` would give an equal value. */
export const isPlainJson = (value: unknown, depth = 0): boolean => {
  switch (typeof value) {
    case "string":
    case "boolean":
      return true
    case "number":
      return Number.isFinite(value)
    case "object": {
      if (value === null) return true
      if (depth >= MAX_DEPTH) return false
      if (Array.isArray(value)) {
        // Not `every`, which looks past the holes of a sparse array.
        for (const child of value) if (!isPlainJson(child, depth + 1)) return false
        return !("toJSON" in value)
      }
      const prototype: unknown = Object.getPrototypeOf(value)
      if (prototype !== Object.prototype && prototype !== null) return false
      for (const key in value) if (!isPlainJson((value as Record<string, unknown>)[key], depth + 1)) return false
      return !("toJSON" in value)
    }
    default:
      return false
  }
}

/**
 * The path of the first part of `value` that JSON cannot carry (a `bigint`, a function, a symbol, `NaN`, a nesting of more
 * than 200 levels, as every cycle is), or `undefined` when all of it can. Objects that define `toJSON` (a `Date`) are carried
 * by what they return.
 */
export const findNonJson = (
  value: unknown,
  path = "$",
  depth = 0
): { readonly path: string; readonly kind: string } | undefined => {
  switch (typeof value) {
    case "string":
    case "boolean":
    case "undefined":
      return undefined
    case "number":
      return Number.isFinite(value) ? undefined : { path, kind: String(value) }
    case "object":
      break
    default:
      return { path, kind: typeof value }
  }
  if (value === null || "toJSON" in value) return undefined
  if (depth >= MAX_DEPTH) return { path: `${path.slice(0, 60)}…`, kind: `more than ${MAX_DEPTH} levels, or a cycle,` }
  for (const [key, child] of Object.entries(value)) {
    const found = findNonJson(child, Array.isArray(value) ? `${path}[${key}]` : `${path}.${key}`, depth + 1)
    if (found !== undefined) return found
  }
  return undefined
}

/** Text that stands in JSON as it is, as nearly all names and most short values do. */
const PLAIN_TEXT = /^[ !#-[\]-~]*$/
const quote = (text: string): string => (PLAIN_TEXT.test(text) ? `"${text}"` : JSON.stringify(text))

/**
 * The RFC 8785 canonical form of a JSON value: object keys sorted by UTF-16 code units, no white space, numbers and
 * strings as ECMAScript prints them. Keys whose value is `undefined` are left out.
 */
export const canonicalize = (value: unknown): string => {
  if (typeof value === "string") return quote(value)
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null"
  if (Array.isArray(value)) {
    let text = "["
    for (let i = 0; i < value.length; i++) text += (i === 0 ? "" : ",") + canonicalize(value[i])
    return `${text}]`
  }
  const keys = Object.keys(value)
  // What is written with its keys in order need not be sorted. The order of `<` is that of UTF-16 code units, as that of `sort` is.
  for (let i = 1; i < keys.length; i++) {
    if ((keys[i - 1] as string) < (keys[i] as string)) continue
    keys.sort()
    break
  }
  let text = ""
  for (const key of keys) {
    const child = (value as Record<string, unknown>)[key]
    if (child === undefined) continue
    text += `${text === "" ? "" : ","}${quote(key)}:${canonicalize(child)}`
  }
  return `{${text}}`
}
