import * as Command from "@effect/cli/Command"
import type { AnyCommand, Entry } from "./Help.ts"
import { webhookSign } from "./commands/Webhook.ts"

export const VERSION = "0.0.0"

const one = (command: AnyCommand): Entry => ({ command, below: [] })
const group = (name: string, about: string, ...commands: readonly [AnyCommand, ...Array<AnyCommand>]): Entry => ({
  command: Command.make(name).pipe(Command.withDescription(about), Command.withSubcommands(commands)),
  below: commands.map(one)
})

/** Every command there is. */
const entries: readonly [Entry, ...Array<Entry>] = [
  group("webhook", "Makes deliveries as a webhook's sender does.", webhookSign)
]

export const root: Entry = {
  command: Command.make("postilion").pipe(
    Command.withDescription("Runs a gateway for agents from one file, and operates it."),
    Command.withSubcommands(entries.map(({ command }) => command) as [AnyCommand, ...Array<AnyCommand>])
  ),
  below: entries
}
