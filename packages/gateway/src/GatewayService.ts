import { Clock, Context, DateTime, Effect, Layer, type Scope, type Stream } from "effect"
import { type AbortOptions, make as makeAbort } from "./Abort.ts"
import type { BudgetRange, BudgetReport } from "./domain/Budget.ts"
import type { BusEvent, BusTag, Lagged } from "./domain/BusEvent.ts"
import { parseZone } from "./domain/Calendar.ts"
import type { Delivery } from "./domain/Delivery.ts"
import { AgentRunError, GatewayError, PolicyViolationError } from "./domain/Errors.ts"
import { type Approval, type EventRecord, isFinal } from "./domain/EventRecord.ts"
import type { Explanation } from "./domain/Explanation.ts"
import type { RawInput } from "./domain/GatewayEvent.ts"
import type { Route } from "./domain/Routing.ts"
import type { RunRecord } from "./domain/Run.ts"
import { count, type GatewayStatus, type GatewaySummary, noCounts } from "./domain/Status.ts"
import { ALL_AGENTS, type SwitchMode } from "./domain/Switch.ts"
import { Admission, type Receipt } from "./harness/Admission.ts"
import type { AnswerOptions } from "./harness/Answering.ts"
import { agentOf } from "./harness/InputRouter.ts"
import { Supervisor, supervise } from "./internal/Supervisor.ts"
import { AuditLog } from "./records/AuditLog.ts"
import { BudgetLedger } from "./records/BudgetLedger.ts"
import { EventBus } from "./records/EventBus.ts"
import * as EventList from "./records/EventList.ts"
import { explain } from "./records/Explain.ts"
import { Journal } from "./records/Journal.ts"
import type { LiveConfig } from "./records/LiveConfig.ts"
import * as Lookup from "./records/Lookup.ts"
import * as Retention from "./records/Retention.ts"
import * as RunList from "./records/RunList.ts"
import { SessionStore } from "./records/SessionStore.ts"
import * as Spending from "./records/Spending.ts"
import { Store, type StoreError } from "./records/Store.ts"
import { CrashLoop } from "./runs/CrashLoop.ts"
import { Dispatcher } from "./runs/Dispatcher.ts"
import { KillSwitch } from "./runs/KillSwitch.ts"
import { type DeliveryFilter, Outbox } from "./runs/Outbox.ts"
import { Scheduler } from "./sources/Scheduler.ts"

/** Whom a switch concerns, and who throws it. */
export interface SwitchOptions {
  /** Default: all agents. */
  readonly agentId?: string
  /** Recorded with the change. Default: `program`. */
  readonly by?: string
}

/** How a drain ended. */
export interface Drained {
  /** Whether all runs, and what was being sent, ended before the deadline. */
  readonly finished: boolean
  /** Runs that are cut off and will be tried again by the next start. */
  readonly running: number
  /** Runs that had not begun. */
  readonly waiting: number
}

export interface GatewayServiceShape {
  /**
   * Hands in an event. Succeeds once it is on disk, with its id and, when the policies answered at once, what was
   * decided. Fails when the input is invalid or the gateway cannot take it; then nothing was kept.
   */
  readonly submit: (input: RawInput) => Effect.Effect<Receipt, GatewayError>
  /** Which agent would handle an input, and which rule says so. Nothing is kept or run. */
  readonly route: (input: RawInput) => Route
  /** Everything recorded of an event; `undefined` when there is none of this id. */
  readonly find: (eventId: string) => Effect.Effect<EventRecord | undefined, GatewayError>
  /** Events, newest first, a page at a time. */
  readonly list: (filter?: EventList.EventFilter) => Effect.Effect<EventList.EventPage, GatewayError>
  /**
   * All there is to say of an event: each decision with every policy's answer and the state it saw, who approved, what ran, what
   * it cost, what was sent, and its chain of causes. `undefined` when there is none of this id.
   */
  readonly explain: (eventId: string) => Effect.Effect<Explanation | undefined, GatewayError>
  /** Runs, the one decided last first, a page at a time. */
  readonly runs: (filter?: RunList.RunFilter) => Effect.Effect<RunList.RunPage, GatewayError>
  /** A run; `undefined` when there is none of this id. */
  readonly findRun: (runId: string) => Effect.Effect<RunRecord | undefined, GatewayError>
  /** Waits for the end of an event's road: its run has ended, or there will be none. */
  readonly outcome: (eventId: string) => Effect.Effect<EventRecord, GatewayError>
  /**
   * Hands in an event and waits for its run. Fails with `PolicyViolationError` when a policy or a person kept it from the
   * agent, with `AgentRunError` when the agent failed.
   */
  readonly run: (input: RawInput) => Effect.Effect<RunRecord, GatewayError | PolicyViolationError | AgentRunError>
  /**
   * Ends the run of this id, or of the event of this id: it is `cancelled`, by whom is recorded, and whoever waits for its answer
   * is told that there is none. One under way is interrupted; succeeds once it has ended. The same by the same person again is fine.
   *
   * Fails with `not-found`, and with `conflict` when the run has ended another way, or there is none yet.
   */
  readonly abort: (id: string, options?: AbortOptions) => Effect.Effect<EventRecord, GatewayError>
  readonly status: () => Effect.Effect<GatewayStatus>
  /**
   * Every budget as it stands, and what the runs of a range of days used, by agent, source, model and day. Fails with
   * `invalid-input` when the range is none, or spans more than 366 days.
   */
  readonly budget: (range?: BudgetRange) => Effect.Effect<BudgetReport, GatewayError>
  /** What happens from now on, until the scope closes. See `EventBus.subscribe`. */
  readonly events: <Tag extends BusTag = BusTag>(
    tags?: Tag | ReadonlyArray<Tag>
  ) => Effect.Effect<Stream.Stream<Extract<BusEvent, { _tag: Tag }> | Lagged>, never, Scope.Scope>
  /** What waits for a person, oldest first, at most 1,000. */
  readonly approvals: Effect.Effect<ReadonlyArray<Approval>, GatewayError>
  /** An approval, also one that has been decided; `undefined` when there is none of this id. */
  readonly approval: (approvalId: string) => Effect.Effect<Approval | undefined, GatewayError>
  /**
   * Says yes to what the approval shows. Once as many persons as it needs have, the event is judged again, and run where its
   * policies allow. Succeeds with the approval as it stands then.
   *
   * Fails with `conflict` when others have decided, when `digest` is not that of what the approval shows, or when what would
   * run has changed since it was asked: then it shows what would run now, and has to be answered anew.
   */
  readonly approve: (approvalId: string, by: string, options?: AnswerOptions) => Effect.Effect<Approval, GatewayError>
  /** Says no: one is enough, and the event never runs. Fails with `conflict` when others have decided. */
  readonly deny: (approvalId: string, by: string) => Effect.Effect<Approval, GatewayError>
  /** What was or is to be sent, in the order it was prepared. Dead letters are those with the state `failed`. */
  readonly deliveries: (filter?: DeliveryFilter) => Effect.Effect<ReadonlyArray<Delivery>, GatewayError>
  /**
   * Has a delivery that failed, is unknown or was dropped tried again. `by` is recorded with it; default: `program`. Fails
   * when there is none of this id (`not-found`) or it was sent (`conflict`).
   */
  readonly replayDelivery: (deliveryId: string, by?: string) => Effect.Effect<Delivery, GatewayError>
  /** Gives a delivery up. Fails as `replayDelivery` does. */
  readonly dropDelivery: (deliveryId: string, by?: string) => Effect.Effect<Delivery, GatewayError>
  /** Events are kept and judged, none is dispatched. */
  readonly pause: (options?: SwitchOptions) => Effect.Effect<void, GatewayError>
  readonly resume: (options?: SwitchOptions) => Effect.Effect<void, GatewayError>
  /**
   * Events are refused, or kept (`policies.whenStopped`), and nothing is sent; what runs may finish. Answers with what was done
   * since start.
   */
  readonly stop: (options?: SwitchOptions) => Effect.Effect<GatewaySummary, GatewayError>
  /** As `stop`, and interrupts what runs. */
  readonly terminate: (options?: SwitchOptions) => Effect.Effect<GatewaySummary, GatewayError>
  /**
   * Runs and sends what was kept, and has jobs fire, in a gateway that came up held after too many starts that a crash ended
   * (`limits.maxUncleanStarts`). Without effect in another.
   */
  readonly release: (options?: Pick<SwitchOptions, "by">) => Effect.Effect<void, GatewayError>
  /** Closes the doors and waits, at most so many milliseconds, for what runs. The gateway cannot be opened again. */
  readonly drain: (deadlineMillis: number) => Effect.Effect<Drained>
}

/** The gateway: what comes in, what became of it, and the switches. */
export class GatewayService extends Context.Tag("@postilion/gateway/GatewayService")<
  GatewayService,
  GatewayServiceShape
>() {}

const storage = (cause: StoreError) => new GatewayError({ reason: "storage", message: cause.message, cause })

export const make = ({ config, status: configStatus }: Pick<LiveConfig, "config" | "status">) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const bus = yield* EventBus
    const audit = yield* AuditLog
    const ledger = yield* BudgetLedger
    const sessions = yield* SessionStore
    const killSwitch = yield* KillSwitch
    const dispatcher = yield* Dispatcher
    const outbox = yield* Outbox
    const admission = yield* Admission
    const scheduler = yield* Scheduler
    const crashLoop = yield* CrashLoop
    const supervisor = yield* Supervisor
    const zone = parseZone(config.timezone) ?? DateTime.zoneMakeOffset(0)
    const startedAt = yield* Clock.currentTimeMillis
    const counters = noCounts()
    let closed = false
    const waiters = new Map<string, Set<() => void>>()

    yield* bus.listen((event) => {
      count(counters, event)
      const ids = "eventIds" in event ? event.eventIds : "eventId" in event ? [event.eventId] : []
      for (const id of ids) for (const wake of waiters.get(id ?? "") ?? []) wake()
    })
    const summary = (): GatewaySummary => ({
      heartbeatsFired: counters.heartbeatsFired,
      totalRuns: counters.totalRuns,
      cronChecks: counters.cronChecks,
      chatTurns: counters.chatTurnsHandled
    })

    const find: GatewayServiceShape["find"] = (eventId) => Effect.mapError(Lookup.eventOf(store, eventId), storage)
    const approval: GatewayServiceShape["approval"] = (id) => Effect.mapError(Lookup.approvalOf(store, id), storage)
    const existing = (id: string) =>
      Effect.flatMap(approval(id), (found) =>
        found === undefined
          ? new GatewayError({ reason: "not-found", message: `there is no approval "${id}"` })
          : Effect.succeed(found)
      )

    const outcome: GatewayServiceShape["outcome"] = (eventId) =>
      Effect.gen(function* () {
        while (true) {
          // Listening begins before the look, so that nothing that happens in between is missed.
          let told = false
          let wake = (): void => {
            told = true
          }
          const listener = (): void => wake()
          const listeners = waiters.get(eventId) ?? new Set()
          waiters.set(eventId, listeners.add(listener))
          const record = yield* find(eventId).pipe(
            Effect.tap((record) =>
              record === undefined || isFinal(record) || told
                ? Effect.void
                : Effect.async<void>((resume) => {
                    if (told) resume(Effect.void)
                    else wake = () => resume(Effect.void)
                  })
            ),
            Effect.ensuring(
              Effect.sync(() => {
                listeners.delete(listener)
                if (listeners.size === 0) waiters.delete(eventId)
              })
            )
          )
          if (record === undefined) {
            return yield* new GatewayError({ reason: "not-found", message: `there is no event "${eventId}"` })
          }
          if (isFinal(record)) return record
        }
      })

    const setSwitch = (mode: SwitchMode, { agentId = ALL_AGENTS, by = "program" }: SwitchOptions = {}) => {
      if (agentId !== ALL_AGENTS && !Object.hasOwn(config.agents, agentId)) {
        const agents = Object.keys(config.agents).join(", ")
        const message = `there is no agent "${agentId}"; agents: ${agents}`
        return Effect.fail(new GatewayError({ reason: "not-found", message }))
      }
      return killSwitch.set(agentId, mode, by)
    }

    yield* journal.step((tx) => {
      audit.append(tx, {
        kind: "gateway.started",
        data: { agents: Object.keys(config.agents), timezone: config.timezone }
      })
    })
    yield* Effect.addFinalizer(() =>
      Effect.ignoreLogged(journal.step((tx) => audit.append(tx, { kind: "gateway.stopped", data: { ...summary() } })))
    )
    const retention = yield* Retention.make(config.retention, () => Object.keys(config.agents))
    const prune = Effect.suspend(() =>
      Effect.zipRight(
        sessions.prune(config.accessControl.sessionTtlDays * 86_400_000, dispatcher.isActive),
        retention.prune(dispatcher.isActive)
      )
    )
    yield* supervise("pruning", Effect.forever(Effect.zipRight(prune, Effect.sleep("1 hour"))))

    return GatewayService.of({
      submit: (input) => admission.submit(input),
      route: (input) => agentOf(config, input),
      find,
      abort: yield* makeAbort(find),
      list: (filter = {}) => Effect.mapError(EventList.list(store, filter), storage),
      explain: (eventId) => Effect.mapError(explain(store, eventId), storage),
      runs: (filter = {}) => Effect.mapError(RunList.list(store, filter), storage),
      findRun: (id) => Effect.mapError(Lookup.runOf(store, id), storage),
      outcome,
      run: (input) =>
        Effect.gen(function* () {
          const { eventId } = yield* admission.submit(input)
          const own = yield* outcome(eventId)
          // Taken over by another run of its session: that one's answer is its answer.
          const taken = own.run?.state === "merged" && own.mergedInto !== undefined
          const { policy, reason, run, state } = taken ? yield* outcome(own.mergedInto) : own
          if (run === undefined) {
            const message = `event ${eventId} was ${state} by ${policy}: ${reason ?? "no reason given"}`
            return yield* new PolicyViolationError({ eventId, policy: policy ?? "unknown", message })
          }
          if (run.state === "completed") return run
          return yield* new AgentRunError({ message: run.error ?? `the run was ${run.state}`, retryable: false })
        }),
      status: () =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          const { cronChecks: _, totalCostUsd, totalRuns: __, ...stats } = counters
          const held = admission.held()
          const { limit, reserved, resetsAt, used } = ledger.budget(now)
          const switches = Object.fromEntries(killSwitch.modes())
          const all = switches[ALL_AGENTS] ?? "running"
          return {
            isRunning: !closed && (all === "running" || all === "paused"),
            uptime: now - startedAt,
            stats,
            totalCostUsd,
            budget: { limit, used, reserved, resetsAt },
            rate: ledger.rate(now),
            pending: {
              undecided: held.undecided,
              queued: held.queued,
              merging: held.merging,
              awaitingApproval: held.approval,
              waiting: dispatcher.waiting(),
              running: dispatcher.running()
            },
            agents: dispatcher.agents(),
            deliveries: outbox.counts(),
            scheduler: scheduler.status(),
            switches,
            held: crashLoop.held(),
            config: configStatus(),
            components: supervisor.components()
          }
        }),
      budget: (range = {}) =>
        Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          const spent = yield* Spending.report(range, zone, now)
          const budgets = ledger.budgets(now).map(({ estimate: _, ...budget }) => budget)
          return { budgets, rate: ledger.rate(now), ...spent }
        }).pipe(
          Effect.provideService(Store, store),
          Effect.catchTag("StoreError", (cause) => storage(cause))
        ),
      events: (tags) => bus.subscribe(tags),
      approvals: Effect.mapError(Lookup.approvalsOf(store), storage),
      approval,
      approve: (approvalId, by, options) =>
        Effect.zipRight(admission.answer(approvalId, "approved", by, options), existing(approvalId)),
      deny: (approvalId, by) => Effect.zipRight(admission.answer(approvalId, "denied", by), existing(approvalId)),
      deliveries: outbox.list,
      replayDelivery: (deliveryId, by = "program") => outbox.replay(deliveryId, by),
      dropDelivery: (deliveryId, by = "program") => outbox.drop(deliveryId, by),
      pause: (options) => setSwitch("paused", options),
      resume: (options) => setSwitch("running", options),
      stop: (options) => Effect.map(setSwitch("stopped", options), summary),
      terminate: (options) => Effect.map(setSwitch("terminated", options), summary),
      release: ({ by = "program" } = {}) => Effect.zipRight(crashLoop.release(by), scheduler.start),
      drain: (deadlineMillis) =>
        Effect.gen(function* () {
          closed = true
          yield* admission.close
          // What runs have to say is still sent.
          const ended = Effect.zipRight(dispatcher.drain, outbox.drain)
          // Interruptible, also in a finalizer: else the deadline could not end it.
          const finished = yield* Effect.timeoutOption(Effect.interruptible(ended), deadlineMillis)
          return { finished: finished._tag === "Some", running: dispatcher.running(), waiting: dispatcher.waiting() }
        })
    })
  })

export const layer = (live: Pick<LiveConfig, "config" | "status">) => Layer.scoped(GatewayService, make(live))
