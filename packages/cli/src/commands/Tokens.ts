import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import { Duration, Effect, Option } from "effect"
import { usage } from "../Failure.ts"
import * as Flags from "../Flags.ts"
import { print, printJson, printList, say, when } from "../Output.ts"
import { asking, reading } from "../Reach.ts"

const SCOPES = ["operator", "agent", "client", "viewer"] as const
type Scope = (typeof SCOPES)[number]
const isScope = (word: string): word is Scope => SCOPES.some((scope) => scope === word)

export const create = Command.make(
  "create",
  {
    name: Args.text({ name: "name" }).pipe(Args.withDescription("Who holds it: the sender of what they say.")),
    scopes: Flags.optional("scopes", "names", "What it is for, with commas between: viewer,client. Default: client."),
    expires: Flags.optional("expires", "duration", 'How long it counts: "30 days". Default: as long as yours.'),
    json: Flags.json,
    ...Flags.connected
  },
  ({ expires, json, name, scopes: given = "client", ...flags }) =>
    Effect.gen(function* () {
      const words = given.split(",")
      const [first, ...others] = words.filter(isScope)
      if (first === undefined || others.length + 1 !== words.length) {
        return yield* usage(`--scopes ${given}: there are ${SCOPES.join(", ")}`, "write it as --scopes viewer,client")
      }
      const life = expires === undefined ? Option.none() : Duration.decodeUnknown(expires)
      if (expires !== undefined && Option.isNone(life)) {
        return yield* usage(`--expires ${expires} is no duration`, 'write it as --expires "30 days"')
      }
      const expiresInSeconds = Option.getOrUndefined(Option.map(life, (long) => Math.floor(Duration.toSeconds(long))))
      const made = yield* asking(flags, (api) =>
        api.tokens.create({ payload: { name, scopes: [first, ...others], expiresInSeconds } })
      )
      if (json) return yield* printJson(made)
      yield* say(`${made.id} for ${name}, until ${when(made.expiresAt) ?? "it is revoked"}; this is told once:`)
      yield* print(made.token)
    })
).pipe(
  Command.withDescription("Makes a token, for no more and for no longer than yours, and prints it: it is told once.")
)

export const list = Command.make("list", { json: Flags.json, ...Flags.connected }, ({ json, ...flags }) =>
  Effect.gen(function* () {
    const found = yield* reading(
      flags,
      (api) => api.tokens.list(),
      () =>
        Effect.flatMap(
          Effect.promise(() => import("../Kept.ts")),
          ({ tokens }) => tokens
        )
    )
    yield* printList(
      json,
      found,
      found.tokens,
      [
        { head: "token", of: ({ id }) => id },
        { head: "name", of: ({ name }) => name },
        { head: "scopes", of: ({ scopes }) => scopes.join(", ") },
        { head: "made", of: ({ createdAt, createdBy }) => `${when(createdAt)} by ${createdBy}` },
        { head: "until", of: ({ expiresAt }) => when(expiresAt) ?? "revoked" },
        { head: "revoked", of: ({ revokedAt, revokedBy }) => (revokedAt ? `${when(revokedAt)} by ${revokedBy}` : "") }
      ],
      "no token was made at run time; the configuration has its own"
    )
  })
).pipe(Command.withDescription("Lists the tokens made at run time, newest first, without the tokens themselves."))

export const revoke = Command.make(
  "revoke",
  { tokenId: Args.text({ name: "token" }).pipe(Args.withDescription("The token's id.")), ...Flags.connected },
  ({ tokenId, ...flags }) =>
    asking(flags, (api) =>
      Effect.flatMap(api.tokens.revoke({ path: { tokenId } }), ({ id, name }) => say(`${id} of ${name}: revoked`))
    )
).pipe(Command.withDescription("Has a token not count any more, from now on."))
