import type { Channel } from "@postilion/gateway"
import { optional } from "@postilion/gateway/domain/ConfigFields"
import { OneOf } from "@postilion/gateway/domain/OneOf"
import { Schema } from "effect"
import * as CallbackChannel from "./CallbackChannel.ts"

const PLATFORMS = ["callback"] as const

const platform = optional(
  OneOf(...PLATFORMS),
  "What kind of channel it is: `callback`, a place on the web that takes answers. Default: the channel's own name."
)

/** By name: what routes call them. */
export const Channels = Schema.Record({
  key: Schema.NonEmptyString,
  value: Schema.Struct({ platform, ...CallbackChannel.CallbackConfig.fields }).pipe(
    Schema.filter(CallbackChannel.refusedAddress)
  )
}).pipe(
  Schema.filter((channels) =>
    Object.entries(channels).flatMap(([name, { platform }]) =>
      platform === undefined && !PLATFORMS.some((known) => known === name)
        ? [{ path: [name, "platform"], message: `missing; platforms: ${PLATFORMS.join(", ")}` }]
        : []
    )
  )
)

/** The channels a configuration asks for. */
export const make = (channels: typeof Channels.Type): ReadonlyArray<Channel> =>
  Object.entries(channels).map(([name, config]) => CallbackChannel.make(name, config))
