import { Chunk, Context, Effect, Layer, Runtime, type Scope, Stream } from "effect"
import type { BusEvent, BusTag, Lagged } from "../domain/BusEvent.ts"

export interface EventBusShape {
  /** Tells every subscriber. Never fails and never waits for one. */
  readonly publish: (event: BusEvent) => Effect.Effect<void>
  /** `publish` for plain code that runs between two steps of the journal. */
  readonly unsafePublish: (event: BusEvent) => void
  /**
   * The events of these tags (none given: all) from now until the scope closes. At most `capacity` (default 1,024) wait
   * for a slow subscriber; past that the oldest are dropped and a `Lagged` stands in their place.
   */
  readonly subscribe: <Tag extends BusTag = BusTag>(
    tags?: Tag | ReadonlyArray<Tag>,
    options?: { readonly capacity?: number }
  ) => Effect.Effect<Stream.Stream<Extract<BusEvent, { _tag: Tag }> | Lagged>, never, Scope.Scope>
  /** Calls `listener` in the publisher's own step, until the scope closes. For quick folds; what it throws is logged. */
  readonly listen: (listener: (event: BusEvent) => void) => Effect.Effect<void, never, Scope.Scope>
}

/** Tells what happened, after it was committed. */
export class EventBus extends Context.Tag("@postilion/gateway/EventBus")<EventBus, EventBusShape>() {}

const DEFAULT_CAPACITY = 1_024

/** A bounded buffer between publishers, who never wait, and one reader, who does. */
class Subscription {
  private readonly buffer: Array<BusEvent> = []
  private missed = 0
  private wake: (() => void) | undefined
  private readonly capacity: number

  constructor(capacity: number) {
    this.capacity = capacity
  }
  offer(event: BusEvent): void {
    if (this.buffer.length >= this.capacity) {
      this.buffer.shift()
      this.missed += 1
    }
    this.buffer.push(event)
    this.wake?.()
  }
  private drain(): Chunk.Chunk<BusEvent | Lagged> {
    const events: Array<BusEvent | Lagged> = this.buffer.splice(0)
    if (this.missed > 0) {
      events.unshift({ _tag: "Lagged", missed: this.missed })
      this.missed = 0
    }
    return Chunk.unsafeFromArray(events)
  }
  readonly take: Effect.Effect<Chunk.Chunk<BusEvent | Lagged>> = Effect.async<void>((resume) => {
    if (this.buffer.length > 0) return resume(Effect.void)
    this.wake = () => {
      this.wake = undefined
      resume(Effect.void)
    }
    return Effect.sync(() => {
      this.wake = undefined
    })
  }).pipe(Effect.map(() => this.drain()))
}

export const make: Effect.Effect<EventBusShape> = Effect.gen(function* () {
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())
  const listeners = new Set<(event: BusEvent) => void>()

  const unsafePublish = (event: BusEvent): void => {
    for (const listener of listeners) {
      try {
        listener(event)
      } catch (cause) {
        runFork(Effect.logError(`a listener of ${event._tag} threw`, cause))
      }
    }
  }
  const listen: EventBusShape["listen"] = (listener) =>
    Effect.acquireRelease(
      Effect.sync(() => void listeners.add(listener)),
      () => Effect.sync(() => void listeners.delete(listener))
    )
  return {
    unsafePublish,
    publish: (event) => Effect.sync(() => unsafePublish(event)),
    listen,
    subscribe: <Tag extends BusTag>(tags?: Tag | ReadonlyArray<Tag>, options?: { readonly capacity?: number }) =>
      Effect.gen(function* () {
        const wanted = tags === undefined ? undefined : new Set<BusTag>(Array.isArray(tags) ? tags : [tags as Tag])
        const subscription = new Subscription(options?.capacity ?? DEFAULT_CAPACITY)
        yield* listen((event) => {
          if (wanted === undefined || wanted.has(event._tag)) subscription.offer(event)
        })
        return Stream.repeatEffectChunk(subscription.take) as Stream.Stream<Extract<BusEvent, { _tag: Tag }> | Lagged>
      })
  }
})

export const layer: Layer.Layer<EventBus> = Layer.effect(EventBus, make)
