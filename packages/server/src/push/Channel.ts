import type { Message } from "./Message.ts"
import { Presence } from "./Presence.ts"
import type { PushChannelConfig } from "./PushConfig.ts"
import type { Subscription } from "./Subscription.ts"

/** What is missing: up to `cursor`, it is not kept any more. */
export interface Gap {
  /** How many messages; null: nobody knows. */
  readonly missed: number | null
  readonly cursor: number
}

/** Whoever is told messages: a connection, or a request that waits. */
export interface Receiver {
  /** Whether it can take more now. */
  readonly ready: boolean
  /** Whether it is not there, and may come back: what it was told is not late meanwhile. */
  readonly away: boolean
  readonly message: (message: Message, attempt: number) => void
  readonly gap: (gap: Gap) => void
  /** Another has its subscription now. */
  readonly replaced: () => void
}

/** One way of hearing a channel. */
export interface Hearer {
  readonly published: (message: Message) => void
  /** There may be more it can be told now. */
  readonly wake: () => void
}

/** A channel that is in use. */
export class Channel {
  readonly name: string
  readonly settings: PushChannelConfig
  /** Of the last message. */
  last: number
  /** Of the first that is kept: one more than `last` when none is. */
  first: number
  /** Before it, nothing is left in the records but what dead letters are about. */
  swept = 0
  /** Whether it is in the records. */
  stored = false
  readonly hearers = new Set<Hearer>()
  readonly presence: Presence
  /** Durable ones, by `Subscription.key`; most have nobody that hears by them. */
  readonly subscriptions = new Map<string, Subscription>()

  constructor(name: string, settings: PushChannelConfig, last: number) {
    this.name = name
    this.settings = settings
    this.last = last
    this.first = last + 1
    this.presence = new Presence(name)
  }
  get keeps(): boolean {
    return this.settings.guarantee === "at-least-once"
  }
  /** Nothing would be missed without it. */
  get idle(): boolean {
    return this.first > this.last && this.hearers.size === 0 && this.subscriptions.size === 0
  }
}
