import { SessionLine } from "@postilion/client/api/Sessions"
import type { Session, Turn } from "@postilion/gateway"
import { type ImportedSession, SessionStore } from "@postilion/gateway"
import * as Mismatch from "@postilion/gateway/domain/Mismatch"
import * as Problem from "@postilion/gateway/domain/Problem"
import type { SessionStoreShape } from "@postilion/gateway/records/SessionStore"
import { Effect, Either, Encoding, type ParseResult, Schema, Stream } from "effect"
import { type Handlers, Lines } from "./Operations.ts"
import { invalid, notFound } from "./Refusals.ts"

const Cursor = Schema.parseJson(Schema.Tuple(Schema.DateFromNumber, Schema.String))
const encodeCursor = Schema.encodeSync(Cursor)
const decodeCursor = Schema.decodeUnknown(Cursor)
const encodeLine = Schema.encodeSync(Schema.parseJson(SessionLine))
const [OfSession, OfTurn] = SessionLine.members
const CLOSED = { onExcessProperty: "error" } as const
const decodeObject = Schema.decodeUnknownEither(
  Schema.parseJson(Schema.Record({ key: Schema.String, value: Schema.Unknown }))
)
const decodeSession = Schema.decodeUnknownEither(OfSession, CLOSED)
const decodeTurn = Schema.decodeUnknownEither(OfTurn, CLOSED)
/** As the one of the two it means to be, so that what is said to be wrong is what is. */
const decodeLine = (line: string): Either.Either<SessionLine, ParseResult.ParseError> => {
  const given = decodeObject(line)
  if (Either.isLeft(given)) return Either.left(given.left)
  return "turn" in given.right ? decodeTurn(given.right) : decodeSession(given.right)
}

const cursorOf = ({ key, updatedAt }: Session): string => Encoding.encodeBase64Url(encodeCursor([updatedAt, key]))
const sessionAt = (cursor: string) =>
  Effect.mapBoth(Effect.flatMap(Encoding.decodeBase64UrlString(cursor), decodeCursor), {
    onSuccess: ([updatedAt, key]) => ({ updatedAt, key }),
    onFailure: () => invalid(`cursor: "${cursor}" is not the \`next\` of a page of sessions`)
  })

const HALF_A_PAIR = /\p{Surrogate}/u

/** Lines read before others are let in between. */
const SOME = 500

/** The sessions that lines describe. Fails with the first line that is wrong. */
const read = (text: string, agents: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sessions = new Map<string, ImportedSession & { readonly turns: Array<Omit<Turn, "seq">> }>()
    let turns: Array<Omit<Turn, "seq">> | undefined
    let count = 0
    const lines = text.split("\n")
    for (const [i, line] of lines.entries()) {
      const wrong = (what: string) =>
        Effect.fail(Problem.problem(422, `line ${i + 1}: ${what}; nothing was imported`, { members: { line: i + 1 } }))
      if (i % SOME === SOME - 1) yield* Effect.yieldNow()
      if (line.trim() === "") continue
      const decoded = decodeLine(line)
      if (Either.isLeft(decoded)) {
        return yield* wrong(Mismatch.describe(decoded.left))
      }
      // What a database would not give back as it was.
      if (HALF_A_PAIR.test(Object.values(Object.values(decoded.right)[0] ?? {}).join("\n"))) {
        return yield* wrong("it has half a surrogate pair")
      }
      if ("session" in decoded.right) {
        const { session } = decoded.right
        if (sessions.has(session.key)) return yield* wrong(`the session "${session.key}" is there twice`)
        if (!agents.includes(session.agentId)) {
          return yield* wrong(`there is no agent "${session.agentId}"; agents: ${agents.join(", ")}`)
        }
        turns = []
        sessions.set(session.key, { ...session, turns })
      } else if (turns === undefined) return yield* wrong("a turn comes after the session it is of")
      else {
        turns.push(withoutMissing(decoded.right.turn))
        count += 1
      }
    }
    return { sessions: [...sessions.values()], turns: count }
  })

const withoutMissing = ({
  eventId,
  sender,
  ...turn
}: Extract<SessionLine, { turn: unknown }>["turn"]): Omit<Turn, "seq"> => ({
  ...turn,
  ...(sender === undefined ? {} : { sender }),
  ...(eventId === undefined ? {} : { eventId })
})

/** A page of sessions, the one last used first. */
export const page = (
  store: SessionStoreShape,
  { cursor, limit = 100 }: { readonly cursor?: string | undefined; readonly limit?: number | undefined }
) =>
  Effect.gen(function* () {
    const after = cursor === undefined ? {} : { after: yield* sessionAt(cursor) }
    const found = yield* store.list({ ...after, limit })
    const last = found.at(-1)
    return { sessions: found, next: last === undefined || found.length < limit ? null : cursorOf(last) }
  })

/** Conversations. */
export const sessions = (agents: () => ReadonlyArray<string>) =>
  Effect.map(SessionStore, (store) => {
    const missing = (key: string) => notFound(`there is no session "${key}"`)
    return {
      list: ({ urlParams }) => page(store, urlParams),
      show: ({ path: { key }, urlParams }) =>
        Effect.gen(function* () {
          const session = yield* store.get(key)
          if (session === undefined) return yield* missing(key)
          return { session, turns: yield* store.turns(key, urlParams) }
        }),
      remove: ({ path: { key } }, { principal: { name } }) =>
        Effect.flatMap(store.delete(key, name), (removed) =>
          removed ? Effect.succeed({ removed: key }) : missing(key)
        ),
      export: () => Effect.succeed(new Lines(Stream.map(store.export, (line) => encodeLine(line)))),
      import: ({ payload, urlParams: { existing = "refuse" } }, { principal: { name: by } }) =>
        Effect.gen(function* () {
          const { sessions, turns } = yield* read(payload, agents())
          yield* store.import(sessions, { by, replace: existing === "replace" })
          return { sessions: sessions.length, turns }
        })
    } satisfies Handlers<"sessions">
  })
