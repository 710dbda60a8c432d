import { Effect, Redacted } from "effect"
import { Tokens } from "../Tokens.ts"
import { type Handlers, Reply } from "./Operations.ts"

/** A token is in no cache. */
const NEVER_KEPT = { "cache-control": "no-store" }

/** Makes, lists and revokes tokens. */
export const tokens = Effect.map(
  Tokens,
  (tokens) =>
    ({
      list: () => Effect.map(tokens.list, (tokens) => ({ tokens })),
      create: ({ payload }, { principal }) =>
        Effect.map(
          tokens.create(principal, payload),
          ({ made, token }) => new Reply({ ...made, token: Redacted.value(token) }, { headers: NEVER_KEPT })
        ),
      revoke: ({ path: { tokenId } }, { principal: { name } }) => tokens.revoke(tokenId, name)
    }) satisfies Handlers<"tokens">
)
