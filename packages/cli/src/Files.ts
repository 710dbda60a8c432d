import { existsSync, statSync } from "node:fs"
import { resolve } from "node:path"
import { type Loaded, writtenSecrets } from "./Configuration.ts"

/** A file that holds what others on the machine should not read. */
export interface Sensitive {
  readonly file: string
  readonly what: string
}

/** Which files of a configuration those are, where they are there. */
export const sensitive = (loaded: Loaded): ReadonlyArray<Sensitive> => {
  const { audit, ssl, storage } = loaded.config
  const files: Array<Sensitive> = loaded.secretFiles.map((file) => ({ file, what: "a secret" }))
  if (writtenSecrets(loaded).length > 0) files.push({ file: loaded.file, what: "the secrets in the configuration" })
  if (ssl !== undefined) files.push({ file: ssl.key, what: "the key of the certificate" })
  if (audit.signingKeyFile !== undefined)
    files.push({ file: audit.signingKeyFile, what: "the key the audit is signed with" })
  if (storage !== ":memory:") {
    for (const suffix of ["", "-wal", "-shm"]) files.push({ file: `${storage}${suffix}`, what: "the records" })
  }
  return files.map(({ file, what }) => ({ file: resolve(file), what })).filter(({ file }) => existsSync(file))
}

/** What others than its owner may do with a file. Windows has no such bits. */
export const openTo = (file: string): "nobody" | "its group" | "everyone" => {
  if (process.platform === "win32") return "nobody"
  const { mode } = statSync(file)
  if ((mode & 0o007) !== 0) return "everyone"
  return (mode & 0o070) === 0 ? "nobody" : "its group"
}
