import { AuditLog, GatewayError, Journal, Store, type StoreError } from "@postilion/gateway"
import type { Tx } from "@postilion/gateway/records/Journal"
import type { StoreShape } from "@postilion/gateway/records/Store"
import type { PushDeliveryRow } from "@postilion/gateway/records/Tables"
import { Effect } from "effect"
import type { Channels } from "./Channels.ts"
import { type PushRecords, storage } from "./PushRecords.ts"
import { keyOf } from "./Subscription.ts"

/** A message that a subscriber was told in vain. */
export interface DeadLetter {
  readonly id: string
  readonly channel: string
  /** Whose subscription, and what it is called. */
  readonly principal: string
  readonly subscription: string
  readonly cursor: number
  readonly attempts: number
  readonly error: string | null
  readonly diedAt: Date
  /** The message's own id, its publisher, and what it says. */
  readonly message: { readonly id: string; readonly from: string; readonly at: Date; readonly data: unknown } | null
}

export interface DeadLetterFilter {
  /** Default: of every channel. */
  readonly channel?: string | undefined
  /** Only those that died after the one of this id. */
  readonly after?: string | undefined
  /** Default: 100. */
  readonly limit?: number | undefined
}

const LISTED = 100

const shown = (store: StoreShape, row: PushDeliveryRow) =>
  Effect.map(
    store.find("push_messages", { where: { channel: row.channel, seq: row.seq } }),
    ([message]): DeadLetter => ({
      id: row.id ?? "",
      channel: row.channel,
      principal: row.principal,
      subscription: row.name,
      cursor: row.seq,
      attempts: row.attempt,
      error: row.error,
      diedAt: new Date(row.died_at ?? 0),
      message:
        message === undefined
          ? null
          : { id: message.id, from: message.sender, at: new Date(message.at), data: JSON.parse(message.data) }
    })
  )

/** In the order they died. */
export const listed = (
  store: StoreShape,
  { after, channel, limit = LISTED }: DeadLetterFilter
): Effect.Effect<ReadonlyArray<DeadLetter>, StoreError> =>
  store
    .find("push_deliveries", {
      where: { state: "dead", channel, id: after === undefined ? undefined : { gt: after } },
      orderBy: ["id", "asc"],
      limit
    })
    .pipe(Effect.flatMap((rows) => Effect.forEach(rows, (row) => shown(store, row))))

/** What subscribers were told in vain, for a person to look at. */
export const make = (channels: Channels, records: PushRecords) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const audit = yield* AuditLog

    const find = (id: string) =>
      Effect.flatMap(Effect.mapError(store.find("push_deliveries", { where: { id } }), storage), ([row]) =>
        row === undefined
          ? new GatewayError({ reason: "not-found", message: `there is no dead letter "${id}"` })
          : Effect.succeed(row)
      )
    const change = (
      id: string,
      by: string,
      verb: "replayed" | "dropped",
      apply: (row: PushDeliveryRow, tx: Tx) => string | undefined
    ) =>
      Effect.gen(function* () {
        const row = yield* find(id)
        const refused = yield* journal.step((tx) => {
          if (row.state !== "dead" || !records.isDead(id)) return `dead letter "${id}" is being told again`
          const problem = apply(row, tx)
          if (problem !== undefined) return problem
          const about = { channel: row.channel, principal: row.principal, subscription: row.name, cursor: row.seq }
          const { channel, name, principal, seq } = row
          const key = { channel, principal, name, seq }
          if (verb === "dropped") tx.write({ op: "delete", table: "push_deliveries", where: key })
          else
            tx.write({
              op: "update",
              table: "push_deliveries",
              key,
              set: { state: "replayed", attempt: 0, due_at: tx.now }
            })
          records.buried(id)
          audit.append(tx, { kind: `push.${verb}`, data: { id, ...about, by } })
          const _tag = verb === "dropped" ? "PushMessageDropped" : "PushMessageReplayed"
          tx.publish({ _tag, at: tx.now, deadLetterId: id, ...about, by })
          return undefined
        })
        if (refused !== undefined) return yield* new GatewayError({ reason: "conflict", message: refused })
        return { id }
      })

    return {
      list: (filter: DeadLetterFilter) => Effect.mapError(listed(store, filter), storage),
      /** Has it told again, with all its attempts. `not-found`: there is none; `conflict`: it is, or nobody could be told. */
      replay: (id: string, by: string) =>
        change(id, by, "replayed", (row, tx) => {
          const subscription = channels.find(row.channel)?.subscriptions.get(keyOf(row))
          if (subscription === undefined) return `the subscription "${row.name}" of ${row.principal} is gone`
          subscription.retries.set(row.seq, { attempt: 0, dueAt: 0, letter: id })
          subscription.rows.add(row.seq)
          tx.onCommit(() => subscription.hearer?.wake())
          return undefined
        }),
      /** Gives it up. Fails as `replay` does. */
      drop: (id: string, by: string) => change(id, by, "dropped", () => undefined)
    }
  })
export type DeadLetters = Effect.Effect.Success<ReturnType<typeof make>>
