import { GatewayConfigError } from "./Errors.ts"

/** What is wrong with a value of the configuration, and where it is. */
export interface ConfigProblem {
  readonly path: ReadonlyArray<PropertyKey>
  readonly message: string
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
