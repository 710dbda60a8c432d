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
/** How many there are shown at most. */
export const limit = (most: number, standard: number) =>
  Options.integer("limit").pipe(
    Options.withPseudoName("n"),
    Options.withDescription(`At most so many, up to ${most.toLocaleString("en-US")}. Default: ${standard}.`),
    Options.filterMap(
      (value) => (value >= 1 && value <= most ? Option.some(value) : Option.none()),
      `--limit must be from 1 to ${most}`
    ),
    Options.withDefault(standard)
  )

/** One of a few words, where it is given. */
export const choice = <const W extends ReadonlyArray<string>>(name: string, words: W, about: string) =>
  Options.choice(name, words).pipe(Options.withDescription(about), Options.optional, Options.map(Option.getOrUndefined))
/** An instant, where it is given. */
export const instant = (name: string, about: string) =>
  Options.date(name).pipe(
    Options.withPseudoName("time"),
    Options.withDescription(about),
    Options.optional,
    Options.map(Option.getOrUndefined)
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
