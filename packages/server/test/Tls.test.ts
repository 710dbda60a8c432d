import { cpSync, writeFileSync } from "node:fs"
import { Agent } from "node:https"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { HttpAddress } from "@postilion/server"
import { Effect, Layer, TestClock } from "effect"
import { ask, contents, pem, shownBy, sslOf } from "./Fixtures.ts"
import { ADA, rawConnection, requestAt, server, tempDir } from "./Support.ts"

const failure = (ssl: object) =>
  Effect.flip(Effect.scoped(Layer.build(server({ ssl: { ...sslOf("server"), ...ssl } }))))

describe("ssl", () => {
  it.scoped("X19: where cert and key are set there is HTTPS, and no HTTP", () =>
    Effect.gen(function* () {
      const { port, url } = yield* HttpAddress
      expect(url).toBe(`https://127.0.0.1:${port}`)
      expect(yield* ask()).toMatchObject({ status: 200, shown: "server" })
      for (const path of ["/livez", "/status", "/webhooks/github"]) {
        const raw = yield* rawConnection
        raw.socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${ADA}\r\n\r\n`)
        expect(yield* raw.ended).not.toContain("HTTP/1.")
      }
      expect(yield* Effect.exit(requestAt(`http://127.0.0.1:${port}`, "/livez"))).toMatchObject({ _tag: "Failure" })
      expect(yield* Effect.flip(ask({ ca: contents("other-ca.crt") }))).toMatch(/UNABLE_TO_VERIFY|SELF_SIGNED/)
      expect(yield* ask()).toMatchObject({ status: 200 })
    }).pipe(Effect.provide(server({ ssl: sslOf("server") })))
  )

  it.scoped("its pages are those of https", () =>
    Effect.gen(function* () {
      const { port } = yield* HttpAddress
      const from = (origin: string) =>
        Effect.map(ask({ headers: { authorization: `Bearer ${ADA}`, origin } }), ({ status }) => status)
      expect(yield* from(`https://127.0.0.1:${port}`)).toBe(200)
      expect(yield* from(`http://127.0.0.1:${port}`)).toBe(403)
    }).pipe(Effect.provide(server({ ssl: sslOf("server") })))
  )

  it.scoped("that cannot be used is an error of the configuration, with the file and what is wrong with it", () =>
    Effect.gen(function* () {
      const file = join(yield* tempDir, "file.pem")
      writeFileSync(file, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
      const cases = [
        [{ cert: "/nowhere/cert.pem" }, "ssl.cert", /"\/nowhere\/cert.pem" cannot be read: ENOENT/],
        [{ key: "/nowhere/key.pem" }, "ssl.key", /"\/nowhere\/key.pem" cannot be read: ENOENT/],
        [{ cert: file }, "ssl.cert", /file.pem" holds no certificate in PEM/],
        [{ key: file }, "ssl.key", /file.pem" holds no private key in PEM/],
        [{ key: pem("renewed.key") }, "ssl.key", /renewed.key" is not the key of the certificate in ".*server.crt"/],
        [{ clientCa: file }, "ssl.clientCa", /file.pem" holds no certificate in PEM/],
        [{ clientCa: "/nowhere/ca.pem" }, "ssl.clientCa", /cannot be read: ENOENT/],
        [{ key: undefined }, "ssl.key", /missing|must|expected/i]
      ] as const
      for (const [change, path, message] of cases) {
        const error = yield* failure(change)
        expect(error).toMatchObject({ _tag: "GatewayConfigError", path, message: expect.stringMatching(message) })
        expect(JSON.stringify(error)).not.toContain("c2VjcmV0")
      }
    })
  )

  it.scoped("is read again when it changes: new connections have the new certificate, and the old ones go on", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const ssl = { cert: join(dir, "tls.crt"), key: join(dir, "tls.key") }
      const put = (from: string, ...kinds: ReadonlyArray<"cert" | "key">) => {
        for (const kind of kinds) cpSync(sslOf(from)[kind], ssl[kind])
      }
      put("server", "cert", "key")
      yield* Effect.gen(function* () {
        const agent = yield* Effect.acquireRelease(
          Effect.sync(() => new Agent({ keepAlive: true, maxSockets: 1 })),
          (agent) => Effect.sync(() => agent.destroy())
        )
        const old = ask({ agent })
        expect(yield* old).toMatchObject({ shown: "server", reused: false })

        // In the middle of the change, the files do not fit.
        put("renewed", "cert")
        yield* TestClock.adjust("10 seconds")
        expect(yield* ask()).toMatchObject({ status: 200, shown: "server" })

        put("renewed", "key")
        yield* TestClock.adjust("10 seconds")
        expect(yield* ask()).toMatchObject({ status: 200, shown: "renewed" })
        expect(yield* old).toMatchObject({ status: 200, reused: true })

        writeFileSync(ssl.cert, "nothing of use")
        yield* TestClock.adjust("30 seconds")
        expect(yield* ask()).toMatchObject({ status: 200, shown: "renewed" })

        put("server", "cert", "key")
        yield* TestClock.adjust("10 seconds")
        expect(yield* ask()).toMatchObject({ status: 200, shown: "server" })
        expect(yield* old).toMatchObject({ status: 200, reused: true })
      }).pipe(Effect.provide(server({ ssl })))
    })
  )

  it.scoped("clientCa: only whoever has a certificate from there gets a connection", () =>
    Effect.gen(function* () {
      expect(yield* ask(shownBy("client"))).toMatchObject({ status: 200 })
      expect(yield* Effect.flip(ask())).toMatch(/CERTIFICATE_REQUIRED|ECONNRESET|EPIPE/)
      expect(yield* Effect.flip(ask(shownBy("stranger")))).toMatch(/UNKNOWN_CA|ECONNRESET|EPIPE/)
      // A certificate is no token.
      expect(yield* ask({ ...shownBy("client"), headers: {} })).toMatchObject({ status: 401 })
    }).pipe(Effect.provide(server({ ssl: { ...sslOf("server"), clientCa: pem("ca.crt") } })))
  )
})
