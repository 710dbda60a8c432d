import { WebSocket } from "ws"

// A process of its own, so that what is counted in the server's is its end of each connection and nothing else. Opens sockets when
// told to, says what it is to say over each, and tells when all of them have been answered; they close with the process.

export interface Opening {
  readonly url: string
  readonly hello: string | undefined
  readonly count: number
}

/** Sockets being opened at a time. */
const AT_ONCE = 50

const open = (url: string, hello: string | undefined): Promise<WebSocket> =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(url)
    socket.on("error", reject)
    socket.once("open", () => {
      if (hello === undefined) return resolve(socket)
      socket.once("message", () => resolve(socket))
      socket.send(hello)
    })
  })

const sockets: Array<WebSocket> = []

process.on("message", async ({ count, hello, url }: Opening) => {
  let left = count
  const opening = async (): Promise<void> => {
    while (left > 0) {
      left -= 1
      sockets.push(await open(url, hello))
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, opening))
  process.send?.(sockets.length)
})
