import { connect, createServer, type Socket } from "node:net"
import { Effect } from "effect"

/** Between a client and the server: what goes through it can be cut, or swallowed. */
export interface Cable {
  readonly port: number
  /** Where it leads. */
  readonly plug: (port: number) => void
  /** Breaks every connection there is. With `down`, none is made until it is up again. */
  readonly cut: (down?: boolean) => void
  readonly up: () => void
  /** Bytes still leave, in both directions, and none arrives. */
  readonly swallow: () => void
}

export const cable = Effect.acquireRelease(
  Effect.async<Cable & { readonly close: () => void }>((resume) => {
    const sockets = new Set<Socket>()
    let target = 0
    let down = false
    let swallowed = new WeakSet<Socket>()
    const join = (from: Socket, to: Socket): void => {
      sockets.add(from)
      from.on("data", (bytes) => {
        if (!swallowed.has(from)) to.write(bytes)
      })
      from.on("error", () => {})
      from.on("close", () => {
        sockets.delete(from)
        if (!swallowed.has(from)) to.destroy()
      })
    }
    const server = createServer((near) => {
      if (down) {
        near.destroy()
        return
      }
      const far = connect(target, "127.0.0.1")
      join(near, far)
      join(far, near)
    })
    const cut = (stay = false): void => {
      down = stay
      for (const socket of sockets) socket.destroy()
    }
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      resume(
        Effect.succeed({
          port: typeof address === "object" && address !== null ? address.port : 0,
          plug: (port) => {
            target = port
          },
          cut,
          up: () => {
            down = false
          },
          swallow: () => {
            swallowed = new WeakSet(sockets)
          },
          close: () => {
            cut()
            server.close()
          }
        })
      )
    })
  }),
  ({ close }) => Effect.sync(close)
)
