import type { PushChannelRow } from "@postilion/gateway/records/Tables"
import { Channel } from "./Channel.ts"
import { type PushConfig, settingsOf } from "./PushConfig.ts"

/** In the records, where the numbers of new channels begin: after those of all that are forgotten. No channel is called so. */
export const FLOOR = "*"

/** The channels that are in use, or keep something. */
export class Channels {
  private readonly channels = new Map<string, Channel>()
  private readonly settingsOf: (name: string) => Channel["settings"]
  private readonly config: PushConfig
  /** Of those that were forgotten, what is left in the records of who was there. */
  private gone = new Set<string>()
  /** The highest number of a channel that is forgotten: a cursor of it is never taken for one of its successor. */
  floor = 0

  constructor(config: PushConfig) {
    this.config = config
    this.settingsOf = settingsOf(config)
  }
  get size(): number {
    return this.channels.size
  }
  values(): Iterable<Channel> {
    return this.channels.values()
  }
  settings(name: string): Channel["settings"] {
    return this.channels.get(name)?.settings ?? this.settingsOf(name)
  }
  find(name: string): Channel | undefined {
    return this.channels.get(name)
  }
  /** The channel, made if there is none. `undefined`: there are as many as may be. */
  open(name: string): Channel | undefined {
    const known = this.channels.get(name)
    if (known !== undefined) return known
    if (this.channels.size >= this.config.maxChannels) {
      const idle = [...this.channels.values()].find((channel) => channel.idle && !channel.stored)
      if (idle === undefined) return undefined
      this.channels.delete(idle.name)
      this.gone.add(idle.name)
    }
    return this.add(name)
  }
  /** One that is in the records: there is always room. */
  stored(name: string): Channel {
    const channel = this.channels.get(name) ?? this.add(name)
    channel.stored = true
    return channel
  }
  /** Takes what the records have. A channel that is not in them has nothing kept. */
  load(rows: ReadonlyArray<PushChannelRow>): void {
    this.floor = rows.find(({ name }) => name === FLOOR)?.last_seq ?? 0
    for (const channel of this.channels.values()) {
      channel.last = this.floor
      channel.first = this.floor + 1
    }
    for (const { first_seq, last_seq, name } of rows) {
      if (name === FLOOR) continue
      const channel = this.stored(name)
      channel.last = last_seq
      channel.first = Math.max(first_seq, last_seq - channel.settings.backlog.maxMessages + 1)
    }
  }
  /** Within a step: it is forgotten. */
  drop(channel: Channel): void {
    this.channels.delete(channel.name)
    this.gone.add(channel.name)
    this.floor = Math.max(this.floor, channel.last)
  }
  /** The names of those that were forgotten since this was last asked. */
  takeGone(): ReadonlyArray<string> {
    const names = [...this.gone]
    this.gone = new Set()
    return names
  }
  /** Those could not be seen to. */
  giveBackGone(names: ReadonlyArray<string>): void {
    for (const name of names) this.gone.add(name)
  }
  private add(name: string): Channel {
    const channel = new Channel(name, this.settingsOf(name), this.floor)
    this.channels.set(name, channel)
    return channel
  }
}
