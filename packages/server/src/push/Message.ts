import { type Frame, frameWith } from "../socket/Connection.ts"

interface Fields {
  readonly channel: string
  /** Its place in the channel; 0 where nothing is kept. */
  readonly seq: number
  readonly id: string
  readonly sender: string
  /** Unix milliseconds. */
  readonly at: number
  /** JSON. */
  readonly data: string
}

/** What was published in a channel. Who is told it the first time is told the same frame, which is made once. */
export class Message {
  readonly fields: Fields
  private first: Frame | undefined

  constructor(fields: Fields) {
    this.fields = fields
  }
  get seq(): number {
    return this.fields.seq
  }
  /** What stands for it in memory, about. */
  get bytes(): number {
    return this.fields.data.length + 500
  }
  frame(attempt: number): Frame {
    if (attempt > 1) return this.encode(attempt)
    this.first ??= this.encode(1)
    return this.first
  }
  /** As it is read over HTTP, and from the history. */
  shown(): { channel: string; cursor: number; id: string; from: string; at: string; data: unknown } {
    return { ...this.head(), data: JSON.parse(this.fields.data) }
  }
  private head() {
    const { at, channel, id, sender, seq } = this.fields
    return { channel, cursor: seq, id, from: sender, at: new Date(at).toISOString() }
  }
  private encode(attempt: number): Frame {
    // As it was stored: to read it, only to write it again, would cost more than all the rest.
    return frameWith("PUSH", { ...this.head(), attempt }, `"data":${this.fields.data}`)
  }
}

/** Bytes of messages that are remembered, over all channels. */
const MOST_BYTES = 16 * 1_048_576

/** The last messages there were: whoever is told what has just been published is told it from here. */
export class Recent {
  private readonly messages = new Map<string, Message>()
  private bytes = 0

  private keyOf(channel: string, seq: number): string {
    return `${channel}\n${seq}`
  }
  get(channel: string, seq: number): Message | undefined {
    return this.messages.get(this.keyOf(channel, seq))
  }
  add(message: Message): void {
    const key = this.keyOf(message.fields.channel, message.seq)
    if (this.messages.has(key)) return
    this.messages.set(key, message)
    this.bytes += message.bytes
    for (const [oldest, { bytes }] of this.messages) {
      if (this.bytes <= MOST_BYTES) break
      this.messages.delete(oldest)
      this.bytes -= bytes
    }
  }
}
