import { createHash } from "node:crypto"
import { readFileSync, statSync } from "node:fs"
import { dirname, resolve } from "node:path"
import { GatewayConfigError } from "@postilion/gateway"
import { showPath } from "@postilion/gateway/domain/ConfigProblem"
import { Effect, Either, Redacted } from "effect"
import { type CheckOptions, check } from "./config/Checking.ts"
import { keyOf, type Path, type Place, place } from "./config/Placing.ts"
import { type FileNotice, noticeAt, render } from "./config/Rendering.ts"
import { shapeOf } from "./config/Shape.ts"
import { read, type Source } from "./config/Source.ts"
import { PostilionConfig } from "./PostilionConfig.ts"

export type { FileNotice } from "./config/Rendering.ts"

export interface LoadOptions extends Partial<CheckOptions> {}

/** Where a value of the configuration came from. */
export type Origin =
  | { readonly from: "default" }
  | {
      readonly from: "file"
      readonly line: number
      readonly column: number
      /** Variables of the environment that are in it. */
      readonly variables: ReadonlyArray<string>
      /** The file of its own that a secret is in. */
      readonly secretFile: string | undefined
    }

/** A value of the configuration, as it may be shown. */
export interface Setting {
  readonly path: string
  /** JSON; `<redacted>` for what is secret. */
  readonly value: string
  readonly origin: Origin
}

export interface Loaded {
  /** The file, as an absolute path. */
  readonly file: string
  readonly config: PostilionConfig
  /** SHA-256 of the file's text. */
  readonly digest: string
  /** The files of their own that secrets are in, as absolute paths. */
  readonly secretFiles: ReadonlyArray<string>
  /** What works and had better be written otherwise. */
  readonly warnings: ReadonlyArray<FileNotice>
  /** Every value that holds, with those nobody wrote. */
  readonly settings: ReadonlyArray<Setting>
}

/** Bytes: a larger file is none that somebody wrote. */
const LARGEST = 1_048_576
const REDACTED = "<redacted>"
const MEMORY = ":memory:"

export const shape = shapeOf(PostilionConfig.ast)

const refuse = (file: string, message: string, cause?: unknown) =>
  new GatewayConfigError({ path: "", message: `${file}: ${message}`, cause })

const WHY: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EACCES: "this user may not read it",
  EISDIR: "is a folder, not a file"
}
const whyNot = (cause: unknown): string => {
  const { code = "", message } = cause as NodeJS.ErrnoException
  return WHY[code] ?? message
}

const readText = (file: string): Effect.Effect<string, GatewayConfigError> =>
  Effect.try({ try: () => readFileSync(file), catch: (cause) => refuse(file, whyNot(cause), cause) }).pipe(
    Effect.filterOrFail(
      ({ length }) => length <= LARGEST,
      ({ length }) => refuse(file, `has ${length} bytes; a configuration has ${LARGEST} at most`)
    ),
    Effect.flatMap((bytes) =>
      Effect.try({
        try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
        catch: (cause) => refuse(file, "is not UTF-8; save it as that", cause)
      })
    )
  )

/** Secrets in files of their own, as Docker and systemd hand them over; a path is read from the configuration's folder. */
const secretsBeside = (file: string) => (name: string) => {
  const path = resolve(dirname(file), name)
  try {
    const text = readFileSync(path, "utf8").replace(/\r?\n$/, "")
    const others = statSync(path).mode & 0o077
    return others === 0 ? { text } : { text, warning: `others may read ${path}; take that from them: chmod 600` }
  } catch (cause) {
    return { problem: `cannot read ${path}: ${whyNot(cause)}` }
  }
}

/** A path means the same wherever a command is typed: as one of a secret, it is read from the configuration's folder. */
const pathBeside = (file: string) => (name: string) => (name === MEMORY ? name : resolve(dirname(file), name))

const isBelow = (path: Path, above: Path): boolean => above.every((part, i) => path[i] === part)

/** What was given in place of a variable may be secret: it is named, and not shown. */
const withoutValues = (message: string, { text, variables }: Pick<Place, "text" | "variables">): string => {
  if (variables.length === 0) return message
  const names = variables.map((name) => `\${${name}}`).join(" and ")
  const given = text === "" ? [] : [text, JSON.stringify(text).slice(1, -1)]
  const parts = given.map((part) => `(?<!\\w)${part.replaceAll(/[^\w\s]/g, "\\$&")}(?!\\w)`)
  return [/(?<=got )"?.*$/s, ...parts.map((part) => new RegExp(part, "g"))].reduce(
    (said, part) => said.replace(part, () => `what ${names} stands for`),
    message
  )
}

/** The place of a value; of one that is not there, that of what it is missing in. */
const placeOf = (
  places: ReadonlyMap<string, Place>,
  path: Path
): { readonly place: Place; readonly exact: boolean } | undefined => {
  for (let length = path.length; length >= 0; length--) {
    const place = places.get(keyOf(path.slice(0, length)))
    if (place !== undefined) return { place, exact: length === path.length }
  }
  return undefined
}

const settingsOf = (
  config: PostilionConfig,
  source: Source,
  places: ReadonlyMap<string, Place>
): ReadonlyArray<Setting> => {
  const settings: Array<Setting> = []
  const walk = (value: unknown, path: Path): void => {
    const isRedacted = Redacted.isRedacted(value)
    if (typeof value === "object" && value !== null && !isRedacted) {
      const entries: ReadonlyArray<readonly [PropertyKey, unknown]> = Array.isArray(value)
        ? [...value.entries()]
        : Object.entries(value)
      if (entries.length > 0) {
        for (const [key, inner] of entries) walk(inner, [...path, key])
        return
      }
    }
    if (value === undefined) return
    // A token alone is one with the scope of an operator.
    const place = places.get(keyOf(path)) ?? (path[0] === "tokens" ? places.get(keyOf(path.slice(0, 2))) : undefined)
    const { col, line } = source.lines.linePos(place?.at ?? 0)
    settings.push({
      path: showPath(path),
      value: isRedacted ? REDACTED : JSON.stringify(value),
      origin:
        place === undefined
          ? { from: "default" }
          : { from: "file", line, column: col, variables: place.variables, secretFile: place.file }
    })
  }
  walk(config, [])
  return settings
}

/** A configuration as it may be shown: what variables of the environment stand for may be secret. */
export const shown = ({ config, settings }: Pick<Loaded, "config" | "settings">): object => {
  const given = new Set(
    settings.flatMap(({ origin, path }) => (origin.from === "file" && origin.variables.length > 0 ? [path] : []))
  )
  const walk = (value: unknown, path: Path): unknown => {
    if (given.has(showPath(path))) return Redacted.make(value)
    if (typeof value !== "object" || value === null || Redacted.isRedacted(value)) return value
    if (Array.isArray(value)) return value.map((inner, i) => walk(inner, [...path, i]))
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, walk(inner, [...path, key])]))
  }
  return walk(config, []) as object
}

export const digestOf = (text: string | Uint8Array): string => createHash("sha256").update(text).digest("hex")

/** Reads a configuration from a text. `file` is what the text is called, and where secrets in files are looked for. */
export const parse = (
  text: string,
  file: string,
  { env = process.env, ...options }: LoadOptions = {}
): Either.Either<Loaded, GatewayConfigError> => {
  const source = read(text)
  const pathOf = pathBeside(file)
  const placed =
    source.root === undefined ? undefined : place(source.root, shape, { env, readSecret: secretsBeside(file), pathOf })
  const hidden = placed?.hidden ?? []
  const notices: Array<FileNotice> = source.faults.map(({ at, message }) => noticeAt(source, file, at, [], message))
  for (const { at, message, path } of placed?.faults ?? []) notices.push(noticeAt(source, file, at, path, message))
  let config: PostilionConfig | undefined
  if (source.root?.kind === "value" && source.faults.length === 0) {
    const what = source.root.value === null ? "there is nothing in this file" : "a configuration is a map of keys"
    notices.push(noticeAt(source, file, source.root.at, [], `${what}; write \`{}\` for the defaults alone`))
  } else if (placed !== undefined) {
    const checked = check(placed.value, shape, { env, ...options })
    // Also where it is not written.
    if (Either.isRight(checked)) config = { ...checked.right, storage: pathOf(checked.right.storage) }
    else {
      for (const { message, path } of checked.left) {
        const found = placeOf(placed.places, path)
        // What has been said of a value is not said of its being missing as well.
        if (
          found === undefined ||
          placed.faults.some((fault) => isBelow(fault.path, path) || isBelow(path, fault.path))
        )
          continue
        // An alias to nothing has no value either.
        if (source.faults.some(({ at }) => at === found.place.at)) continue
        const at = message.startsWith("unknown key") || !found.exact ? found.place.keyAt : found.place.at
        notices.push(noticeAt(source, file, at, path, withoutValues(message, found.place)))
      }
    }
  }
  if (config === undefined || notices.length > 0) {
    const problems = notices.sort((a, b) => a.line - b.line || a.column - b.column)
    const message = problems.map((problem) => render(problem, source, hidden)).join("\n\n")
    return Either.left(new GatewayConfigError({ path: problems[0]?.path ?? "", message, problems }))
  }
  const settings = settingsOf(config, source, placed?.places ?? new Map())
  const secretFiles = settings.flatMap(({ origin }) =>
    origin.from === "file" && origin.secretFile !== undefined ? [resolve(dirname(file), origin.secretFile)] : []
  )
  const warnings = (placed?.warnings ?? []).map(({ at, message, path }) => noticeAt(source, file, at, path, message))
  return Either.right({
    file,
    config,
    digest: digestOf(text),
    secretFiles: [...new Set(secretFiles)],
    warnings,
    settings
  })
}

/**
 * Reads a `gateway.yaml`. Fails with a `GatewayConfigError` whose message shows every problem there is, each with its place, and
 * whose `problems` are the same for programs.
 */
export const load = (path: string, options?: LoadOptions): Effect.Effect<Loaded, GatewayConfigError> =>
  Effect.suspend(() => {
    const file = resolve(path)
    return Effect.flatMap(readText(file), (text) => parse(text, file, options))
  })
