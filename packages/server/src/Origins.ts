import { isIP } from "node:net"
import type { HttpAddressShape } from "./HttpListener.ts"

export interface OriginOptions {
  /** Origins whose pages may ask, such as `https://console.example.com`. */
  readonly allowedOrigins: ReadonlyArray<string>
  /** Names, besides the address it listens at, that the gateway is reached by. */
  readonly allowedHosts: ReadonlyArray<string>
}

/** Why a request is refused. */
export interface OriginProblem {
  readonly reason: "wrong-host" | "wrong-origin"
  readonly message: string
}

const LOCAL = ["localhost", "127.0.0.1", "::1"]

/** A `Host` without its port, and an address of IPv6 without its brackets. */
const nameOf = (host: string): string => {
  const [, v6, name = ""] = /^(?:\[([^\]]+)\]|([^:]+))(?::\d+)?$/.exec(host) ?? []
  return v6 ?? name
}

/**
 * A page in a browser on this machine reaches what listens on loopback, so being there proves nothing. The `Host` must be one
 * the gateway is known by, which a name that was made to point here afterwards (DNS rebinding) is not; the `Origin`, which
 * programs that are no browsers leave out, the gateway's own or one that is allowed.
 *
 * `undefined`: it may ask. Which port the `Host` has does not matter: it may be another's that leads here.
 */
export const make = ({ allowedHosts, allowedOrigins }: OriginOptions, { host: bound, url }: HttpAddressShape) => {
  const scheme = url.startsWith("https:") ? "https" : "http"
  const usualPort = scheme === "https" ? /:443$/ : /:80$/
  const known = new Set([...LOCAL, bound, ...allowedHosts.map(nameOf)].map((name) => name.toLowerCase()))
  const origins = new Set(allowedOrigins.map((origin) => origin.toLowerCase()))
  /** Bound to all of the machine's addresses, it is known by every number: no name can be made to be one. */
  const everyNumber = bound === "0.0.0.0" || bound === "::"

  return (headers: Readonly<Record<string, string>>): OriginProblem | undefined => {
    const host = (headers.host ?? "").toLowerCase()
    const name = nameOf(host)
    if (!known.has(name) && !(everyNumber && isIP(name) !== 0)) {
      const message = `this gateway is not known as "${name}"; use ${url}, or have the name in \`allowedHosts\``
      return { reason: "wrong-host", message }
    }
    const origin = headers.origin?.toLowerCase()
    if (origin === undefined || origins.has(origin) || origin === `${scheme}://${host.replace(usualPort, "")}`) {
      return undefined
    }
    const message = `pages of ${origin} may not ask this; have it in \`allowedOrigins\` if they may`
    return { reason: "wrong-origin", message }
  }
}
