import * as HttpApi from "@effect/platform/HttpApi"
import type * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import type * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Api } from "@postilion/client/Api"
import { Action, BodyIsOptional } from "@postilion/client/api/Fields"
import type * as Problem from "@postilion/gateway/domain/Problem"
import { Chunk, Context, Effect, Option, Schema, type SchemaAST, Stream } from "effect"
import type { Answer, Answering, HttpHead } from "../HttpListener.ts"
import type { Principal } from "../Principal.ts"
import * as Scopes from "../Scopes.ts"
import { orProblem, type Refusal } from "./Refusals.ts"
import * as Requests from "./Requests.ts"

type Groups = Api extends HttpApi.HttpApi<infer _Id, infer G, infer _E, infer _R> ? G : never
type Endpoints<G extends string> = HttpApiGroup.HttpApiGroup.EndpointsWithName<Groups, G>
type Named<G extends string, N extends string> = HttpApiEndpoint.HttpApiEndpoint.WithName<Endpoints<G>, N>

/** Who asks, and the request as it came. */
export interface Asked {
  readonly principal: Principal
  readonly head: HttpHead
}

/** An answer that has more to it than its value: another of the statuses declared than the first, or headers. */
export class Reply<out A> {
  readonly value: A
  readonly options: { readonly status?: number; readonly headers?: Readonly<Record<string, string>> }
  constructor(value: A, options: Reply<A>["options"]) {
    this.value = value
    this.options = options
  }
}
/** An answer that is text, of a type of its own. */
export class Text {
  readonly text: string
  readonly contentType: string
  constructor(text: string, contentType: string) {
    this.text = text
    this.contentType = contentType
  }
}
/** An answer of lines, sent as they come: those that come together, together. */
export class Lines {
  readonly chunks: Stream.Stream<string, unknown>
  constructor(lines: Stream.Stream<string, unknown>) {
    this.chunks = Stream.mapChunks(lines, (some) =>
      Chunk.isEmpty(some) ? Chunk.empty() : Chunk.of(`${Chunk.join(some, "\n")}\n`)
    )
  }
}

type Handler<E extends HttpApiEndpoint.HttpApiEndpoint.Any> = (
  request: Omit<HttpApiEndpoint.HttpApiEndpoint.Request<E>, "request">,
  asked: Asked
) => Effect.Effect<
  HttpApiEndpoint.HttpApiEndpoint.Success<E> | Reply<HttpApiEndpoint.HttpApiEndpoint.Success<E>> | Text | Lines,
  Refusal
>

/** What does the operations of a group, by their names. */
export type Handlers<G extends HttpApiGroup.HttpApiGroup.Name<Groups>> = {
  readonly [N in HttpApiEndpoint.HttpApiEndpoint.Name<Endpoints<G>>]: Handler<Named<G, N>>
}
export type AllHandlers = { readonly [G in HttpApiGroup.HttpApiGroup.Name<Groups>]: Handlers<G> }

export interface Operation {
  /** None: it needs no token. */
  readonly action: Scopes.Action | undefined
  readonly answering: (head: HttpHead, parts: ReadonlyArray<string>, principal: Principal | undefined) => Answering
}
/** What can be asked at a path, by method. */
interface Place {
  readonly pattern: RegExp
  readonly operations: Map<string, Operation>
}
export interface Found {
  readonly operations: ReadonlyMap<string, Operation>
  readonly parts: ReadonlyArray<string>
}

const NOBODY: Principal = { name: "", scopes: [], tokenId: "" }

type Successes = ReadonlyMap<number, { readonly ast: Option.Option<SchemaAST.AST> }>

/** Makes of what a handler answers what is sent. What does not fit what is declared is a defect. */
const encoder = (successes: Successes) => {
  const byStatus = new Map(
    [...successes].map(([status, { ast }]) => {
      const type = Option.getOrElse(ast, () => Schema.Void.ast)
      return [status, { encode: Schema.encodeUnknown(Schema.make(type)), ...HttpApiSchema.getEncoding(type) }]
    })
  )
  const [standard = 200] = successes.keys()
  return (answer: unknown): Effect.Effect<Answer> => {
    const { options, value } = answer instanceof Reply ? answer : new Reply(answer, {})
    const status = options.status ?? standard
    const declared = byStatus.get(status)
    if (declared === undefined) return Effect.dieMessage(`an answer has the status ${status}, which is not declared`)
    const { contentType, encode, kind } = declared
    const headers = { "content-type": contentType, ...options.headers }
    if (value instanceof Lines) return Effect.succeed({ status, headers, chunks: value.chunks })
    if (value instanceof Text) {
      return Effect.succeed({ status, headers: { ...headers, "content-type": value.contentType }, body: value.text })
    }
    return Effect.map(Effect.orDie(encode(value)), (encoded) => ({
      status,
      headers,
      body: kind === "Text" ? String(encoded) : JSON.stringify(encoded)
    }))
  }
}

const operationOf = (
  endpoint: Requests.Endpoint,
  annotations: Context.Context<never>,
  successes: Successes,
  /** What serves it: checked against the declaration where it was written down, by its type. */
  handler: (request: object, asked: Asked) => Effect.Effect<unknown, Refusal>,
  limits: { readonly maxBodyBytes?: number } = {}
): Operation => {
  const encode = encoder(successes)
  const path = Requests.path(endpoint)
  const urlParams = Requests.query(endpoint)
  const payload = Requests.body(endpoint, Option.isSome(Context.getOption(annotations, BodyIsOptional)))
  return {
    action: Option.getOrUndefined(Option.map(Context.getOption(annotations, Action), Scopes.named)),
    answering: (head, parts, principal = NOBODY) => {
      const answer = (read: Effect.Effect<object, Problem.HttpAnswer>): Effect.Effect<Answer> =>
        Effect.all([path(parts), urlParams(head.query), read]).pipe(
          Effect.flatMap((read) => handler(Object.assign({}, ...read), { principal, head })),
          Effect.flatMap(encode),
          orProblem
        )
      if (payload === undefined) return answer(Effect.succeed({}))
      return Object.assign((body: Uint8Array) => answer(payload(head.headers["content-type"], body)), limits)
    }
  }
}

export interface OperationsOptions {
  /** Bytes the body of some operations may have, where that is more than of others. */
  readonly maxBodyBytes: Readonly<Record<string, number>>
}

/** All operations that are declared, each with what does it. */
export const make = (handlers: AllHandlers, { maxBodyBytes }: OperationsOptions) => {
  const places = new Map<string, Place>()
  HttpApi.reflect(Api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint, group, mergedAnnotations, successes }) => {
      const served = handlers as Readonly<Record<string, Readonly<Record<string, Parameters<typeof operationOf>[3]>>>>
      const handler = served[group.identifier]?.[endpoint.name]
      if (handler === undefined) throw new Error(`nothing serves ${group.identifier}.${endpoint.name}`)
      const most = maxBodyBytes[`${group.identifier}.${endpoint.name}`]
      const limits = most === undefined ? {} : { maxBodyBytes: most }
      const pattern = new RegExp(`^${endpoint.path.replace(/:\w+/g, "([^/]+)")}$`)
      const place = places.get(endpoint.path) ?? { pattern, operations: new Map() }
      places.set(endpoint.path, place)
      place.operations.set(endpoint.method, operationOf(endpoint, mergedAnnotations, successes, handler, limits))
    }
  })
  // A path as it is written comes before those that have a name in its place.
  const patterns = [...places].filter(([path]) => path.includes("/:")).map(([, place]) => place)
  return {
    find: (path: string): Found | undefined => {
      const literal = path.includes(":") ? undefined : places.get(path)
      if (literal !== undefined) return { operations: literal.operations, parts: [] }
      for (const { operations, pattern } of patterns) {
        const match = pattern.exec(path)
        if (match !== null) return { operations, parts: match.slice(1) }
      }
      return undefined
    }
  }
}
