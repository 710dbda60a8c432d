import { Cause, Clock, Context, Effect, Exit, FiberSet, Layer, Random, Schedule } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import type { Delivery, DeliveryCounts, DeliveryState } from "../domain/Delivery.ts"
import { ChannelSendError, GatewayError } from "../domain/Errors.ts"
import { ALL_AGENTS } from "../domain/Switch.ts"
import * as Alarm from "../internal/Alarm.ts"
import * as KeyedLock from "../internal/KeyedLock.ts"
import { supervise } from "../internal/Supervisor.ts"
import { toDelivery } from "../records/EventCodec.ts"
import type { Tx } from "../records/Journal.ts"
import { Store, type StoreError } from "../records/Store.ts"
import type { DeliveryRow } from "../records/Tables.ts"
import { type Channel, channelsOf, type OutboundMessage } from "./Channel.ts"
import { CrashLoop } from "./CrashLoop.ts"
import { type Lane, Lanes, laneKey } from "./DeliveryLanes.ts"
import { make as makeSteps, type Outgoing } from "./DeliverySteps.ts"
import { MOST_ASKED, verdictOf } from "./DeliveryVerdict.ts"
import { KillSwitch } from "./KillSwitch.ts"

export interface DeliveryFilter {
  /** Default: every state. */
  readonly state?: DeliveryState | undefined
  /** Only deliveries after this `seq`. */
  readonly after?: number | undefined
  /** Default: 1,000. */
  readonly limit?: number | undefined
}

export interface OutboxShape {
  /** Names of the channels there are. */
  readonly channels: ReadonlySet<string>
  /** Keeps what a run left to be said within the step that ends the run, and sends it once that is committed. */
  readonly prepare: (tx: Tx, outgoing: Outgoing) => void
  /** In the order they were prepared. */
  readonly list: (filter?: DeliveryFilter) => Effect.Effect<ReadonlyArray<Delivery>, GatewayError>
  /**
   * Has what failed, is unknown or was dropped tried again, with all its attempts; what waits for its time, now. Fails when
   * there is none of this id (`not-found`) or it was sent (`conflict`). Waits while its target is being sent something.
   */
  readonly replay: (id: string, by: string) => Effect.Effect<Delivery, GatewayError>
  /** Gives up what was not sent or may have been; the same again is fine. Fails as `replay` does. */
  readonly drop: (id: string, by: string) => Effect.Effect<Delivery, GatewayError>
  readonly counts: () => DeliveryCounts
  /**
   * Says what is unknown of what an earlier process was sending, and begins to send. Before it, deliveries are only kept.
   */
  readonly resume: Effect.Effect<void, StoreError | GatewayError>
  /** Sends nothing more, and waits for what is being sent. The rest stays recorded for the next start. */
  readonly drain: Effect.Effect<void>
}

/**
 * What goes out. An answer is kept with the end of its run and goes to the event's own route; each target has one message
 * at a time, in order. What may have been sent is not sent again, unless its channel deduplicates.
 */
export class Outbox extends Context.Tag("@postilion/gateway/Outbox")<Outbox, OutboxShape>() {}

export interface OutboxOptions {
  /** Default: none. */
  readonly channels?: ReadonlyArray<Channel> | undefined
  /** Targets that are remembered to have something to do; others are found again in the records. Default: 10,000. */
  readonly maxLanes?: number
}

const PAGE = 200
const LISTED = 1_000
const RETRY = 1_000
/** The alarm's key for another look through the records; no lane's key is so short. */
const SWEEP = ""

const storage = (cause: StoreError) => new GatewayError({ reason: "storage", message: cause.message, cause })

const toMessage = (row: DeliveryRow): OutboundMessage => ({
  key: row.id,
  seq: row.seq,
  target: row.target,
  text: row.text,
  outcome: row.outcome,
  agentId: row.agent_id,
  eventId: row.event_id,
  runId: row.run_id,
  preparedAt: new Date(row.created_at)
})

export const make = (config: GatewayConfig, options: OutboxOptions = {}) =>
  Effect.gen(function* () {
    const store = yield* Store
    const killSwitch = yield* KillSwitch
    const crashLoop = yield* CrashLoop
    const { deliveryTimeoutMs, maxConcurrentDeliveries, maxDeliveryAttempts: maxAttempts } = config.limits
    const channels = yield* channelsOf(config, options.channels ?? [])
    const steps = yield* makeSteps
    const lanes = new Lanes(options.maxLanes ?? 10_000)
    const exclusively = KeyedLock.make()
    const fork = yield* FiberSet.runtime(yield* FiberSet.make())<never>()
    const idle: Array<() => void> = []
    /** `before` the start, `open`, or `closing`: nothing more is begun. */
    let phase: "before" | "open" | "closing" = "before"
    /** Whether the records are to be looked through, and what wakes who does that. */
    let sweepAsked = false
    let wakeSweep = (): void => {}
    /** When the earliest of the lanes that were forgotten has something to do. */
    let sweepAt = Number.POSITIVE_INFINITY

    const isHeld = (agentId: string): boolean => {
      if (crashLoop.held() !== undefined) return true
      const mode = killSwitch.mode(agentId)
      return mode === "stopped" || mode === "terminated"
    }
    /** The agents whose deliveries may go out; `undefined`: all, also those no longer configured. */
    const free = (): { readonly in: ReadonlyArray<string> } | undefined => {
      if (isHeld(ALL_AGENTS)) return { in: [] }
      const agents = Object.keys(config.agents)
      const running = agents.filter((agentId) => !isHeld(agentId))
      return running.length === agents.length ? undefined : { in: running }
    }
    const waiting = (
      where: Partial<Pick<DeliveryRow, "channel" | "target">> & { seq?: { gt: number } },
      limit: number
    ) =>
      Effect.suspend(() => {
        const agent_id = free()
        if (agent_id?.in.length === 0) return Effect.succeed([])
        return store.find("deliveries", {
          where: { ...where, state: "prepared", agent_id },
          orderBy: ["seq", "asc"],
          limit
        })
      })

    /** What has happened must be written: tried until it is, or until the process ends and the next start finds it. */
    const untilWritten = (
      step: Effect.Effect<void, GatewayError>,
      restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
    ): Effect.Effect<void, GatewayError> =>
      Effect.catchAll(step, () => restore(Effect.retry(Effect.delay(step, RETRY), Schedule.forever)))
    const send = (channel: Channel, row: DeliveryRow) =>
      Effect.suspend(() => channel.send(toMessage(row))).pipe(
        // Left behind where it does not let itself be interrupted: a channel that hangs must not hold up its lane.
        Effect.disconnect,
        Effect.timeoutFail({
          duration: deliveryTimeoutMs,
          onTimeout: () =>
            new ChannelSendError({
              channel: channel.name,
              outcome: "unknown",
              message: `sending took longer than ${deliveryTimeoutMs} ms and was interrupted (limits.deliveryTimeoutMs)`
            })
        })
      )
    const attempt = (prepared: DeliveryRow): Effect.Effect<void, GatewayError> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          const channel = channels.get(prepared.channel)
          if (channel === undefined) {
            const error = `there is no channel "${prepared.channel}" any more; configure it, and replay this`
            return yield* untilWritten(steps.end(prepared, { state: "failed", error }), restore)
          }
          const row = yield* steps.begin(prepared)
          if (isHeld(row.agent_id)) {
            // Switched while it was being read and begun. Nothing of a stopped agent goes out once the switch is answered.
            const error = "held by the kill switch before it was sent"
            return yield* untilWritten(steps.end(row, { state: "prepared", error, delay: 0 }), restore)
          }
          const exit = yield* Effect.exit(restore(send(channel, row)))
          const jitter = yield* Random.next
          const { deduplicates } = channel
          const verdict = verdictOf(exit, { attempt: row.attempt, maxAttempts, deduplicates, jitter })
          yield* untilWritten(steps.end(row, verdict), restore)
        })
      )
    /** One lane's turn: sends the first that waits. Gives when there is more to do, if there is. */
    const turn = (lane: Lane): Effect.Effect<number | undefined> =>
      Effect.gen(function* () {
        const [first] = yield* waiting({ channel: lane.channel, target: lane.target }, 1)
        const now = yield* Clock.currentTimeMillis
        if (first === undefined) return undefined
        // Nothing is put off for longer than a channel may ask: what lies further ahead was, before the clock was set back.
        if (first.due_at > now && first.due_at <= now + MOST_ASKED) return first.due_at
        yield* attempt(first)
        return now
      }).pipe(
        (one) => exclusively(lane.key, one),
        Effect.catchAllCause((cause) =>
          Cause.isInterrupted(cause)
            ? Effect.interrupt
            : Effect.zipRight(
                Effect.logWarning(`what waits for ${lane.key} could not be read or begun; trying again`, cause),
                Effect.map(Clock.currentTimeMillis, (now) => now + RETRY)
              )
        )
      )

    const pump = (): void => {
      while (phase === "open" && lanes.active < maxConcurrentDeliveries) {
        const lane = lanes.take()
        if (lane === undefined) break
        fork(
          Effect.onExit(turn(lane), (exit) =>
            Effect.map(Clock.currentTimeMillis, (now) => release(lane, Exit.isSuccess(exit) ? exit.value : now, now))
          )
        )
      }
      wakeSweep()
    }
    const release = (lane: Lane, dueAt: number | undefined, now: number): void => {
      if (lane.again || (dueAt !== undefined && dueAt <= now)) lanes.enter(lane)
      else if (dueAt === undefined) lanes.forget(lane)
      else if (lanes.wait(lane)) alarm.set(lane.key, dueAt)
      else if (dueAt < sweepAt) {
        sweepAt = dueAt
        alarm.set(SWEEP, dueAt)
      }
      pump()
      if (lanes.active === 0) for (const resume of idle.splice(0)) resume()
    }
    const sweepSoon = (): void => {
      sweepAsked = true
      wakeSweep()
    }
    const alarm = yield* Alarm.make(
      "outbox",
      (keys) =>
        Effect.sync(() => {
          for (const key of keys) {
            if (key !== SWEEP) lanes.resume(key)
            else {
              sweepAt = Number.POSITIVE_INFINITY
              sweepSoon()
            }
          }
          pump()
        }),
      undefined,
      Effect.sync(() => {
        lanes.resumeAll()
        sweepSoon()
        pump()
      })
    )
    const until = (isSo: () => boolean) =>
      Effect.async<void>((resume) => {
        wakeSweep = () => {
          if (!isSo()) return
          wakeSweep = () => {}
          resume(Effect.void)
        }
        wakeSweep()
      })
    /** Looks through everything that waits, a page at a time, and gives each target a turn. */
    const sweep = Effect.gen(function* () {
      sweepAsked = false
      for (let after = 0, more = true; more; ) {
        const rows = yield* waiting({ seq: { gt: after } }, PAGE)
        const targets = new Map(rows.map((row) => [laneKey(row), row]))
        for (const row of targets.values()) {
          while (!lanes.wake(row)) yield* until(() => lanes.hasRoom)
          pump()
        }
        after = rows.at(-1)?.seq ?? after
        more = rows.length === PAGE
      }
    }).pipe(
      Effect.catchAll((error) => {
        sweepAsked = true
        return Effect.zipRight(Effect.logWarning("what waits to be sent could not be read", error), Effect.sleep(RETRY))
      })
    )
    yield* supervise(
      "outbox sweep",
      Effect.forever(
        Effect.zipRight(
          until(() => sweepAsked && phase === "open"),
          sweep
        )
      )
    )
    const wake = (row: DeliveryRow): void => {
      if (phase !== "open") return
      if (!lanes.wake(row)) sweepSoon()
      pump()
    }
    yield* killSwitch.onChange(sweepSoon)
    yield* crashLoop.onRelease(sweepSoon)
    // Before the fibers are interrupted: what ends then begins nothing.
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        phase = "closing"
      })
    )

    const read = (id: string) =>
      Effect.flatMap(Effect.mapError(store.find("deliveries", { where: { id } }), storage), ([row]) =>
        row === undefined
          ? new GatewayError({ reason: "not-found", message: `there is no delivery "${id}"` })
          : Effect.succeed(row)
      )
    /** A person's word on a delivery, between two attempts of its target. */
    const change = (
      id: string,
      verb: string,
      apply: (row: DeliveryRow) => Effect.Effect<DeliveryRow, GatewayError>
    ): Effect.Effect<Delivery, GatewayError> =>
      Effect.gen(function* () {
        const { channel, target } = yield* read(id)
        const changed = Effect.gen(function* () {
          const row = yield* read(id)
          if (row.state !== "sent" && row.state !== "sending") return yield* apply(row)
          const message = `delivery "${id}" ${row.state === "sent" ? "was sent" : "is being sent"} and cannot be ${verb}`
          return yield* new GatewayError({ reason: "conflict", message })
        })
        const row = yield* exclusively(laneKey({ channel, target }), changed)
        const key = laneKey(row)
        alarm.clear(key)
        lanes.resume(key)
        wake(row)
        return toDelivery(row)
      })

    return Outbox.of({
      channels: new Set(channels.keys()),
      prepare: (tx, outgoing) => {
        const row = steps.prepare(tx, outgoing)
        if (row !== undefined) tx.onCommit(() => wake(row))
      },
      list: ({ after, limit, state } = {}) =>
        store
          .find("deliveries", {
            where: { state, seq: { gt: after ?? 0 } },
            orderBy: ["seq", "asc"],
            limit: limit ?? LISTED
          })
          .pipe(
            Effect.map((rows) => rows.map(toDelivery)),
            Effect.mapError(storage)
          ),
      replay: (id, by) => change(id, "replayed", (row) => steps.replay(row, by)),
      drop: (id, by) =>
        change(id, "dropped", (row) => (row.state === "dropped" ? Effect.succeed(row) : steps.drop(row, by))),
      counts: steps.counts,
      resume: Effect.gen(function* () {
        const cutOff = yield* store.find("deliveries", { where: { state: "sending" }, orderBy: ["seq", "asc"] })
        const error = "the process ended while it was being sent"
        yield* steps.recover(cutOff, ({ attempt, channel }) => {
          const again = channels.get(channel)?.deduplicates === true && attempt < maxAttempts
          return again ? { state: "prepared", error, delay: 0 } : { state: "unknown", error }
        })
        phase = "open"
        sweepSoon()
      }),
      drain: Effect.async<void>((resume) => {
        phase = "closing"
        if (lanes.active === 0) resume(Effect.void)
        else idle.push(() => resume(Effect.void))
      })
    })
  })

export const layer = (config: GatewayConfig, options?: OutboxOptions) => Layer.scoped(Outbox, make(config, options))
