import { readFileSync } from "node:fs"
import { request as httpsRequest, type RequestOptions } from "node:https"
import { join } from "node:path"
import { TLSSocket } from "node:tls"
import { HttpAddress } from "@postilion/server"
import { Effect } from "effect"
import { ADA } from "./Support.ts"

/** A file of certificates made for these tests: `server`, `renewed` and `client` are issued by `ca`, `stranger` by `other-ca`. */
export const pem = (name: string): string => join(import.meta.dirname, "fixtures/tls", name)

export const sslOf = (name: string) => ({ cert: pem(`${name}.crt`), key: pem(`${name}.key`) })

export interface Answered {
  readonly status: number
  /** Whom the certificate was issued to. */
  readonly shown: string
  readonly reused: boolean
}

export const contents = (name: string) => readFileSync(pem(name))
export const shownBy = (name: string) => ({ cert: contents(`${name}.crt`), key: contents(`${name}.key`) })

/** Asks over TLS, by a client that knows the test's authority; fails with what kept it from an answer. */
export const ask = (options: RequestOptions = {}) =>
  Effect.flatMap(HttpAddress, ({ port }) =>
    Effect.async<Answered, string>((resume) => {
      const headers = { authorization: `Bearer ${ADA}` }
      const sent = httpsRequest(
        { host: "127.0.0.1", port, path: "/status", headers, ca: contents("ca.crt"), agent: false, ...options },
        (response) => {
          const { socket } = response
          const shown = socket instanceof TLSSocket ? String(socket.getPeerCertificate().subject?.CN) : ""
          response.resume().on("end", () => {
            resume(Effect.succeed({ status: response.statusCode ?? 0, shown, reused: sent.reusedSocket }))
          })
        }
      )
      sent.on("error", (error: NodeJS.ErrnoException) => resume(Effect.fail(error.code ?? error.message))).end()
    })
  )
