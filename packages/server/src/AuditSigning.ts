import { createPrivateKey } from "node:crypto"
import { readFileSync } from "node:fs"
import { GatewayConfigError } from "@postilion/gateway"
import type { AuditLogOptions } from "@postilion/gateway/records/AuditLog"
import { Effect } from "effect"
import type { AuditConfig } from "./PostilionConfig.ts"

/** What checkpoints are signed with. Fails with a `GatewayConfigError` when the file holds no Ed25519 private key. */
export const load = ({
  checkpointEvery,
  signingKeyFile
}: AuditConfig): Effect.Effect<AuditLogOptions, GatewayConfigError> => {
  if (signingKeyFile === undefined) return Effect.succeed({})
  const path = "audit.signingKeyFile"
  const refuse = (problem: string) =>
    new GatewayConfigError({
      path,
      // Without the cause: what a key file holds stays in it.
      message: `configuration: ${path}: "${signingKeyFile}" ${problem}; make one with \`openssl genpkey -algorithm ed25519\``
    })
  return Effect.try({
    try: () => readFileSync(signingKeyFile),
    catch: () => refuse("cannot be read")
  }).pipe(
    Effect.flatMap((pem) =>
      Effect.try({ try: () => createPrivateKey(pem), catch: () => refuse("holds no private key in PEM") })
    ),
    Effect.filterOrFail(
      (key) => key.asymmetricKeyType === "ed25519",
      (key) => refuse(`holds a key of type ${key.asymmetricKeyType}, not ed25519`)
    ),
    Effect.map((signingKey) => ({ signingKey, checkpointEvery }))
  )
}
