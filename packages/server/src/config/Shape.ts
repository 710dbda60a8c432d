import { Option, SchemaAST } from "effect"
import { isFilePath } from "./FilePath.ts"

/** What numbers a key takes. */
export interface Bounds {
  readonly integer?: boolean
  readonly minimum?: number
  readonly exclusiveMinimum?: number
  readonly maximum?: number
}

/** A value that has no keys or items. What it may be is any of what is said. */
export interface Value {
  readonly kind: "value"
  readonly number?: Bounds
  readonly words: ReadonlyArray<string>
  readonly text: boolean
  readonly flag: boolean
  readonly secret: boolean
  /** Of a file. */
  readonly path: boolean
}

export interface Key {
  readonly shape: Shape
  readonly about: string
  readonly required: boolean
  readonly default: Option.Option<unknown>
}

/** A schema of the configuration as whoever writes a file sees it: what may stand where, and what is said of it. */
export type Shape =
  | { readonly kind: "object"; readonly keys: ReadonlyMap<string, Key> }
  | { readonly kind: "record"; readonly value: Shape }
  | { readonly kind: "list"; readonly item: Shape; readonly least: number }
  | { readonly kind: "choice"; readonly members: ReadonlyArray<Shape> }
  | Value

const value = (of: Partial<Value>): Value => ({
  kind: "value",
  words: [],
  text: false,
  flag: false,
  secret: false,
  path: false,
  ...of
})
const UNKNOWN = value({ text: true })

const textOf = (annotated: SchemaAST.Annotated): string | undefined =>
  Option.getOrUndefined(SchemaAST.getDescriptionAnnotation(annotated))

const both = (a: Value, b: Value): Value => {
  const number = a.number ?? b.number
  return value({
    ...(number === undefined ? {} : { number: { ...a.number, ...b.number } }),
    words: [...new Set([...a.words, ...b.words])],
    text: a.text || b.text,
    flag: a.flag || b.flag,
    secret: a.secret || b.secret,
    path: a.path || b.path
  })
}

const choiceOf = (shapes: ReadonlyArray<Shape>): Shape => {
  const flat = shapes.flatMap((shape) => (shape.kind === "choice" ? shape.members : [shape]))
  const values = flat.filter((shape) => shape.kind === "value")
  const merged = values.length === 0 ? [] : [values.reduce(both)]
  const members = [...merged, ...flat.filter((shape) => shape.kind !== "value")]
  const [only] = members
  return only !== undefined && members.length === 1 ? only : { kind: "choice", members }
}

const objectOf = (literal: SchemaAST.TypeLiteral, transformation?: SchemaAST.Transformation): Shape => {
  const [index] = literal.indexSignatures
  if (index !== undefined) return { kind: "record", value: shapeOf(index.type) }
  const { to, transformation: how } = transformation ?? {}
  const changes =
    how !== undefined && SchemaAST.isTypeLiteralTransformation(how) ? how.propertySignatureTransformations : []
  const targets = to !== undefined && SchemaAST.isTypeLiteral(to) ? to.propertySignatures : []
  const keys = literal.propertySignatures.map((property): readonly [string, Key] => {
    const target = targets.find(({ name }) => name === property.name)
    return [
      String(property.name),
      {
        shape: shapeOf(property.type),
        about: (target === undefined ? undefined : textOf(target)) ?? textOf(property) ?? "",
        required: !property.isOptional,
        default: changes.find(({ from }) => from === property.name)?.decode(Option.none()) ?? Option.none()
      }
    ]
  })
  return { kind: "object", keys: new Map(keys) }
}

const boundsOf = (ast: SchemaAST.Refinement): Bounds => {
  const found = Option.getOrElse(SchemaAST.getJSONSchemaAnnotation(ast), () => ({})) as Bounds & { type?: string }
  const { type, ...bounds } = found
  return type === "integer" ? { ...bounds, integer: true } : bounds
}

export const shapeOf = (ast: SchemaAST.AST): Shape => {
  switch (ast._tag) {
    case "TypeLiteral":
      return objectOf(ast)
    case "Transformation":
      return SchemaAST.isTypeLiteral(ast.from) ? objectOf(ast.from, ast) : shapeOf(ast.from)
    case "Refinement": {
      const shape = shapeOf(ast.from)
      if (shape.kind !== "value") return shape
      if (isFilePath(ast)) return { ...shape, path: true }
      return shape.number === undefined ? shape : { ...shape, number: { ...shape.number, ...boundsOf(ast) } }
    }
    case "TupleType": {
      const item = ast.rest[0]?.type ?? ast.elements[0]?.type
      return { kind: "list", item: item === undefined ? UNKNOWN : shapeOf(item), least: ast.elements.length }
    }
    case "Union":
      return choiceOf(ast.types.filter((type) => !SchemaAST.isUndefinedKeyword(type)).map(shapeOf))
    // `Redacted`, beside the text it is read from.
    case "Declaration":
      return value({ secret: true })
    case "NumberKeyword":
      return value({ number: {} })
    case "BooleanKeyword":
      return value({ flag: true })
    case "Literal":
      return value({ words: [String(ast.literal)] })
    default:
      return UNKNOWN
  }
}

/** Those of `shapes` that something of this kind can be. */
export const ofKind = (shape: Shape | undefined, kind: "map" | "list" | "value"): ReadonlyArray<Shape> => {
  const members = shape === undefined ? [] : shape.kind === "choice" ? shape.members : [shape]
  return members.filter((member) =>
    kind === "map" ? member.kind === "object" || member.kind === "record" : member.kind === kind
  )
}

/** What stands at a key or a position of a shape; of several, the first that has it. */
export const childOf = (shape: Shape | undefined, part: PropertyKey): Shape | undefined => {
  const members = shape === undefined ? [] : shape.kind === "choice" ? shape.members : [shape]
  for (const member of members) {
    if (member.kind === "list" && typeof part === "number") return member.item
    if (member.kind === "record" && typeof part === "string") return member.value
    if (member.kind === "object" && typeof part === "string") {
      const key = member.keys.get(part)
      if (key !== undefined) return key.shape
    }
  }
  return undefined
}

/** The keys that may stand in a map of this shape; none where any may. */
export const keysOf = (shape: Shape | undefined): ReadonlyMap<string, Key> => {
  const [found] = ofKind(shape, "map").filter((member) => member.kind === "object")
  return found === undefined ? new Map() : found.keys
}

const numbers = ({ exclusiveMinimum, integer, maximum, minimum }: Bounds): string => {
  const least = minimum ?? (exclusiveMinimum === undefined ? undefined : integer === true ? 1 : undefined)
  const kind = integer === true ? "a whole number" : "a number"
  if (least !== undefined && maximum !== undefined) return `${kind} from ${least} to ${maximum}`
  if (least !== undefined) return `${kind}, ${least} or more`
  if (exclusiveMinimum !== undefined) {
    return `${kind} greater than ${exclusiveMinimum}${maximum === undefined ? "" : `, ${maximum} at most`}`
  }
  return kind
}

/** What may stand here, in a few words. */
export const describe = (shape: Shape): string => {
  switch (shape.kind) {
    case "object":
      return "a map of keys"
    case "record":
      return `a map of names, each with ${describe(shape.value)}`
    case "list":
      return shape.item.kind === "object" ? "a list of maps" : `a list, each item ${describe(shape.item)}`
    case "choice":
      return shape.members.map(describe).join(", or ")
    case "value": {
      const { flag, number, path, secret, text, words } = shape
      const parts = [
        ...(number === undefined ? [] : [numbers(number)]),
        ...words.map((word) => `"${word}"`),
        ...(text ? [secret ? "a secret, as text" : path ? "a path" : "text"] : []),
        ...(flag ? ["true or false"] : [])
      ]
      return parts.length < 3 ? parts.join(" or ") : `one of ${parts.join(", ")}`
    }
  }
}
