import { generateKeyPairSync } from "node:crypto"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { AuditLog, GatewayService } from "@postilion/gateway"
import type { PostilionConfigInput } from "@postilion/server"
import { Effect, Layer } from "effect"
import { server, tempDir } from "./Support.ts"

const refusal = (audit: PostilionConfigInput["audit"]) =>
  Effect.map(Effect.flip(Effect.scoped(Layer.build(server({ audit })))), ({ message }) => message)
const pem = { type: "pkcs8", format: "pem" } as const

describe("audit.signingKeyFile and audit.checkpointEvery", () => {
  it.scoped("a key that cannot be used is refused, with what to do", () =>
    Effect.gen(function* () {
      const file = join(yield* tempDir, "key.pem")
      expect(yield* refusal({ signingKeyFile: file })).toMatch(
        /^configuration: audit\.signingKeyFile: .* cannot be read; make/
      )
      writeFileSync(file, "s3cr3t")
      const message = yield* refusal({ signingKeyFile: file })
      expect(message).toContain("holds no private key in PEM; make one with `openssl genpkey -algorithm ed25519`")
      expect(message).not.toContain("s3cr3t")
      writeFileSync(file, generateKeyPairSync("x25519").privateKey.export(pem))
      expect(yield* refusal({ signingKeyFile: file })).toContain("of type x25519, not ed25519")
      expect(yield* refusal({ signingKeyFile: file, checkpointEvery: 1 })).toContain(
        "audit.checkpointEvery: must be from 2"
      )
    })
  )

  it.scoped("signs as often as it is told, with the key it was given", () =>
    Effect.gen(function* () {
      const file = join(yield* tempDir, "key.pem")
      const { privateKey, publicKey } = generateKeyPairSync("ed25519")
      writeFileSync(file, privateKey.export(pem))
      const signedTo = (checkpointEvery: number) =>
        Effect.gen(function* () {
          const audit = yield* AuditLog
          yield* (yield* GatewayService).pause({ by: "ada" })
          const verified = yield* audit.verifyWith({ publicKey })
          return verified.valid ? verified.signedTo : verified.problem
        }).pipe(Effect.provide(server({ audit: { signingKeyFile: file, checkpointEvery } })))
      // The first record is that the gateway started, the second that it was paused.
      expect(yield* signedTo(1_000)).toBe("no record has a signature")
      expect(yield* signedTo(2)).toBe(2)
    })
  )
})
