import type { WebhookAdapter } from "@postilion/gateway"
import type { ConfigProblem } from "@postilion/gateway/domain/ConfigProblem"
import { problemsOf } from "@postilion/gateway/domain/ConfigProblems"
import { didYouMean } from "@postilion/gateway/domain/Nearest"
import { deliveryProblems } from "@postilion/gateway/runs/Channel"
import { compile } from "@postilion/gateway/sources/ScheduleClock"
import { adapterNames } from "@postilion/gateway/sources/WebhookRoutes"
import { Either, ParseResult } from "effect"
import { agentProblems } from "../agents/AgentConfig.ts"
import { outsideProblems } from "../OutsideConfig.ts"
import { PostilionConfig } from "../PostilionConfig.ts"
import { CHANNEL } from "../socket/Rooms.ts"
import type { Path } from "./Placing.ts"
import { childOf, describe, keysOf, ofKind, type Shape } from "./Shape.ts"
import { millisOf } from "./Spellings.ts"

export interface CheckOptions {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Adapters besides the built-in ones. */
  readonly adapters?: ReadonlyArray<WebhookAdapter> | undefined
  /** Channels besides the configured ones. */
  readonly channels?: ReadonlyArray<string> | undefined
}

type Decoded = Either.Either<PostilionConfig, ParseResult.ParseIssue>
const decode = (input: unknown): Decoded =>
  ParseResult.decodeUnknownEither(PostilionConfig, { errors: "all", onExcessProperty: "error" })(input)

const kindOf = (actual: unknown): "map" | "list" | "value" =>
  Array.isArray(actual) ? "list" : typeof actual === "object" && actual !== null ? "map" : "value"

const depthOf = (issue: ParseResult.ParseIssue): number =>
  ParseResult.ArrayFormatter.formatIssueSync(issue).reduce((most, { path }) => Math.max(most, path.length), 0)

/** Whether all there is to say is that something of another kind had to stand here. */
const isOfOtherKind = (issue: ParseResult.ParseIssue): boolean => {
  switch (issue._tag) {
    case "Type":
      return true
    case "Refinement":
      return issue.kind === "From" && isOfOtherKind(issue.issue)
    case "Transformation":
      return isOfOtherKind(issue.issue)
    case "Composite":
      return [issue.issues].flat().every(isOfOtherKind)
    default:
      return false
  }
}

/** A union has an issue for each of its members: what counts is the one whose kind was meant, and of those the one that got furthest. */
const pruned = (issue: ParseResult.ParseIssue, shape: Shape | undefined): ParseResult.ParseIssue => {
  switch (issue._tag) {
    case "Pointer": {
      const path: Path = [issue.path].flat()
      return new ParseResult.Pointer(
        issue.path,
        issue.actual,
        pruned(issue.issue, path.reduce<Shape | undefined>(childOf, shape))
      )
    }
    case "Refinement":
      return issue.kind === "From"
        ? new ParseResult.Refinement(issue.ast, issue.actual, issue.kind, pruned(issue.issue, shape))
        : issue
    case "Transformation":
      return new ParseResult.Transformation(issue.ast, issue.actual, issue.kind, pruned(issue.issue, shape))
    case "Composite": {
      const issues = Array.isArray(issue.issues) ? issue.issues : [issue.issues]
      if (issue.ast._tag !== "Union") {
        const [first, ...rest] = issues.map((one) => pruned(one, shape))
        return first === undefined ? issue : new ParseResult.Composite(issue.ast, issue.actual, [first, ...rest])
      }
      if (ofKind(shape, kindOf(issue.actual)).length === 0) return new ParseResult.Type(issue.ast, issue.actual)
      const meant = issues.map((one) => pruned(one, shape)).filter((one) => !isOfOtherKind(one))
      const [first, ...rest] = meant
      if (first === undefined) return new ParseResult.Type(issue.ast, issue.actual)
      const deepest = rest.reduce((a, b) => (depthOf(b) > depthOf(a) ? b : a), first)
      return new ParseResult.Composite(issue.ast, issue.actual, [deepest])
    }
    default:
      return issue
  }
}

const shown = (value: unknown): string => {
  switch (kindOf(value)) {
    case "list":
      return "a list"
    case "map":
      return "a map"
    default:
      if (value === null) return "nothing"
      return typeof value === "string"
        ? JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
        : `${value}`
  }
}

const at = (input: unknown, path: Path): unknown =>
  path.reduce<unknown>((value, part) => (value as Record<PropertyKey, unknown> | undefined)?.[part], input)

const isSecret = (shape: Shape | undefined): boolean => {
  const [value] = ofKind(shape, "value")
  return value?.kind === "value" && value.secret
}

const wrongType = (shape: Shape, given: unknown): string => {
  if (given === "") return "must not be empty"
  if (given === null) return `has no value; write ${describe(shape)}, or leave the key out`
  const [value] = ofKind(shape, "value")
  const { flag = false, number, text = false } = value?.kind === "value" ? value : {}
  const isNumber = number !== undefined && typeof given === "string" && given !== "" && Number.isFinite(Number(given))
  const isFlag = flag && (given === "true" || given === "false")
  const quotes =
    text && (typeof given === "number" || typeof given === "boolean")
      ? "; put it in quotes"
      : isNumber || isFlag
        ? "; take the quotes away"
        : ""
  const got = isSecret(shape) && kindOf(given) === "value" ? "" : `, got ${shown(given)}`
  return `must be ${describe(shape)}${got}${quotes}`
}

/** What a schema says, as whoever wrote the file is to read it. */
const worded = (found: ParseResult.ArrayFormatterIssue, shape: Shape, input: unknown): ConfigProblem => {
  const path: Path = [...found.path]
  const last = String(path.at(-1) ?? "")
  const here = path.reduce<Shape | undefined>(childOf, shape)
  const given = at(input, path)
  if (found._tag === "Unexpected") {
    const parent = path.slice(0, -1).reduce<Shape | undefined>(childOf, shape)
    const known = [...keysOf(parent).keys()]
    const near = didYouMean(
      last,
      known.flatMap((name) => [name, name.replace(/Ms$/, "")])
    )
    return { path, message: `unknown key "${last}"${near === "" ? `; keys here: ${known.join(", ")}` : near}` }
  }
  if (found._tag === "Missing" && typeof path.at(-1) === "number") {
    return { path: path.slice(0, -1), message: "must not be empty" }
  }
  if (found._tag === "Missing") {
    const about = keysOf(path.slice(0, -1).reduce<Shape | undefined>(childOf, shape)).get(last)?.about ?? ""
    return { path, message: `"${last}" is missing${about === "" ? "" : `: ${about}`}` }
  }
  if (here === undefined) return { path, message: found.message }
  const [value] = ofKind(here, "value")
  const words = value?.kind === "value" ? value.words : []
  const names = found.message.includes("is not an IANA time zone") ? Intl.supportedValuesOf("timeZone") : words
  const near = typeof given === "string" && names.length > 0 ? didYouMean(given, names) : ""
  const isPlain =
    /^Expected/.test(found.message) || (found._tag === "Type" && /^must be (?:a number or|one of)/.test(found.message))
  if (isPlain) {
    const asTime = last.endsWith("Ms") && typeof given === "string" && millisOf(given) !== undefined
    const time = asTime ? `; write ${last.slice(0, -2)}: ${given}` : ""
    return { path, message: wrongType(here, given) + near + time }
  }
  return { path, message: found.message + near }
}

/** The configuration without what is wrong with it, as far as it goes: what is left is checked all the same. */
const salvaged = (input: unknown, paths: ReadonlyArray<Path>): unknown => {
  const copy: unknown = structuredClone(input)
  const holes = new Map<string, Set<PropertyKey>>()
  for (const path of paths) {
    const [top, second] = path
    const value = (copy as Record<PropertyKey, unknown> | null)?.[top ?? ""]
    const isList = Array.isArray(value) && typeof second === "number"
    if (top === undefined) return undefined
    if (isList) holes.set(String(top), (holes.get(String(top)) ?? new Set()).add(second))
    else if (top === "agents" && second !== undefined && kindOf(value) === "map") {
      ;(value as Record<PropertyKey, unknown>)[second] = {}
    } else delete (copy as Record<PropertyKey, unknown>)[top]
  }
  for (const [top, positions] of holes) {
    const record = copy as Record<string, unknown>
    const list = record[top]
    if (Array.isArray(list)) record[top] = list.filter((_, i) => !positions.has(i))
  }
  return copy
}

/** Where an item is in the list it was in before some were left out. */
const relocated = (path: Path, paths: ReadonlyArray<Path>): Path => {
  const [top, position, ...rest] = path
  if (top === undefined || typeof position !== "number") return path
  const holes = new Set(paths.filter((one) => one[0] === top).map((one) => one[1]))
  let original = -1
  for (let left = position; left >= 0; left--)
    do original += 1
    while (holes.has(original))
  return [top, original, ...rest]
}

const cronProblems = (config: PostilionConfig): ReadonlyArray<ConfigProblem> =>
  config.crons.flatMap(({ schedule, timezone }, i) => {
    const expressions: ReadonlyArray<string> = typeof schedule === "string" ? [schedule] : schedule
    return expressions.flatMap((expression, line) => {
      const compiled = compile({ kind: "cron", expression, timezone: timezone ?? config.timezone })
      const place = typeof schedule === "string" ? ["crons", i, "schedule"] : ["crons", i, "schedule", line]
      return Either.isLeft(compiled) ? [{ path: place, message: compiled.left }] : []
    })
  })

/** What is wrong with a whole configuration. */
const wholeProblems = (config: PostilionConfig, known: Known, options: CheckOptions): ReadonlyArray<ConfigProblem> => {
  const adapters = adapterNames(options.adapters)
  const channels = new Set([...known.channels, ...(options.channels ?? []), CHANNEL])
  return [
    ...problemsOf(config),
    ...agentProblems(config.agents, options.env),
    ...outsideProblems(config),
    ...cronProblems(config),
    ...config.webhooks.flatMap(({ adapter }, i) =>
      adapters.includes(adapter)
        ? []
        : [
            {
              path: ["webhooks", i, "adapter"],
              message: `there is no adapter "${adapter}"; adapters: ${adapters.join(", ")}`,
              given: adapter,
              allowed: adapters
            }
          ]
    ),
    ...deliveryProblems(config, channels)
  ].map(({ allowed, given, message, path }: ConfigProblem) => ({
    path,
    message: given === undefined ? message : message + didYouMean(given, allowed ?? [])
  }))
}

interface Known {
  readonly channels: ReadonlyArray<string>
}

/** What is wrong with what a file means, all of it; or the configuration that it is. */
export const check = (
  input: unknown,
  shape: Shape,
  options: CheckOptions
): Either.Either<PostilionConfig, ReadonlyArray<ConfigProblem>> => {
  const channels = at(input, ["channels"])
  const known = { channels: kindOf(channels) === "map" ? Object.keys(channels as object) : [] }
  const decoded = decode(input)
  if (Either.isRight(decoded)) {
    const problems = wholeProblems(decoded.right, known, options)
    return problems.length === 0 ? Either.right(decoded.right) : Either.left(problems)
  }
  const found = ParseResult.ArrayFormatter.formatIssueSync(pruned(decoded.left, shape)).map((one) =>
    worded(one, shape, input)
  )
  const paths = found.map(({ path }) => path)
  const rest = decode(salvaged(input, paths))
  const more = Either.isLeft(rest)
    ? []
    : wholeProblems(rest.right, known, options).map((problem) => ({ ...problem, path: relocated(problem.path, paths) }))
  return Either.left([...found, ...more])
}
