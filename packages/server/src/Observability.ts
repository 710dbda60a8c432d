import { optional, withDefault } from "@postilion/gateway/domain/ConfigFields"
import { OneOf } from "@postilion/gateway/domain/OneOf"
import { Layer, Logger, LogLevel, Schema } from "effect"

const LEVELS = {
  debug: LogLevel.Debug,
  info: LogLevel.Info,
  warning: LogLevel.Warning,
  error: LogLevel.Error,
  none: LogLevel.None
}

export const ObservabilityConfig = Schema.Struct({
  logLevel: withDefault(OneOf("debug", "info", "warning", "error", "none"), "info", "The least that is written."),
  logFormat: optional(
    OneOf("pretty", "json", "logfmt"),
    "`pretty`, for people; `json`, a line each; `logfmt`. Default: as the program that runs the gateway writes."
  )
})
export type ObservabilityConfig = typeof ObservabilityConfig.Type

const FORMATS = { pretty: Logger.pretty, json: Logger.json, logfmt: Logger.logFmt }

/** The log as it is configured. */
export const layer = ({ logFormat, logLevel }: ObservabilityConfig): Layer.Layer<never> =>
  // One after the other: what is set by layers that are built beside each other is not taken back when they close.
  Logger.minimumLogLevel(LEVELS[logLevel]).pipe(
    Layer.provideMerge(logFormat === undefined ? Layer.empty : FORMATS[logFormat])
  )
