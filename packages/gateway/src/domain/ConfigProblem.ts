import { GatewayConfigError } from "./Errors.ts"

/** What is wrong with a value of the configuration, and where it is. */
export interface ConfigProblem {
  readonly path: ReadonlyArray<PropertyKey>
  readonly message: string
  /** The name that stands there, of which there is none, and those there are. */
  readonly given?: string
  readonly allowed?: ReadonlyArray<string>
}

/** A path as it is written: `crons[1].agentId`. */
export const showPath = (path: ReadonlyArray<PropertyKey>): string =>
  path.reduce<string>(
    (text, part) =>
      typeof part === "number" ? `${text}[${part}]` : text === "" ? String(part) : `${text}.${String(part)}`,
    ""
  )

export const problemError = ({ message, path }: ConfigProblem): GatewayConfigError => {
  const shown = showPath(path)
  return new GatewayConfigError({
    path: shown,
    message: `configuration: ${shown === "" ? "" : `${shown}: `}${message}`
  })
}

export const noAgent = (path: ConfigProblem["path"], given: string, allowed: ReadonlyArray<string>): ConfigProblem => ({
  path,
  message: `there is no agent "${given}"; agents: ${allowed.join(", ")}`,
  given,
  allowed
})
