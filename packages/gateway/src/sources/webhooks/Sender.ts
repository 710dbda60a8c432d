/** A delivery before it is signed. */
export interface UnsignedDelivery {
  readonly body: Uint8Array
  /** Told apart by it from others. */
  readonly id: string
  /** What happened, such as `push`. */
  readonly event: string
  /** Unix seconds. */
  readonly at: number
}

/** The other side of an adapter: what is sent to it, to try a webhook out. */
export interface WebhookSender {
  /** What has happened where nothing else is said. */
  readonly event: string
  /** A payload that the adapter makes an event of this kind of. */
  readonly example: (event: string) => object
  /** What goes along with a delivery, by lower-case name. Without a secret it is not signed. */
  readonly headers: (delivery: UnsignedDelivery, secret: string | undefined) => Readonly<Record<string, string>>
}
