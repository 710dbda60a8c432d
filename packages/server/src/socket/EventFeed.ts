import type { Params } from "@postilion/client/Protocol"
import type { BusEvent } from "@postilion/gateway"
import { type Connection, type Frame, frameOf, momentOf } from "./Connection.ts"

type Filter = NonNullable<Params<"events.subscribe">["filter"]>

interface Kept {
  readonly n: number
  readonly event: BusEvent
  /** Made when the first subscriber gets it. */
  frame: Frame | undefined
}

const matches = ({ agentId, types }: Filter, event: BusEvent): boolean =>
  (types === undefined || types.includes(event._tag)) &&
  (agentId === undefined || ("agentId" in event && event.agentId === agentId))

/** What happens in the gateway, for connections that subscribed: the last `most` events are kept for those who come back. */
export class EventFeed {
  private readonly kept: Array<Kept> = []
  private readonly subscribers = new Map<Connection, Filter>()
  /** Cursors of another process are another's. */
  private readonly epoch: string
  private readonly most: number
  private last = 0

  constructor(epoch: string, most: number) {
    this.epoch = epoch
    this.most = most
  }
  private cursorOf(n: number): string {
    return `${this.epoch}-${n}`
  }
  get cursor(): string {
    return this.cursorOf(this.last)
  }
  add(event: BusEvent): void {
    this.last += 1
    const entry: Kept = { n: this.last, event, frame: undefined }
    this.kept[this.last % this.most] = entry
    for (const [connection, filter] of this.subscribers) if (matches(filter, event)) this.tell(connection, entry)
  }
  subscribe(connection: Connection, { filter = {}, since }: Params<"events.subscribe">): void {
    this.subscribers.set(connection, filter)
    if (since === undefined) return
    const [epoch, position] = [since.slice(0, since.lastIndexOf("-")), Number(since.slice(since.lastIndexOf("-") + 1))]
    const from = epoch === this.epoch && position <= this.last ? position : undefined
    const first = Math.max(1, this.last - this.most + 1)
    const missed = from === undefined ? null : Math.max(0, first - 1 - from)
    if (missed !== 0) connection.say(momentOf("GAP", { missed, nextStep: "read the audit for what is not kept here" }))
    for (let n = Math.max(first, (from ?? 0) + 1); n <= this.last; n++) {
      const entry = this.kept[n % this.most]
      if (entry !== undefined && matches(filter, entry.event)) this.tell(connection, entry)
    }
  }
  unsubscribe(connection: Connection): void {
    this.subscribers.delete(connection)
  }
  private tell(connection: Connection, entry: Kept): void {
    entry.frame ??= frameOf("GATEWAY", { cursor: this.cursorOf(entry.n), event: { ...entry.event } })
    connection.tell(entry.frame)
  }
}
