import { Cause, Clock, Context, Effect, Fiber, Layer, type Scope } from "effect"

/** In the order they start; they stop in reverse. */
const PHASES = ["bus", "services", "channels"] as const
export type Phase = (typeof PHASES)[number]

/** A part of the gateway that goes on for as long as the gateway does. */
export interface Component {
  readonly name: string
  readonly phase: Phase
  /**
   * - `starting`, `running`, `stopping`. `restarting`: it failed, and waits a moment before it begins again.
   * - `failed`: the same, after five failures without a minute between them. It is still begun again, twice a minute.
   */
  readonly state: "starting" | "running" | "restarting" | "failed" | "stopping"
  /** How often it has begun again. */
  readonly restarts: number
  /** What it failed of last. */
  readonly lastError: string | undefined
}

export interface SupervisorShape {
  /** By phase, each in the order they started. */
  readonly components: () => ReadonlyArray<Component>
  /** Names of the layers that have started and not stopped, first come first. Of them other components are the fibers. */
  readonly started: Set<string>
  /** For the supervised: how a component stands. `undefined`: it is gone. */
  readonly report: (name: string, component: Component | undefined) => void
}

/** The phase of what is being started. */
export class CurrentPhase extends Context.Reference<CurrentPhase>()("@postilion/gateway/CurrentPhase", {
  defaultValue: (): Phase => "services"
}) {}

/** How the parts of one gateway stand. */
export class Supervisor extends Context.Tag("@postilion/gateway/Supervisor")<Supervisor, SupervisorShape>() {}

export const layer: Layer.Layer<Supervisor> = Layer.sync(Supervisor, () => {
  const components = new Map<string, Component>()
  return {
    components: () =>
      [...components.values()].sort((one, other) => PHASES.indexOf(one.phase) - PHASES.indexOf(other.phase)),
    started: new Set<string>(),
    report: (name, component) => {
      if (component === undefined) components.delete(name)
      else components.set(name, component)
    }
  }
})

/** Milliseconds before it begins again: twice as many each time, up to the most. */
const FIRST_DELAY = 100
const LONGEST_DELAY = 30_000
/** What ran for so long had recovered: the next failure is a first one. Milliseconds. */
const RECOVERED_AFTER = 60_000
const FAILED_AFTER = 5

const messageOf = (cause: Cause.Cause<unknown>): string => {
  const failure = Cause.squash(cause)
  return failure instanceof Error ? failure.message : String(failure)
}

/**
 * Runs `component` in a fiber of its own until the scope closes, and begins it again whenever it fails, dies or is
 * interrupted: after a tenth of a second, then twice as long each time, half a minute at most. A failure is logged, is shown by the
 * surroundings' `Supervisor` where there is one, and reaches nothing else.
 */
export const supervise = <E, R>(
  name: string,
  component: Effect.Effect<never, E, R>
): Effect.Effect<void, never, R | Scope.Scope> =>
  Effect.gen(function* () {
    const supervisor = yield* Effect.serviceOption(Supervisor)
    const phase = yield* CurrentPhase
    let failures = 0
    let restarts = 0
    let lastError: string | undefined
    const report = (state: Component["state"]): void => {
      if (supervisor._tag === "Some") supervisor.value.report(name, { name, phase, state, restarts, lastError })
    }
    const once = Effect.gen(function* () {
      const began = yield* Clock.currentTimeMillis
      report("running")
      // In a fiber of its own, so that who interrupts it has not interrupted what begins it again.
      const cause = yield* Effect.scoped(
        Effect.flatMap(Effect.forkScoped(component), (fiber) => Effect.flip(Effect.sandbox(Fiber.join(fiber))))
      )
      const ran = (yield* Clock.currentTimeMillis) - began
      failures = ran >= RECOVERED_AFTER ? 1 : failures + 1
      lastError = messageOf(cause)
      const delay = Math.min(FIRST_DELAY * 2 ** (failures - 1), LONGEST_DELAY)
      report(failures >= FAILED_AFTER ? "failed" : "restarting")
      yield* Effect.logError(`${name} failed, and begins again in ${delay} ms`, cause)
      yield* Effect.sleep(delay)
      restarts += 1
    })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        if (supervisor._tag === "Some") supervisor.value.report(name, undefined)
      })
    )
    report("running")
    yield* Effect.forkScoped(Effect.forever(once))
  })
