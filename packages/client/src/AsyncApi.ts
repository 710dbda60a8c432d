import { JSONSchema, type Schema } from "effect"
import { errors, events, type Method, methods, RequestId, RpcError, VERSIONS } from "./Protocol.ts"

/** Where named schemas are, and what refers to them. */
const SCHEMAS = "#/components/schemas/"
const CHANNEL = "#/channels/control"

const refTo = ($ref: string) => ({ $ref })
const inChannel = (message: string) => refTo(`${CHANNEL}/messages/${message}`)
const replyOf = (method: string): string => `${method}.result`

interface Envelope {
  readonly about: string
  readonly properties: Readonly<Record<string, unknown>>
  /** Of those, what may be left out. */
  readonly optional?: ReadonlyArray<string>
}
const messageOf = (name: string, { about, optional = [], properties }: Envelope) => ({
  name,
  title: name,
  summary: about,
  contentType: "application/json",
  payload: {
    type: "object",
    required: ["jsonrpc", ...Object.keys(properties).filter((property) => !optional.includes(property))],
    properties: { jsonrpc: { const: "2.0" }, ...properties }
  }
})

/**
 * The protocol as an AsyncAPI 3.0 document, as the gateway has it: it receives what clients ask, replies, and sends what it tells by
 * itself. Each message is the whole frame.
 */
export const asyncApi = (): object => {
  const schemas: Record<string, JSONSchema.JsonSchema7> = {}
  const shapeOf = (schema: unknown) =>
    JSONSchema.fromAST((schema as Schema.Schema<unknown>).ast, { definitions: schemas, definitionPath: SCHEMAS })
  const id = shapeOf(RequestId)
  const messages = Object.fromEntries([
    ...Object.entries(methods).flatMap(([name, { about, params: asked, result }]) => {
      const params = shapeOf(asked)
      const optional = "required" in params && params.required.length > 0 ? [] : ["params"]
      const reply = { about: `Answers ${name}.`, properties: { id, result: shapeOf(result) } }
      return [
        [name, messageOf(name, { about, optional, properties: { id, method: { const: name }, params } })],
        [replyOf(name), messageOf(replyOf(name), reply)]
      ]
    }),
    ...Object.entries(events).map(([name, { about, params }]) => [
      name,
      messageOf(name, { about, properties: { method: { const: name }, params: shapeOf(params) } })
    ]),
    [
      "error",
      messageOf("error", {
        about: "Refuses what was asked; `id` is null where it could not be read.",
        properties: { id: { anyOf: [id, { type: "null" }] }, error: shapeOf(RpcError) }
      })
    ]
  ])
  const asked = (name: string) => ({
    action: "receive",
    channel: refTo(CHANNEL),
    summary: methods[name as Method].about,
    messages: [inChannel(name)],
    reply: { channel: refTo(CHANNEL), messages: [inChannel(replyOf(name)), inChannel("error")] }
  })
  const told = ([name, { about }]: [string, { readonly about: string }]) => [
    name,
    { action: "send", channel: refTo(CHANNEL), summary: about, messages: [inChannel(name)] }
  ]
  const codes = Object.entries(errors).map(([code, { nextStep, number }]) => `- \`${code}\` (${number}): ${nextStep}`)
  const document = {
    asyncapi: "3.0.0",
    info: {
      title: "Postilion control plane",
      version: String(VERSIONS[1]),
      description: `JSON-RPC 2.0 over WebSocket, one frame of text each. The first frame is \`connect\`; its token may be in the header \`Authorization: Bearer\` instead, never in the URL.\n\nError codes, in \`error.data.code\`:\n\n${codes.join("\n")}`,
      license: { name: "MIT" }
    },
    defaultContentType: "application/json",
    servers: {
      local: { host: "127.0.0.1:8765", protocol: "ws", description: "The default; `wss` where `ssl` is configured." }
    },
    channels: {
      control: {
        address: "/ws",
        servers: [refTo("#/servers/local")],
        messages: Object.fromEntries(
          Object.keys(messages).map((name) => [name, refTo(`#/components/messages/${name}`)])
        ),
        bindings: { ws: { method: "GET", bindingVersion: "0.1.0" } }
      }
    },
    operations: Object.fromEntries([
      ...Object.keys(methods).map((name) => [name, asked(name)]),
      ...Object.entries(events).map(told)
    ]),
    components: { schemas, messages }
  }
  // The library's own `$id`s: the same one more than once, where it must be one of a kind.
  return JSON.parse(JSON.stringify(document, (key, value) => (key === "$id" ? undefined : value)))
}
