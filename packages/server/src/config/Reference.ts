import { Option } from "effect"
import { PostilionConfig } from "../PostilionConfig.ts"
import { describe, type Key, type Shape, shapeOf, type Value } from "./Shape.ts"

type Json = Readonly<Record<string, unknown>>

/** What a number may be written as: with underscores, or as a variable. */
const WRITTEN = { type: "string", pattern: "\\$\\{|^[-+]?\\d{1,3}(_\\d{3})+$" }

const valueSchema = ({ flag, number, text, words }: Value): Json => {
  const { integer, ...bounds } = number ?? {}
  const members: Array<Json> = [
    ...(number === undefined ? [] : [{ type: integer === true ? "integer" : "number", ...bounds }]),
    ...(words.length === 0 ? [] : [{ enum: words }]),
    ...(flag ? [{ type: "boolean" }] : []),
    ...(text ? [{ type: "string" }] : [WRITTEN])
  ]
  const [only] = members
  return members.length === 1 && only !== undefined ? only : { anyOf: members }
}

/** A default that is short enough to be said. */
const shownDefault = (key: Key): Option.Option<unknown> =>
  Option.filter(
    key.default,
    (value) => typeof value !== "object" || value === null || Object.keys(value).length === 0 || Array.isArray(value)
  )

const keySchemas = (name: string, key: Key): ReadonlyArray<readonly [string, Json]> => {
  const fallback = shownDefault(key)
  const own: Json = {
    description: key.about,
    ...schemaOf(key.shape),
    ...(Option.isSome(fallback) ? { default: fallback.value } : {})
  }
  if (name === "agentId")
    return [
      [name, own],
      ["agent", own]
    ]
  if (!name.endsWith("Ms")) return [[name, own]]
  const description = `${key.about} Written as a time: \`30 minutes\`, \`90s\`.`
  return [
    [name, own],
    [name.slice(0, -2), { description, type: "string" }]
  ]
}

const schemaOf = (shape: Shape): Json => {
  switch (shape.kind) {
    case "object": {
      const keys = [...shape.keys]
      const required = keys
        .filter(([, key]) => key.required)
        .map(([name, key]) => keySchemas(name, key).map(([one]) => one))
      return {
        type: "object",
        properties: Object.fromEntries(keys.flatMap(([name, key]) => keySchemas(name, key))),
        additionalProperties: false,
        ...(required.length === 0
          ? {}
          : { allOf: required.map((names) => ({ anyOf: names.map((name) => ({ required: [name] })) })) })
      }
    }
    case "record":
      return { type: "object", additionalProperties: schemaOf(shape.value) }
    case "list":
      return { type: "array", items: schemaOf(shape.item), ...(shape.least > 0 ? { minItems: shape.least } : {}) }
    case "choice":
      return { anyOf: shape.members.map(schemaOf) }
    case "value":
      return valueSchema(shape)
  }
}

/** What a `gateway.yaml` may be, as JSON Schema: for editors. */
export const jsonSchema = (): Json => ({
  $schema: "http://json-schema.org/draft-07/schema#",
  title: "gateway.yaml of Postilion",
  ...schemaOf(shapeOf(PostilionConfig.ast))
})

const INTRODUCTION = `# Configuration

Made from the schema of the configuration by \`node scripts/configuration.mjs\`; edit that. How a file is written, checked and
changed while the gateway runs is in [gateway-file.md](gateway-file.md).

Keys are the same in a \`gateway.yaml\` and in a program. In a file, a key that ends in \`Ms\` may be written without it and with a
time, as in \`interval: 30 minutes\`, and \`agent\` stands for \`agentId\`. A path that is not absolute is read from the folder of the
file it stands in; in a program, from the folder the process was started in. \`*\` stands for a name, \`[]\` for the items of a list.`

const indented = (about: string, by: string): string => about.replaceAll("\n", `\n${by}  `)

const line = (path: string, key: Key): string => {
  const fallback = shownDefault(key)
  const remark = key.required
    ? "; needed"
    : Option.isSome(fallback)
      ? `; default \`${JSON.stringify(fallback.value)}\``
      : ""
  return `- \`${path}\` (${describe(key.shape)}${remark}): ${indented(key.about, "")}`
}

const linesOf = (shape: Shape, path: string): ReadonlyArray<string> => {
  switch (shape.kind) {
    case "object":
      return [...shape.keys].flatMap(([name, key]) => [
        line(`${path}.${name}`, key),
        ...linesOf(key.shape, `${path}.${name}`)
      ])
    case "record":
      return linesOf(shape.value, `${path}.*`)
    case "list":
      return linesOf(shape.item, `${path}[]`)
    case "choice": {
      const [first] = shape.members.flatMap((member) => {
        const lines = linesOf(member.kind === "list" ? member.item : member, path)
        return lines.length === 0 ? [] : [lines]
      })
      return first ?? []
    }
    case "value":
      return []
  }
}

/** Every key, as a page of Markdown. */
export const markdown = (): string => {
  const shape = shapeOf(PostilionConfig.ast)
  if (shape.kind !== "object") return INTRODUCTION
  const sections = [...shape.keys].flatMap(([name, key]) => {
    const fallback = shownDefault(key)
    const remark = Option.isSome(fallback) ? `Default: \`${JSON.stringify(fallback.value)}\`.` : ""
    const inner = linesOf(key.shape, name)
    const about = `${key.about} ${remark}`.trim()
    const is = key.shape.kind === "object" ? [] : ["", `Is ${describe(key.shape)}.`]
    return ["", `## ${name}`, "", about, ...is, ...(inner.length === 0 ? [] : ["", ...inner])]
  })
  return [INTRODUCTION, ...sections, ""].join("\n")
}
