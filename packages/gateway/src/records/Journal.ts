import { Cause, Context, Effect, Exit, Layer, Schedule, type Scope } from "effect"
import type { BusEvent } from "../domain/BusEvent.ts"
import { GatewayError } from "../domain/Errors.ts"
import { nextTurn } from "../internal/NextTurn.ts"
import { supervise } from "../internal/Supervisor.ts"
import { EventBus } from "./EventBus.ts"
import { Store, type StoreError, type Write } from "./Store.ts"

/** What a step may do. Everything in it happens with the step's commit, or not at all. */
export interface Tx {
  /** When the step runs, Unix milliseconds. */
  readonly now: number
  /** Id of the event that holds the step's `dedupeKey`, committed or earlier in this batch. */
  readonly duplicateOf: string | undefined
  readonly write: (write: Write) => void
  /** Publishes on the bus after the commit. */
  readonly publish: (event: BusEvent) => void
  /** Runs after the commit, before the step's caller goes on. What it throws is logged. */
  readonly onCommit: (action: () => void) => void
  /** Has all state loaded again after the commit, before another step runs: what it is made by has changed. */
  readonly reload: () => void
}

export interface StepOptions {
  /** An event id is looked up under this key before the step runs. */
  readonly dedupeKey?: string | undefined
  /** Refuse with `overloaded` when the inbox is full. For what comes from outside; what the gateway owes is never refused. */
  readonly sheddable?: boolean
}

export interface JournalOptions {
  /** Steps that may wait before sheddable ones are refused. Default: 10,000. */
  readonly maxInbox?: number
  /** Most steps in one transaction. Default: 1,000. */
  readonly maxBatch?: number
}

/** Since when no commit has succeeded. */
export interface Failing {
  /** Unix milliseconds of the first commit that failed. */
  readonly since: number
  /** Batches withdrawn since then. */
  readonly batches: number
  /** What the store said last. */
  readonly message: string
}

export interface JournalShape {
  /**
   * Runs `run` and commits what it writes, together with the steps of other fibers. Steps run one at a time, in the
   * order they came, each seeing what the ones before it decided. Succeeds once the commit is on disk. Fails with a
   * `GatewayError` (`storage`) when the commit failed: then nothing of the whole batch has happened, and all state has
   * been loaded again.
   */
  readonly step: <A>(run: (tx: Tx) => A, options?: StepOptions) => Effect.Effect<A, GatewayError>
  /** `step` for plain code, which is told by `done` and costs no fiber. What `done` throws is logged. */
  readonly unsafeStep: <A>(
    run: (tx: Tx) => A,
    done: (exit: Exit.Exit<A, GatewayError>) => void,
    options?: StepOptions
  ) => void
  /** Loads state now, and again whenever a batch had to be withdrawn. Loads run in the order of registration. */
  readonly register: (load: Effect.Effect<void, StoreError>) => Effect.Effect<void, StoreError, Scope.Scope>
  /** How commits fail, from the first that did until one succeeds; `undefined` while they do not. */
  readonly failing: () => Failing | undefined
  /** Waits for a batch to be withdrawn. */
  readonly withdrawn: Effect.Effect<void>
}

/** The one writer: turns steps into transactions. */
export class Journal extends Context.Tag("@postilion/gateway/Journal")<Journal, JournalShape>() {}

interface Pending {
  readonly run: (tx: Tx) => unknown
  readonly dedupeKey: string | undefined
  readonly done: (exit: Exit.Exit<unknown, GatewayError>) => void
}

/** The one `Tx` of a batch, handed to its steps in turn. */
class BatchTx implements Tx {
  now = 0
  duplicateOf: string | undefined
  readonly writes: Array<Write> = []
  readonly events: Array<BusEvent> = []
  readonly actions: Array<() => void> = []
  reloads = false
  private readonly holders: Map<string, string>

  constructor(holders: Map<string, string>) {
    this.holders = holders
  }
  begin(now: number, dedupeKey: string | undefined): readonly [number, number, number] {
    this.now = now
    this.duplicateOf = dedupeKey === undefined ? undefined : this.holders.get(dedupeKey)
    return [this.writes.length, this.events.length, this.actions.length]
  }
  revert([writes, events, actions]: readonly [number, number, number]): void {
    for (const write of this.writes.splice(writes)) {
      if (write.table === "events" && write.op === "insert") this.holders.delete(write.row.dedupe_key ?? "")
    }
    this.events.length = events
    this.actions.length = actions
  }
  write(write: Write): void {
    this.writes.push(write)
    if (write.table === "events" && write.op === "insert" && write.row.dedupe_key !== null) {
      this.holders.set(write.row.dedupe_key, write.row.id)
    }
  }
  publish(event: BusEvent): void {
    this.events.push(event)
  }
  onCommit(action: () => void): void {
    this.actions.push(action)
  }
  reload(): void {
    this.reloads = true
  }
}

/** What came of a batch's steps. */
interface Ran {
  readonly tx: BatchTx
  readonly exits: ReadonlyArray<Exit.Exit<unknown, GatewayError>>
  /** Whether one of them threw: those after it have not run. */
  readonly broken: boolean
}

const hasClosed = () =>
  Exit.fail(new GatewayError({ reason: "draining", message: "the gateway has closed; nothing was recorded" }))

export const make = (options: JournalOptions = {}) =>
  Effect.gen(function* () {
    const store = yield* Store
    const bus = yield* EventBus
    const maxInbox = options.maxInbox ?? 10_000
    const maxBatch = options.maxBatch ?? 1_000
    const clock = yield* Effect.clock
    let inbox: Array<Pending> = []
    let wake: (() => void) | undefined
    let closed = false
    const loads: Array<Effect.Effect<void, StoreError>> = []
    let failing: Failing | undefined
    const watchers = new Set<() => void>()

    const unsafeStep: JournalShape["unsafeStep"] = (run, done, options) => {
      if (closed) {
        done(hasClosed())
        return
      }
      if (options?.sheddable === true && inbox.length >= maxInbox) {
        const message = `the gateway is busy: ${inbox.length} steps wait to be written; try again in a second`
        done(Exit.fail(new GatewayError({ reason: "overloaded", message })))
        return
      }
      inbox.push({ run, dedupeKey: options?.dedupeKey, done: done as Pending["done"] })
      wake?.()
    }

    const work: Effect.Effect<void> = Effect.async<void>((resume) => {
      if (inbox.length > 0) return resume(Effect.void)
      wake = () => {
        wake = undefined
        resume(Effect.void)
      }
      return Effect.sync(() => {
        wake = undefined
      })
    })

    const holdersOf = (batch: ReadonlyArray<Pending>) => {
      const keys: Array<string> = []
      for (const { dedupeKey } of batch) if (dedupeKey !== undefined) keys.push(dedupeKey)
      if (keys.length === 0) return Effect.succeed(new Map<string, string>())
      return Effect.map(
        store.find("events", { columns: ["dedupe_key", "id"], where: { dedupe_key: { in: keys } } }),
        (rows) => new Map(rows.map((row) => [row.dedupe_key as string, row.id]))
      )
    }

    /** Runs a batch's steps, up to one that throws. Plain code between two effects: this is the gateway's hot loop. */
    const runSteps = (batch: Array<Pending>, holders: Map<string, string>): Ran => {
      const tx = new BatchTx(holders)
      const exits: Array<Exit.Exit<unknown, GatewayError>> = []
      for (const { dedupeKey, run } of batch) {
        const mark = tx.begin(clock.unsafeCurrentTimeMillis(), dedupeKey)
        try {
          exits.push(Exit.succeed(run(tx)))
        } catch (defect) {
          // What the step wrote is dropped. What it may have changed in memory is loaded again before another step runs.
          tx.revert(mark)
          exits.push(Exit.die(defect))
          inbox = [...batch.splice(exits.length), ...inbox]
          return { tx, exits, broken: true }
        }
      }
      return { tx, exits, broken: false }
    }
    const commit = (ran: Ran): Effect.Effect<Ran, StoreError> =>
      ran.tx.writes.length === 0
        ? Effect.succeed(ran)
        : Effect.map(store.commit(ran.tx.writes), () => {
            failing = undefined
            return ran
          })
    /** What follows from a commit. It cannot be taken back any more, so nothing here may make a caller think that it was. */
    const conclude = (batch: ReadonlyArray<Pending>, { broken, exits, tx }: Ran): Effect.Effect<void> => {
      const defects: Array<unknown> = []
      const attempt = (action: () => void): void => {
        try {
          action()
        } catch (defect) {
          defects.push(defect)
        }
      }
      const tell = (): void => {
        for (const event of tx.events) bus.unsafePublish(event)
        for (let i = 0; i < batch.length; i++)
          attempt(() => batch[i]?.done(exits[i] as Exit.Exit<unknown, GatewayError>))
      }
      for (const action of tx.actions) attempt(action)
      if (!tx.reloads) tell()
      if (defects.length === 0 && !tx.reloads && !broken) return Effect.void
      return Effect.gen(function* () {
        if (tx.reloads) {
          yield* reload
          tell()
        }
        for (const defect of defects) yield* Effect.logError("what was to follow a commit failed", defect)
        if (broken) yield* reload
      })
    }

    const reload: Effect.Effect<void> = Effect.forEach(loads, (load) => load, { discard: true }).pipe(
      Effect.tapError((error) => Effect.logError("loading the gateway's state failed; trying again", error)),
      Effect.retry(Schedule.exponential("100 millis").pipe(Schedule.union(Schedule.spaced("5 seconds")))),
      Effect.orDie
    )

    const withdraw = (batch: ReadonlyArray<Pending>, cause: Cause.Cause<StoreError>) =>
      Effect.gen(function* () {
        yield* Effect.logError(`a batch of ${batch.length} steps was withdrawn`, cause)
        const failure = Cause.squash(cause)
        const detail = failure instanceof Error ? failure.message : String(failure)
        const since = failing?.since ?? clock.unsafeCurrentTimeMillis()
        failing = { since, batches: (failing?.batches ?? 0) + 1, message: detail }
        yield* reload
        for (const tell of [...watchers]) tell()
        const error = new GatewayError({ reason: "storage", message: `nothing was recorded: ${detail}`, cause })
        for (const { done } of batch) done(Exit.fail(error))
      })

    const takeBatch = (): Array<Pending> => {
      const batch = inbox.length <= maxBatch ? inbox : inbox.slice(0, maxBatch)
      inbox = batch === inbox ? [] : inbox.slice(maxBatch)
      return batch
    }
    const writeBatch = Effect.suspend(() => {
      const batch = takeBatch()
      return holdersOf(batch).pipe(
        Effect.flatMap((holders) => commit(runSteps(batch, holders))),
        Effect.matchCauseEffect({
          onFailure: (cause) => withdraw(batch, cause),
          onSuccess: (ran) => conclude(batch, ran)
        })
      )
    })
    // What the event loop already has at hand joins the batch; when it has nothing, the batch is written at once. No effect
    // made for one batch alone is uninterruptible: it would outlive what is young to the garbage collector, and the batch with it.
    const nextBatch = work.pipe(Effect.zipRight(nextTurn), Effect.zipRight(Effect.uninterruptible(writeBatch)))
    yield* supervise("journal", Effect.forever(nextBatch))
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        for (const { done } of inbox.splice(0)) done(hasClosed())
      })
    )

    const register: JournalShape["register"] = (load) =>
      Effect.zipRight(
        load,
        Effect.acquireRelease(
          Effect.sync(() => void loads.push(load)),
          () => Effect.sync(() => void loads.splice(loads.indexOf(load), 1))
        )
      )
    const withdrawn: JournalShape["withdrawn"] = Effect.async<void>((resume) => {
      const tell = (): void => {
        watchers.delete(tell)
        resume(Effect.void)
      }
      watchers.add(tell)
      return Effect.sync(() => watchers.delete(tell))
    })
    return Journal.of({
      step: (run, options) => Effect.async((resume) => unsafeStep(run, resume, options)),
      unsafeStep,
      register,
      failing: () => failing,
      withdrawn
    })
  })

export const layer = (options?: JournalOptions): Layer.Layer<Journal, never, Store | EventBus> =>
  Layer.scoped(Journal, make(options))
