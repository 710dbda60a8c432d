import { isIP } from "node:net"
import type { HttpAddressShape } from "./HttpListener.ts"

export interface OriginOptions {
  /** Origins whose pages may ask, such as `https://console.example.com`. */
  readonly allowedOrigins: ReadonlyArray<string>
  /** Names, besides its own address, that the gateway is reached by; with a port where it is not the usual one. */
  readonly allowedHosts: ReadonlyArray<string>
}

/** Why a request with these headers is refused; `undefined`: it is not. */
export type OriginProblem = { readonly reason: "wrong-host" | "wrong-origin"; readonly message: string }

const LOCAL = ["localhost", "127.0.0.1", "[::1]"]
const ANY = new Set(["0.0.0.0", "::"])

/** A host with its port, in lower case, without a port that goes without saying. */
const normal = (host: string, scheme: string): string => {
  const usual = scheme === "https" ? /:443$/ : /:80$/
  return host.trim().toLowerCase().replace(usual, "")
}

/**
 * A page in a browser on this machine reaches what listens on loopback, so being there proves nothing. The `Host` must be one
 * the gateway is known by, which a name that was made to point here afterwards (DNS rebinding) is not; the `Origin`, which
 * programs that are not browsers leave out, the gateway's own or one that is allowed.
 */
export const make = ({ allowedHosts, allowedOrigins }: OriginOptions, address: HttpAddressShape) => {
  const scheme = address.url.startsWith("https:") ? "https" : "http"
  const named = ANY.has(address.host) ? [] : [address.host.includes(":") ? `[${address.host}]` : address.host]
  const hosts = new Set([
    ...[...LOCAL, ...named].map((host) => normal(`${host}:${address.port}`, scheme)),
    ...allowedHosts.map((host) => normal(host, scheme))
  ])
  const origins = new Set(allowedOrigins.map((origin) => origin.toLowerCase()))
  /** Bound to every address of the machine, its own are those that are written as numbers: no name can be made to be one. */
  const isOwnNumber = (host: string): boolean => {
    if (!ANY.has(address.host)) return false
    const [, v6, v4 = "", port = ""] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(host) ?? []
    return isIP(v6 ?? v4) !== 0 && normal(`x:${port}`, scheme) === normal(`x:${address.port}`, scheme)
  }
  return (headers: Readonly<Record<string, string>>): OriginProblem | undefined => {
    const host = normal(headers.host ?? "", scheme)
    if (!hosts.has(host) && !isOwnNumber(host)) {
      return {
        reason: "wrong-host",
        message: `this gateway is not known as "${headers.host ?? ""}"; use ${address.url}, or name it in \`allowedHosts\``
      }
    }
    const { origin } = headers
    if (origin === undefined || origins.has(origin.toLowerCase())) return undefined
    return origin.toLowerCase() === `${scheme}://${host}`
      ? undefined
      : {
          reason: "wrong-origin",
          message: `pages of ${origin} may not ask this; name it in \`allowedOrigins\` if they may`
        }
  }
}
