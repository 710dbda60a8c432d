import { createHmac } from "node:crypto"
import { connect } from "node:net"

// A process of its own, so that what sends does not take the server's time: told how many senders there are and how much they
// send, it says how long that took. Plain sockets: an HTTP client would be slower than the server that is measured.

export interface Task {
  readonly port: number
  readonly senders: number
  readonly requests: number
  /** Delivery ids begin with it: no two tasks send the same one. */
  readonly prefix: string
  readonly secret: string
}
/** Nanoseconds, and how long each request waited for its answer. */
export interface Took {
  readonly nanos: number
  readonly p99Nanos: number
}

/** A comment as GitHub tells of it, 850 bytes. */
const body = JSON.stringify({
  action: "created",
  issue: { number: 7, title: "The disk is full", user: { login: "octocat", id: 1 } },
  comment: { body: "x".repeat(640), user: { login: "octocat", id: 1 } },
  repository: { full_name: "octo/hello", private: false, stars: 42 }
})

const run = ({ port, prefix, requests, secret, senders }: Task): Promise<Took> =>
  new Promise((resolve, reject) => {
    const signature = createHmac("sha256", secret).update(body).digest("hex")
    const head = `POST /webhooks/github HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nuser-agent: GitHub-Hookshot/bench\r\naccept: */*\r\nx-github-event: issue_comment\r\nx-github-hook-id: 1\r\nx-hub-signature-256: sha256=${signature}\r\nx-github-delivery: ${prefix}-`
    const waits: Array<number> = []
    let sent = 0
    let answered = 0
    let ready = 0
    let began = 0n
    const start = (): void => {
      began = process.hrtime.bigint()
      for (const send of begin) send()
    }
    const begin: Array<() => void> = []
    for (let n = 0; n < senders; n++) {
      const socket = connect(port, "127.0.0.1")
      let since = 0n
      let text = ""
      const send = (): void => {
        if (sent === requests) return
        sent += 1
        since = process.hrtime.bigint()
        socket.write(`${head}${sent}\r\n\r\n${body}`)
      }
      begin.push(send)
      socket.setNoDelay(true)
      socket.on("error", reject)
      socket.on("connect", () => {
        ready += 1
        if (ready === senders) start()
      })
      socket.on("data", (chunk) => {
        text += chunk.toString("latin1")
        const end = text.indexOf("\r\n\r\n")
        const length = Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1])
        if (end === -1 || text.length < end + 4 + length) return
        if (!text.startsWith("HTTP/1.1 202")) reject(new Error(text))
        text = ""
        const now = process.hrtime.bigint()
        waits.push(Number(now - since))
        answered += 1
        if (answered < requests) return send()
        waits.sort((a, b) => a - b)
        resolve({ nanos: Number(now - began), p99Nanos: waits[Math.floor(waits.length * 0.99)] ?? 0 })
      })
    }
  })

process.on("message", (task: Task) => {
  run(task).then(
    (took) => process.send?.(took),
    (error) => {
      console.error(error)
      process.exit(1)
    }
  )
})
