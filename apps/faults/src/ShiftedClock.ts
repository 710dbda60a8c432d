/**
 * The machine's wall clock, which the harness can set: everything in this process that asks for the time is told the real
 * one plus this much. Timers and `performance.now` go on as they are, as they do when a real clock is set.
 */
let shift = Number(process.env.FAULTS_CLOCK_SHIFT ?? "0")

const real = Date.now
Date.now = () => real() + shift

/** Sets the clock: milliseconds between it and the real one. */
export const setShift = (millis: number): void => {
  shift = millis
}
