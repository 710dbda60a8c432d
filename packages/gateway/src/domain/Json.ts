/**
 * JSON as the gateway keeps it: what may enter a record, and its canonical form.
 */

/** A value that survives `JSON.stringify` and `JSON.parse` unchanged. */
export type Json = null | boolean | number | string | ReadonlyArray<Json> | { readonly [key: string]: Json }

/**
 * The path of the first part of `value` that JSON cannot carry (a `bigint`, a function, a symbol, `NaN`, a cycle),
 * or `undefined` when all of it can. Objects that define `toJSON` (a `Date`) are carried by what they return.
 */
export const findNonJson = (value: unknown): { readonly path: string; readonly kind: string } | undefined => {
  const ancestors = new Set<object>()
  const visit = (value: unknown, path: string): { readonly path: string; readonly kind: string } | undefined => {
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
    if (ancestors.has(value)) return { path, kind: "cycle" }
    ancestors.add(value)
    const entries = Array.isArray(value) ? value.entries() : Object.entries(value)
    for (const [key, child] of entries) {
      const found = visit(child, Array.isArray(value) ? `${path}[${key}]` : `${path}.${key}`)
      if (found !== undefined) return found
    }
    ancestors.delete(value)
    return undefined
  }
  return visit(value, "$")
}

const compareUtf16 = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/**
 * The RFC 8785 canonical form of a JSON value: object keys sorted by UTF-16 code units, no white space, numbers and
 * strings as ECMAScript prints them. Keys whose value is `undefined` are left out.
 */
export const canonicalize = (value: unknown): string => {
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null"
  if (Array.isArray(value)) {
    let text = "["
    for (let i = 0; i < value.length; i++) text += (i === 0 ? "" : ",") + canonicalize(value[i])
    return `${text}]`
  }
  const entries = Object.entries(value).sort(([a], [b]) => compareUtf16(a, b))
  let text = "{"
  for (const [key, child] of entries) {
    if (child === undefined) continue
    text += `${text.length === 1 ? "" : ","}${JSON.stringify(key)}:${canonicalize(child)}`
  }
  return `${text}}`
}
