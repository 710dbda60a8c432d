import { readFileSync, watch } from "node:fs"
import { basename, dirname } from "node:path"
import {
  type GatewayConfigError,
  type GatewayError,
  Reconfiguration,
  type SchedulerError,
  supervise
} from "@postilion/gateway"
import { LIVE_KEYS } from "@postilion/gateway/records/LiveConfig"
import { Context, Effect, Layer, Queue } from "effect"
import { Access } from "./Access.ts"
import { AgentModels, withoutModels } from "./agents/AgentModels.ts"
import { digestOf, type Loaded, shown } from "./ConfigFile.ts"
import { changesOf } from "./config/Changes.ts"
import type { PostilionConfig } from "./PostilionConfig.ts"

/** What came of reading the file again. */
export interface Reloaded {
  /** What is different now, as it may be shown. */
  readonly changes: ReadonlyArray<string>
  /** Keys that have another value in the file, and take effect at the next start. */
  readonly atRestart: ReadonlyArray<string>
  /** Policies that stay as they were promoted or removed while the gateway ran: the file says of them what it said before. */
  readonly byHand: ReadonlyArray<string>
}

export interface ConfigReloadShape {
  /**
   * Reads the file again and has the gateway go on with it. Fails when it is refused: then the gateway goes on as it was, and its
   * status says why. `by` is recorded; default: `program`.
   */
  readonly reload: (by?: string) => Effect.Effect<Reloaded, GatewayConfigError | SchedulerError | GatewayError>
}

/** Follows the file a gateway is configured with. */
export class ConfigReload extends Context.Tag("@postilion/server/ConfigReload")<ConfigReload, ConfigReloadShape>() {}

export interface ConfigReloadOptions {
  /** Reads the file. */
  readonly read: Effect.Effect<Loaded, GatewayConfigError>
  /** What was read from it at start. */
  readonly loaded: Loaded
}

/** How often the file is looked at: what tells of changes does not tell of all of them, over a network or into a container. */
const LOOK_EVERY = "2 seconds"
/** A file that is still being written is let be for so long. */
const SETTLE = "100 millis"

/** Changes that are recorded of one file. */
const MOST_SHOWN = 200

/** Keys that take effect while the gateway runs. */
const LIVE: ReadonlySet<string> = new Set<keyof PostilionConfig>([...LIVE_KEYS, "tokens"])

export const logWarnings = ({ warnings }: Pick<Loaded, "warnings">): Effect.Effect<void> =>
  Effect.forEach(
    warnings,
    ({ column, file, line, message }) => Effect.logWarning(`${file}:${line}:${column}: ${message}`),
    { discard: true }
  )

/** A file as it is now, in a few letters. */
const look = (file: string): string => {
  try {
    return digestOf(readFileSync(file))
  } catch {
    // Why it cannot be read is said by who reads it.
    return "unreadable"
  }
}

/** Told of what happens in the file's folder: editors put another file in its place. */
const pokes = (file: string) =>
  Effect.gen(function* () {
    const poked = yield* Queue.sliding<void>(1)
    const poke = (): void => void poked.unsafeOffer(undefined)
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        try {
          const watcher = watch(dirname(file), { persistent: false }, (_, name) => {
            if (name === null || name === basename(file)) poke()
          })
          return watcher.on("error", () => watcher.close())
        } catch {
          // Where folders cannot be watched, the file is looked at every other second all the same.
          return undefined
        }
      }),
      (watcher) => Effect.sync(() => watcher?.close())
    )
    return poked
  })

const make = ({ loaded, read }: ConfigReloadOptions) =>
  Effect.gen(function* () {
    const reconfiguration = yield* Reconfiguration
    const access = yield* Access
    const models = yield* AgentModels
    const { file } = loaded
    const started = loaded.config
    let current = loaded
    const alone = yield* Effect.makeSemaphore(1)

    const take = (next: Loaded, by: string) =>
      Effect.gen(function* () {
        const keys = Object.keys(next.config) as ReadonlyArray<keyof PostilionConfig>
        const live = (config: object) =>
          Object.fromEntries(keys.filter((key) => LIVE.has(key)).map((key) => [key, Reflect.get(config, key)]))
        const changes = changesOf(live(shown(current)), live(shown(next))).slice(0, MOST_SHOWN)
        const atRestart = keys.filter((key) => !LIVE.has(key) && changesOf(started[key], next.config[key]).length > 0)
        const { agents, tokens, ...rest } = next.config
        const setModels = yield* models.reconfigure(agents)
        // Also where nothing is different: it is said that the file is no longer refused.
        const byHand = yield* reconfiguration.change(
          { ...rest, agents: withoutModels(agents) },
          {
            changes,
            atRestart,
            by,
            also: () => {
              setModels()
              access.reconfigure(tokens)
            }
          }
        )
        current = next
        return { changes, atRestart, byHand }
      })
    const reload: ConfigReloadShape["reload"] = (by = "program") =>
      read.pipe(
        Effect.tap(logWarnings),
        Effect.flatMap((next) => take(next, by)),
        Effect.tap(({ atRestart, byHand, changes }) => {
          const now = changes.length === 0 ? "nothing changes now" : changes.join("; ")
          const later = atRestart.length === 0 ? "" : `; at the next start: ${atRestart.join(", ")}`
          const kept = byHand.length === 0 ? "" : `; as changed by hand: ${byHand.join(", ")}`
          return Effect.logInfo(`${file} was read again: ${now}${later}${kept}`)
        }),
        Effect.tapError((error) =>
          Effect.zipRight(
            Effect.logError(`${file} was refused, and the gateway goes on as it was:\n${error.message}`),
            Effect.ignoreLogged(reconfiguration.refuse(error.message))
          )
        ),
        alone.withPermits(1)
      )

    const poked = yield* pokes(file)
    /** The file, and those that secrets are in: a secret that is renewed is renewed in its own. */
    const followed = () => [file, ...current.secretFiles]
    const lookAll = Effect.sync(() => new Map(followed().map((name) => [name, look(name)])))
    const isSame = (one: ReadonlyMap<string, string>, other: ReadonlyMap<string, string>): boolean =>
      [...one].every(([name, digest]) => other.get(name) === digest)
    let seen: ReadonlyMap<string, string> = new Map([...(yield* lookAll), [file, loaded.digest]])
    const follow = Effect.gen(function* () {
      yield* Effect.raceFirst(Queue.take(poked), Effect.sleep(LOOK_EVERY))
      let now = yield* lookAll
      if (isSame(now, seen)) return
      for (let before = seen; !isSame(now, before); now = yield* lookAll) {
        before = now
        yield* Effect.sleep(SETTLE)
      }
      // It has said so already.
      yield* Effect.ignore(reload("file"))
      seen = new Map(followed().map((name) => [name, now.get(name) ?? look(name)]))
    })
    yield* supervise("configuration", Effect.forever(follow))
    const signalled = yield* Queue.sliding<void>(1)
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const onSignal = (): void => void signalled.unsafeOffer(undefined)
        process.on("SIGHUP", onSignal)
        return onSignal
      }),
      (onSignal) => Effect.sync(() => process.off("SIGHUP", onSignal))
    )
    yield* supervise(
      "configuration signal",
      Effect.forever(Effect.zipRight(Queue.take(signalled), Effect.ignore(reload("SIGHUP"))))
    )
    return ConfigReload.of({ reload })
  })

/**
 * Follows the file: when it or one that a secret is in changes, or the process gets a SIGHUP, it is read again, and the gateway goes on with what may change
 * while it runs: agents, heartbeats, crons, webhooks, routing, access, policies and tokens. What else is different takes effect
 * at the next start, and is named. A file that is refused changes nothing.
 */
export const layer = (options: ConfigReloadOptions) => Layer.scoped(ConfigReload, make(options))
