// What a server would list, read from its records without one.
export { page as sessions } from "./api/Sessions.ts"
export { type DeadLetter, listed as deadLetters } from "./push/DeadLetters.ts"
export { listed as tokens, type StoredToken } from "./Tokens.ts"
