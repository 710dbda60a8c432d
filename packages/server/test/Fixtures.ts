import { join } from "node:path"

/** A file of certificates made for these tests: `server`, `renewed` and `client` are issued by `ca`, `stranger` by `other-ca`. */
export const pem = (name: string): string => join(import.meta.dirname, "fixtures/tls", name)

export const sslOf = (name: string) => ({ cert: pem(`${name}.crt`), key: pem(`${name}.key`) })
