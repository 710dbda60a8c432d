import { JSONSchema, type Schema } from "effect"
import { errors, events, methods, VERSIONS } from "./Protocol.ts"

interface Shape {
  readonly $ref?: string
  readonly $defs?: Readonly<Record<string, Shape>>
  readonly type?: string
  readonly description?: string
  readonly enum?: ReadonlyArray<unknown>
  readonly anyOf?: ReadonlyArray<Shape>
  readonly items?: Shape | ReadonlyArray<Shape>
  readonly prefixItems?: ReadonlyArray<Shape>
  readonly properties?: Readonly<Record<string, Shape>>
  readonly required?: ReadonlyArray<string>
  readonly additionalProperties?: unknown
}

const shapeOf = (schema: Schema.Schema<unknown>): Shape => JSONSchema.make(schema) as Shape
const wired = (methodOrEvent: { readonly params: unknown }): Shape =>
  shapeOf(methodOrEvent.params as Schema.Schema<unknown>)

const resolved = (shape: Shape, defs: Shape["$defs"]): Shape => {
  const name = shape.$ref?.split("/").at(-1)
  return name === undefined ? shape : { ...defs?.[name], ...shape }
}

/** What is expected in a member, in a few words. */
const typeOf = (member: Shape, defs: Shape["$defs"]): string => {
  const shape = resolved(member, defs)
  if (shape.enum !== undefined) return shape.enum.map((one) => `\`${JSON.stringify(one)}\``).join(" or ")
  if (shape.anyOf !== undefined) return shape.anyOf.map((one) => typeOf(one, defs)).join(" or ")
  if (Array.isArray(shape.items)) return `[${shape.items.map((one: Shape) => typeOf(one, defs)).join(", ")}]`
  if (shape.type === "array") return `list of ${typeOf((shape.items as Shape | undefined) ?? {}, defs)}`
  if (shape.properties === undefined || Object.keys(shape.properties).length === 0) return shape.type ?? "anything"
  const names = Object.keys(shape.properties).map((name) => (shape.required?.includes(name) ? name : `${name}?`))
  return `{ ${names.join(", ")}${shape.additionalProperties === false ? "" : ", …"} }`
}

const membersOf = (shape: Shape): ReadonlyArray<string> => {
  const top = resolved(shape, shape.$defs)
  return Object.entries(top.properties ?? {}).map(([name, member]) => {
    const optional = top.required?.includes(name) ? "" : ", optional"
    // The library's own words for a type say no more than the type.
    const said = resolved(member, shape.$defs).description ?? ""
    const about = /^a (string|number|non|positive)|^an integer/.test(said) ? "" : said
    return `- \`${name}\` (${typeOf(member, shape.$defs)}${optional})${about === "" ? "" : `: ${about}`}`
  })
}

const listed = (label: string, shape: Shape): ReadonlyArray<string> => {
  const members = membersOf(shape)
  return members.length === 0 ? [] : ["", `${label}:`, "", ...members]
}

const INTRODUCTION = `# The protocol of the control plane

Made from the schemas of \`@postilion/client\` by \`node scripts/protocol.mjs\`; edit those.

A WebSocket at \`/ws\` carries JSON-RPC 2.0, one frame of text each. A client asks with a request, \`{ "jsonrpc": "2.0", "id",
"method", "params" }\`, and is answered \`{ "jsonrpc": "2.0", "id", "result" }\` or \`{ "jsonrpc": "2.0", "id", "error" }\`. What the
gateway tells by itself is a notification: \`{ "jsonrpc": "2.0", "method", "params" }\`. Members a client does not know are to be
passed over; the gateway refuses those that it does not know. The versions there are: ${VERSIONS[0]} to ${VERSIONS[1]}.

The first frame is \`connect\`. A connection outlives its socket: its notifications have numbers, \`seq\`, and one that connects again
with its resume token and the last number it had goes on from there. The token is good for once, for the same token of the same
principal, and only until \`reconnectTimeoutMs\` after the socket was lost; a socket that is closed with 1000 ends its connection.
A connection that was not resumed joins its sessions again with \`since\`, the last \`cursor\` it had: their answers come from the
records, also after a restart of the gateway.`

const CLOSING = `## Why a socket is closed

- 1000: the client said so; nothing is kept.
- 1008: ten refusals in a row, a refused \`connect\`, none in time, or a token that was revoked.
- 1009: a frame larger than \`maxPayload\`.
- 1012: the gateway stops; connect again.
- 1013: there are as many connections as may be, and \`connect\` was refused with \`too-many-connections\`; or the client did not read
  what it was told, and the last thing it is told is the ERROR \`slow-consumer\`.
- 4001: another socket has resumed the connection.`

/** The protocol as a page of Markdown. */
export const markdown = (): string =>
  [
    INTRODUCTION,
    "",
    "## Methods",
    ...Object.entries(methods).flatMap(([name, method]) => [
      "",
      `### ${name}`,
      "",
      `${method.about}${method.repeatable || name === "connect" ? "" : " Asked twice, it is done twice."}`,
      ...listed("Parameters", wired(method)),
      ...listed("Result", shapeOf(method.result as Schema.Schema<unknown>))
    ]),
    "",
    "## Notifications",
    ...Object.entries(events).flatMap(([name, event]) => [
      "",
      `### ${name}`,
      "",
      event.about,
      ...listed("Parameters", wired(event))
    ]),
    "",
    "## Errors",
    "",
    "`error.data.code` is stable, and `error.data.nextStep` says what to do; `retryAfterSeconds`, where there is one, when.",
    "",
    ...Object.entries(errors).map(([code, { nextStep, number }]) => `- \`${code}\` (${number}): ${nextStep}`),
    "",
    CLOSING,
    ""
  ].join("\n")

/** The same as JSON Schema: by method its `params` and `result`, by notification its `params`. */
export const jsonSchema = (): object => ({
  versions: VERSIONS,
  methods: Object.fromEntries(
    Object.entries(methods).map(([name, method]) => [
      name,
      { params: wired(method), result: shapeOf(method.result as Schema.Schema<unknown>) }
    ])
  ),
  notifications: Object.fromEntries(Object.entries(events).map(([name, event]) => [name, { params: wired(event) }])),
  errors: Object.fromEntries(Object.entries(errors).map(([code, { number }]) => [code, number]))
})
