import * as Options from "@effect/cli/Options"
import { Option } from "effect"

/** An option with a value, where it is given. */
export const optional = (name: string, value: string, about: string) =>
  Options.text(name).pipe(
    Options.withPseudoName(value),
    Options.withDescription(about),
    Options.optional,
    Options.map(Option.getOrUndefined)
  )
export const flag = (name: string, about: string) => Options.boolean(name).pipe(Options.withDescription(about))
/** What a text stands for, where it is given; what it is refused with names the option, which the library's own words do not. */
export const read = <A>(
  name: string,
  value: string,
  about: string,
  meaning: (text: string) => A | undefined,
  expected: string
) =>
  Options.text(name).pipe(
    Options.withPseudoName(value),
    Options.withDescription(about),
    Options.filterMap((text) => Option.fromNullable(meaning(text)), `--${name} must be ${expected}`),
    Options.optional,
    Options.map(Option.getOrUndefined)
  )
/** A whole number, where it is given. */
export const whole = (name: string, value: string, least: number, most: number, about: string) => {
  const meaning = (text: string): number | undefined => {
    const given = /^\d+$/.test(text) ? Number(text) : Number.NaN
    return given >= least && given <= most ? given : undefined
  }
  const bounds = most === Number.MAX_SAFE_INTEGER ? `${least} or more` : `from ${least} to ${most}`
  return read(name, value, about, meaning, `a whole number, ${bounds}`)
}
/** How many there are shown at most. */
export const limit = (most: number, standard: number) =>
  whole("limit", "n", 1, most, `At most so many, up to ${most.toLocaleString("en-US")}. Default: ${standard}.`).pipe(
    Options.map((given) => given ?? standard)
  )

/** One of a few words, where it is given. */
export const choice = <const W extends ReadonlyArray<string>>(name: string, words: W, about: string) =>
  Options.choice(name, words).pipe(Options.withDescription(about), Options.optional, Options.map(Option.getOrUndefined))
/** An instant, where it is given. */
export const instant = (name: string, about: string) =>
  read(
    name,
    "time",
    about,
    (text) => (Number.isNaN(Date.parse(text)) ? undefined : new Date(text)),
    "a time such as 2026-01-31T09:00:00Z"
  )

export const json = flag("json", "As JSON, for programs.")
export const yes = flag("yes", "Do not ask.").pipe(Options.withAlias("y"))

const debug = flag("debug", "Say where in the program an error comes from.")
export const config = optional("config", "file", "The configuration. Default: POSTILION_CONFIG, or ./gateway.yaml.")

/** What every command takes. */
export const common = { debug }
/** What a command takes that needs the configuration. */
export const configured = { ...common, config }
/** What a command takes that asks a gateway. */
export const connected = {
  url: optional("url", "url", "Where the gateway is. Default: POSTILION_URL, or what the configuration says."),
  tokenFile: optional(
    "token-file",
    "file",
    "A file with the token. Default: POSTILION_TOKEN, or a token of the configuration."
  ),
  ...configured
}
export interface Connected {
  readonly url: string | undefined
  readonly tokenFile: string | undefined
  readonly config: string | undefined
}
