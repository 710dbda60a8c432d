import { isAlias, isMap, isNode, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLError } from "yaml"

/** A value as it stands in a file. Places are counted in characters from the beginning. */
export type Written = { readonly at: number; readonly end: number } & (
  | { readonly kind: "map"; readonly entries: ReadonlyArray<Entry> }
  | { readonly kind: "list"; readonly items: ReadonlyArray<Written> }
  | { readonly kind: "value"; readonly value: string | number | boolean | null; readonly raw: string }
)
export interface Entry {
  readonly key: string
  readonly at: number
  readonly value: Written
}

/** Something wrong with how a file is written. */
export interface Fault {
  readonly at: number
  readonly message: string
}

export interface Source {
  readonly text: string
  readonly lines: LineCounter
  /** `undefined` where nothing can be made of the text. */
  readonly root: Written | undefined
  readonly faults: ReadonlyArray<Fault>
}

/** What aliases may make of a file, and how deep it may go: more is a mistake, or an attack. */
const MOST_VALUES = 20_000
const DEEPEST = 64

const REWORDED: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: "this key is here twice; keep one",
  MULTIPLE_DOCS: "a second document begins here; a configuration is one",
  TAB_AS_INDENT: "lines are indented with spaces, not tabs",
  BAD_ALIAS: "there is no anchor of this name before this",
  TAG_RESOLVE_FAILED: "tags have no meaning here; leave it out"
}

const faultOf = ({ code, message, pos }: YAMLError): Fault => {
  const [first = ""] = message.split("\n")
  const said = REWORDED[code] ?? first
  return { at: pos[0], message: code in REWORDED ? said : `this is not YAML: ${said}` }
}

/** `50_000`: a number that is easier to read. */
const grouped = {
  tag: "tag:yaml.org,2002:int",
  default: true,
  test: /^[-+]?\d{1,3}(?:_\d{3})+$/,
  resolve: (text: string) => Number(text.replaceAll("_", ""))
}

class Reader {
  readonly faults: Array<Fault> = []
  private values = 0
  private readonly anchors = new Map<string, Node>()
  private readonly text: string

  constructor(text: string) {
    this.text = text
  }
  read(node: unknown, at: number, depth = 0): Written {
    this.values += 1
    const [start, end] = (node as Node | null)?.range ?? [at, at]
    const place = { at: start, end }
    const nothing: Written = { ...place, kind: "value", value: null, raw: "" }
    const fail = (message: string): Written => {
      this.faults.push({ at: start, message })
      return nothing
    }
    if (this.values > MOST_VALUES) {
      if (this.values === MOST_VALUES + 1)
        fail(`aliases make more than ${MOST_VALUES} values of this file; write them out`)
      return nothing
    }
    if (depth > DEEPEST) return fail(`this is more than ${DEEPEST} levels deep`)
    if (isNode(node) && !isAlias(node) && node.anchor !== undefined) this.anchors.set(node.anchor, node)
    if (isAlias(node)) {
      const meant = this.anchors.get(node.source)
      if (meant === undefined) return fail(`there is no anchor "${node.source}" before this`)
      return { ...this.read(meant, start, depth + 1), ...place }
    }
    if (isMap(node)) {
      const entries = node.items.flatMap(({ key, value }): ReadonlyArray<Entry> => {
        const name = isScalar(key) ? key.value : key
        const keyAt = isScalar(key) ? (key.range?.[0] ?? start) : start
        if (typeof name !== "string" && typeof name !== "number" && typeof name !== "boolean") {
          this.faults.push({ at: keyAt, message: "a key must be text" })
          return []
        }
        return [{ key: String(name), at: keyAt, value: this.read(value, keyAt, depth + 1) }]
      })
      return { ...place, kind: "map", entries }
    }
    if (isSeq(node)) {
      return { ...place, kind: "list", items: node.items.map((item) => this.read(item, start, depth + 1)) }
    }
    if (!isScalar(node)) return nothing
    const { value } = node
    if (typeof value === "bigint") return fail("this number is too large")
    const plain = typeof value === "string" || typeof value === "number" || typeof value === "boolean" ? value : null
    return { ...place, kind: "value", value: plain, raw: this.text.slice(start, end) }
  }
}

/** Reads YAML 1.2, and keeps where everything stands. */
export const read = (text: string): Source => {
  const lines = new LineCounter()
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    customTags: (tags) => [grouped, ...tags]
  })
  const written = [...document.errors, ...document.warnings].map(faultOf)
  // Of a text that is no YAML, only a key that is there twice leaves something to be read.
  if (document.errors.some(({ code }) => code !== "DUPLICATE_KEY")) {
    return { text, lines, root: undefined, faults: written }
  }
  const reader = new Reader(text)
  const root = reader.read(document.contents, 0)
  return { text, lines, root, faults: [...written, ...reader.faults] }
}
