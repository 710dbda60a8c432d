import * as Mismatch from "@postilion/gateway/domain/Mismatch"
import { Data, ParseResult } from "effect"

/** What the process ends with. Those above 2 are of `sysexits.h`. */
export const EXIT = {
  /** It was done. */
  ok: 0,
  /** It was not done, or what was looked at is not as it should be. */
  failed: 1,
  /** The command line is not one. */
  usage: 2,
  /** Not now: the gateway does not run, does not answer, or is busy. The same may succeed later. */
  temporary: 75,
  /** The configuration is wrong, or what it names cannot be used. */
  config: 78,
  /** Ctrl-C ended it. */
  interrupted: 130
} as const
export type Exit = keyof typeof EXIT

/** A command did not do what it was told to: what was wrong, and where; `next`, what to do. */
export class CliError extends Data.TaggedError("CliError")<{
  readonly exit: Exit
  readonly message: string
  readonly next?: string | undefined
  readonly cause?: unknown
}> {}

export const failed = (message: string, next?: string, cause?: unknown) =>
  new CliError({ exit: "failed", message, next, cause })
export const usage = (message: string, next?: string) => new CliError({ exit: "usage", message, next })
export const temporary = (message: string, next?: string, cause?: unknown) =>
  new CliError({ exit: "temporary", message, next, cause })
export const misconfigured = (message: string, next?: string, cause?: unknown) =>
  new CliError({ exit: "config", message, next, cause })

const tagOf = (error: unknown): string | undefined =>
  typeof error === "object" && error !== null && "_tag" in error && typeof error._tag === "string"
    ? error._tag
    : undefined
const memberOf = (error: unknown, name: string): unknown =>
  typeof error === "object" && error !== null && name in error ? Reflect.get(error, name) : undefined
const textOf = (error: unknown, name: string): string | undefined => {
  const found = memberOf(error, name)
  return typeof found === "string" && found !== "" ? found : undefined
}

/** Codes of the control plane's client after which the same may succeed. */
const PASSING: ReadonlySet<string> = new Set(["connection-lost", "no-answer", "unavailable", "rate-limited", "closed"])

/** What a refusal's status means for whoever asked. */
const ofStatus = (status: unknown): Exit =>
  status === 408 || status === 429 || status === 503 ? "temporary" : "failed"

const exitOf = (error: unknown): Exit => {
  switch (tagOf(error)) {
    case "ParseError":
      return "usage"
    case "GatewayConfigError":
    case "SchedulerError":
      return "config"
    case "GatewayStartError":
      return exitOf(memberOf(error, "cause"))
    case "ApiProblem":
      return ofStatus(memberOf(error, "status"))
    case "ClientError":
      return PASSING.has(textOf(error, "code") ?? "") ? "temporary" : "failed"
    case "ChannelConnectionError":
    case "RequestError":
    case "StoreError":
      return "temporary"
    default:
      return memberOf(error, "retryable") === true ? "temporary" : "failed"
  }
}

/** What else there is to say to whoever was refused. */
const nextOf = (error: unknown): string | undefined => {
  switch (memberOf(error, "status")) {
    case 401:
      return "name the file with a token that counts: --token-file, or set POSTILION_TOKEN"
    case 403:
      return "use a token with another scope: `postilion token create` makes one"
    default:
      return textOf(error, "nextStep")
  }
}

/** Any failure as the one a person reads; `undefined`: it is none that anybody expected. */
export const failureOf = (error: unknown): CliError | undefined => {
  if (error instanceof CliError) return error
  if (tagOf(error) === undefined) return undefined
  // Not even sent: the gateway would have refused it.
  const message = ParseResult.isParseError(error)
    ? Mismatch.describe(error)
    : (textOf(error, "message") ?? String(error))
  return new CliError({ exit: exitOf(error), message, next: nextOf(error), cause: error })
}
