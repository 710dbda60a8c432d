/** What a text with variables comes to, and which it has. */
export interface Expanded {
  readonly text: string
  readonly variables: ReadonlyArray<string>
  readonly problem: string | undefined
}

const NAME = /^[A-Za-z_]\w*$/

/** `${NAME}` is a variable of the environment, `${NAME:-default}` one that may be unset or empty, `$$` a dollar sign. */
export const expand = (text: string, env: Readonly<Record<string, string | undefined>>): Expanded => {
  const variables: Array<string> = []
  const problems: Array<string> = []
  const expanded = text.replaceAll(/\$\$|\$\{([^}]*)(\}?)/g, (whole, inner?: string, close?: string) => {
    if (inner === undefined) return "$"
    if (close === "") {
      problems.push(`"${whole}" has no end; write \${NAME}, or $$ for a dollar sign`)
      return ""
    }
    const [, name = "", fallback] = /^(.*?)(?::-(.*))?$/s.exec(inner) ?? []
    if (!NAME.test(name) || fallback?.includes("${") === true) {
      problems.push(`"${whole}" is no variable; write \${NAME} or \${NAME:-default}, or $$ for a dollar sign`)
      return ""
    }
    variables.push(name)
    const given = env[name]
    if (fallback !== undefined) return given === undefined || given === "" ? fallback : given
    if (given === undefined)
      problems.push(`the environment variable ${name} is not set; set it, or write \${${name}:-default}`)
    return given ?? ""
  })
  return { text: expanded, variables, problem: problems[0] }
}
