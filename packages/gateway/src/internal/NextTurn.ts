import { Effect } from "effect"

/** Goes on after everything the event loop already has at hand: what takes long lets others in between. */
export const nextTurn: Effect.Effect<void> = Effect.async<void>((resume) => {
  const later: (f: () => void) => unknown = globalThis.setImmediate ?? ((f) => setTimeout(f, 0))
  later(() => resume(Effect.void))
})
