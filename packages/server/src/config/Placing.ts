import { childOf, ofKind, type Shape } from "./Shape.ts"
import type { Fault, Written } from "./Source.ts"
import { millisOf, type Spelling, spellingOf } from "./Spellings.ts"
import { expand } from "./Variables.ts"

export type Path = ReadonlyArray<PropertyKey>
/** A path as the key of a map. */
export const keyOf = (path: Path): string => JSON.stringify(path)

/** Where a value of the configuration stands in its file. */
export interface Place {
  readonly keyAt: number
  readonly at: number
  readonly end: number
  /** Variables of the environment that are in it. */
  readonly variables: ReadonlyArray<string>
  /** The file a secret was read from. */
  readonly file: string | undefined
  /** What the variables make of it, which may be secret. */
  readonly text: string
}

export interface Placed {
  readonly value: unknown
  readonly places: ReadonlyMap<string, Place>
  /** The places of what must not be shown. */
  readonly hidden: ReadonlyArray<{ readonly at: number; readonly end: number }>
  readonly faults: ReadonlyArray<Fault & { readonly path: Path }>
  readonly warnings: ReadonlyArray<Fault & { readonly path: Path }>
}

export interface PlacingOptions {
  readonly env: Readonly<Record<string, string | undefined>>
  /** The text of a secret that is in a file of its own, or what is wrong with that file. */
  readonly readSecret: (
    file: string
  ) => { readonly text: string; readonly warning?: string } | { readonly problem: string }
  /** What a path means that is written in the file. */
  readonly pathOf: (name: string) => string
}

const NUMBER = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?$/i
const FILE = "file:"
/** What says where a secret is, and not what it is. */
const ELSEWHERE = /^(["']?)(?:file:.*|\$\{\w+\})\1$/

/** Turns what is written into what is meant: other spellings, variables and secrets in files, as the shape has them. */
class Placing {
  readonly places = new Map<string, Place>()
  readonly hidden: Array<{ at: number; end: number }> = []
  readonly faults: Array<Fault & { path: Path }> = []
  readonly warnings: Array<Fault & { path: Path }> = []
  private readonly options: PlacingOptions

  constructor(options: PlacingOptions) {
    this.options = options
  }
  place(written: Written, shape: Shape | undefined, path: Path, keyAt: number): unknown {
    switch (written.kind) {
      case "map":
        this.note(written, path, keyAt)
        return this.map(written, shape, path)
      case "list":
        this.note(written, path, keyAt)
        return written.items.map((item, i) => this.place(item, childOf(shape, i), [...path, i], item.at))
      case "value":
        return this.value(written, shape, path, keyAt)
    }
  }
  private note({ at, end }: Written, path: Path, keyAt: number, more: Partial<Place> = {}): void {
    this.places.set(keyOf(path), { keyAt, at, end, variables: [], file: undefined, text: "", ...more })
  }
  private map(written: Written & { readonly kind: "map" }, shape: Shape | undefined, path: Path): unknown {
    const found: Record<string, unknown> = Object.create(null)
    const from = new Map<string, string>()
    const parts = new Map<string, string>()
    for (const { at, key, value } of written.entries) {
      const spelling = spellingOf(key, shape, path.length === 0)
      const target = spelling?.path ?? [key]
      const full = [...path, ...target]
      const before = from.get(keyOf(target)) ?? from.get(keyOf(target.slice(0, 1))) ?? parts.get(keyOf(target))
      if (before !== undefined) {
        // The same key twice is said by the reader.
        if (before !== key)
          this.faults.push({ at, path: full, message: `"${key}" is the same as "${before}"; keep one` })
        continue
      }
      from.set(keyOf(target), key)
      // `sslCert` is a part of `ssl`, so that there cannot be both.
      if (target.length > 1) parts.set(keyOf(target.slice(0, 1)), key)
      if (spelling?.discouraged === true) {
        this.warnings.push({ at, path: full, message: `"${key}" is read as ${target.join(".")}; write that` })
      }
      const meant = this.place(
        value,
        target.reduce(childOf as (s: Shape | undefined, p: string) => Shape | undefined, shape),
        full,
        at
      )
      const read = spelling === undefined ? meant : this.converted(meant, spelling, key, value, full)
      const last = target.at(-1) ?? key
      let into = found
      for (const part of target.slice(0, -1)) {
        const inner = into[part]
        if (typeof inner === "object" && inner !== null) into = inner as Record<string, unknown>
        else {
          const made: Record<string, unknown> = Object.create(null)
          into[part] = made
          into = made
        }
        if (!this.places.has(keyOf([...path, part]))) this.note(value, [...path, part], at)
      }
      into[last] = read
    }
    return plain(found)
  }
  private converted(value: unknown, { unit }: Spelling, key: string, written: Written, path: Path): unknown {
    if (unit === "seconds") return typeof value === "number" ? value * 1_000 : value
    if (unit === "as-is") return value
    const millis = typeof value === "string" ? millisOf(value) : undefined
    if (millis !== undefined) return millis
    const rather = String(path.at(-1))
    this.faults.push({
      at: written.at,
      path,
      message: `must be a time such as "30 minutes" or "90s"; for milliseconds, write ${rather}${
        key === rather ? "" : ` instead of ${key}`
      }`
    })
    // Something that its schema takes: this has been said.
    return undefined
  }
  private value(
    written: Written & { readonly kind: "value" },
    shape: Shape | undefined,
    path: Path,
    keyAt: number
  ): unknown {
    const [kind] = ofKind(shape, "value")
    const value = kind?.kind === "value" ? kind : undefined
    if ((shape === undefined || value?.secret === true) && !ELSEWHERE.test(written.raw)) this.hidden.push(written)
    if (typeof written.value !== "string") {
      this.note(written, path, keyAt)
      return written.value
    }
    const { problem, text, variables } = expand(written.value, this.options.env)
    const fail = (message: string): undefined => void this.faults.push({ at: written.at, path, message })
    const note = (file?: string) => this.note(written, path, keyAt, { variables, file, text })
    if (problem !== undefined) {
      note()
      return fail(problem)
    }
    if (value?.secret === true && text.startsWith(FILE)) {
      const file = text.slice(FILE.length)
      note(file)
      const secret = this.options.readSecret(file)
      if ("problem" in secret) return fail(secret.problem)
      if (secret.warning !== undefined) this.warnings.push({ at: written.at, path, message: secret.warning })
      return secret.text
    }
    note()
    if (value?.path === true && text !== "") return this.options.pathOf(text)
    if (variables.length === 0 || value === undefined) return text
    if (value.number !== undefined && NUMBER.test(text.replaceAll("_", ""))) return Number(text.replaceAll("_", ""))
    if (value.flag && (text === "true" || text === "false")) return text === "true"
    return text
  }
}

/** Without a surprise in its prototype, and without what was said to be wrong. */
const plain = (found: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined))

export const place = (written: Written, shape: Shape, options: PlacingOptions): Placed => {
  const placing = new Placing(options)
  const value = placing.place(written, shape, [], written.at)
  const { faults, hidden, places, warnings } = placing
  return { value, places, hidden, faults, warnings }
}
