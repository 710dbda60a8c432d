import { createPrivateKey, X509Certificate } from "node:crypto"
import { readFileSync } from "node:fs"
import { createSecureContext, type Server } from "node:tls"
import { GatewayConfigError } from "@postilion/gateway"
import { Effect, Either } from "effect"

/** Files in PEM. */
export interface TlsFiles {
  /** The certificate, with those that lead to its root after it. */
  readonly cert: string
  readonly key: string
  /** Certificates of who issues those that clients show. */
  readonly clientCa?: string | undefined
}

interface Contents {
  readonly cert: Buffer
  readonly key: Buffer
  readonly ca?: Buffer
}

/** What connections are secured with, and where that is from. */
export interface Secured {
  readonly files: TlsFiles
  readonly contents: Contents
}

/** How often the files are looked at. They may be links that are set elsewhere, which no watching of a file would tell. */
const LOOKED_AT = "10 seconds"

const load = (files: TlsFiles): Either.Either<Secured, GatewayConfigError> => {
  // Without the cause: what a key file holds stays in it.
  const refuse = (name: keyof TlsFiles, problem: string) =>
    new GatewayConfigError({ path: `ssl.${name}`, message: `configuration: ssl.${name}: "${files[name]}" ${problem}` })
  const read = (name: keyof TlsFiles, file: string) =>
    Either.try({
      try: () => readFileSync(file),
      catch: (cause) => refuse(name, `cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`)
    })
  const certificate = (name: keyof TlsFiles, pem: Buffer) =>
    Either.try({
      try: () => new X509Certificate(pem),
      catch: () => refuse(name, "holds no certificate in PEM")
    })
  return Either.gen(function* () {
    const cert = yield* read("cert", files.cert)
    const own = yield* certificate("cert", cert)
    const key = yield* read("key", files.key)
    const privateKey = yield* Either.try({
      try: () => createPrivateKey(key),
      catch: () => refuse("key", "holds no private key in PEM without a passphrase")
    })
    if (!own.checkPrivateKey(privateKey)) {
      return yield* Either.left(refuse("key", `is not the key of the certificate in "${files.cert}"`))
    }
    const contents = { cert, key }
    yield* Either.try({
      try: () => createSecureContext(contents),
      catch: (cause) => refuse("cert", `cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`)
    })
    if (files.clientCa === undefined) return { files, contents }
    const ca = yield* read("clientCa", files.clientCa)
    yield* certificate("clientCa", ca)
    return { files, contents: { ...contents, ca } }
  })
}

/** Reads what connections are to be secured with. Fails with a `GatewayConfigError` that names the file, and what is wrong with it. */
export const read = (files: TlsFiles): Effect.Effect<Secured, GatewayConfigError> => Effect.suspend(() => load(files))

const same = (one: Contents, other: Contents): boolean =>
  one.cert.equals(other.cert) && one.key.equals(other.key) && (one.ca ?? one.key).equals(other.ca ?? other.key)

/**
 * Takes what the files hold into use when it has changed, for connections made from then on; those there are stay as they are.
 * Files that cannot be used are told of once, and what was read last stays in use.
 */
export const following = (server: Server, first: Secured): Effect.Effect<never> => {
  let used = first.contents
  let told: string | undefined
  const look = Effect.suspend(() => {
    const found = load(first.files)
    if (Either.isLeft(found)) {
      const { message } = found.left
      if (message === told) return Effect.void
      told = message
      return Effect.logError(`the certificate in use stays, since the new one cannot be: ${message}`)
    }
    told = undefined
    const { contents } = found.right
    if (same(contents, used)) return Effect.void
    server.setSecureContext(contents)
    used = contents
    return Effect.logInfo(`a new certificate is in use: ${first.files.cert}`)
  })
  return Effect.forever(Effect.zipRight(Effect.sleep(LOOKED_AT), look))
}
