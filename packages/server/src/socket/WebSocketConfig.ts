import { between, LONGEST_TIMER, withDefault } from "@postilion/gateway/domain/ConfigFields"
import { Schema } from "effect"

const LARGEST_BUFFER = 2 ** 28

const Between = (least: number, most: number, value: number, about: string) =>
  withDefault(between(least, most), value, about)

/** The WebSocket at `/ws`. Every key has a default. */
export const WebSocketConfig = Schema.Struct({
  maxConnections: Between(
    1,
    1_000_000,
    1_000,
    "Sockets at a time; more are told `too-many-connections` and closed (1013), or answered 503. As many connections more may wait to be resumed."
  ),
  maxPayload: Between(
    128,
    LARGEST_BUFFER,
    1_048_576,
    "Bytes a frame from a client may have; a larger one closes the socket (1009)."
  ),
  heartbeatIntervalMs: Between(
    1,
    LONGEST_TIMER,
    30_000,
    "Milliseconds between heartbeats. A socket that says nothing for twice as long is closed."
  ),
  handshakeTimeoutMs: Between(1, LONGEST_TIMER, 15_000, "Milliseconds a new socket has to say `connect`."),
  reconnectTimeoutMs: Between(
    0,
    LONGEST_TIMER,
    60_000,
    "Milliseconds a connection that has lost its socket can be resumed."
  ),
  maxMessagesPerMinute: Between(
    1,
    Number.MAX_SAFE_INTEGER,
    600,
    "Frames a socket may send a minute; more are refused, and ten in a row that are close it (1008)."
  ),
  maxBufferedBytes: Between(
    1,
    LARGEST_BUFFER,
    1_048_576,
    "Bytes that may wait in a socket to be read; one that falls further behind is closed (1013)."
  ),
  maxReplay: Between(
    1,
    1_000_000,
    1_000,
    "Notifications that are kept for a connection to be resumed, as far as they fit in `maxBufferedBytes`, and events of the gateway that are kept for who subscribes since a cursor. What is not kept any more is told as a GAP."
  ),
  maxSessions: Between(1, 1_000_000, 100, "Sessions a connection may have joined at a time.")
})
export type WebSocketConfig = typeof WebSocketConfig.Type
