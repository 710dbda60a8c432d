import { createRequire } from "node:module"
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import { Effect } from "effect"
import * as Approvals from "./commands/Approvals.ts"
import * as Audit from "./commands/Audit.ts"
import { backtest } from "./commands/Backtest.ts"
import * as Control from "./commands/Control.ts"
import * as Cron from "./commands/Cron.ts"
import * as DeadLetters from "./commands/DeadLetters.ts"
import { doctor } from "./commands/Doctor.ts"
import * as Events from "./commands/Events.ts"
import * as Push from "./commands/Push.ts"
import { route } from "./commands/Route.ts"
import * as Runs from "./commands/Runs.ts"
import { securityAudit } from "./commands/SecurityAudit.ts"
import * as Sessions from "./commands/Sessions.ts"
import * as Setup from "./commands/Setup.ts"
import { start } from "./commands/Start.ts"
import * as Tokens from "./commands/Tokens.ts"
import * as Webhook from "./commands/Webhook.ts"
import * as Flags from "./Flags.ts"
import type { AnyCommand, Entry } from "./Help.ts"
import { print } from "./Output.ts"

const { version } = createRequire(import.meta.url)("../package.json") as { readonly version: string }
export const VERSION = version

const one = (command: AnyCommand): Entry => ({ command, below: [] })
const group = (name: string, about: string, ...commands: readonly [AnyCommand, ...Array<AnyCommand>]): Entry => ({
  command: Command.make(name).pipe(Command.withDescription(about), Command.withSubcommands(commands)),
  below: commands.map(one)
})

const completions = Command.make(
  "completions",
  {
    shell: Args.choice(
      [
        ["bash", "bash"],
        ["zsh", "zsh"],
        ["fish", "fish"]
      ] as const,
      { name: "shell" }
    ).pipe(Args.withDescription("Whose.")),
    ...Flags.common
  },
  ({ shell }) => {
    const make = {
      bash: Command.getBashCompletions,
      zsh: Command.getZshCompletions,
      fish: Command.getFishCompletions
    }[shell]
    return Effect.flatMap(make(root.command, "postilion"), (lines) => print(lines.join("\n")))
  }
).pipe(Command.withDescription("Prints what a shell completes commands by: `source <(postilion completions bash)`."))

/** Every command there is, in the order they are listed. */
const entries: readonly [Entry, ...Array<Entry>] = [
  one(Setup.init),
  one(Setup.check),
  group("config", "Looks at the configuration.", Setup.configShow),
  one(start),
  one(Control.status),
  one(Control.stop),
  one(Control.pause),
  one(Control.resume),
  one(doctor),
  group("security", "Looks for what could be used against the gateway.", securityAudit),
  group("events", "Shows what came, and what became of it.", Events.list, Events.show, Events.tail),
  one(Events.explain),
  group("runs", "Shows what agents did, and ends what they do.", Runs.list, Runs.show, Runs.abort),
  one(route),
  one(Events.send),
  group("webhook", "Makes deliveries as a webhook's sender does.", Webhook.webhookSend, Webhook.webhookSign),
  group(
    "approvals",
    "Answers what waits for a person.",
    Approvals.list,
    Approvals.show,
    Approvals.approve,
    Approvals.deny
  ),
  group(
    "audit",
    "Reads and verifies the record of everything the gateway did.",
    Audit.verify,
    Audit.list,
    Audit.tail,
    Audit.exported
  ),
  one(backtest),
  one(Control.budget),
  group("agents", "Shows the agents there are.", Control.agents),
  group(
    "cron",
    "Shows and changes what is due now and then.",
    Cron.list,
    Cron.next,
    Cron.add,
    Cron.remove,
    Cron.enable,
    Cron.disable,
    Cron.run
  ),
  group(
    "sessions",
    "Shows and moves conversations.",
    Sessions.list,
    Sessions.show,
    Sessions.remove,
    Sessions.exported,
    Sessions.imported
  ),
  group(
    "dead-letters",
    "Shows answers that could not be sent, and has them sent again.",
    DeadLetters.list,
    DeadLetters.replay
  ),
  group("token", "Makes and revokes tokens.", Tokens.create, Tokens.list, Tokens.revoke),
  group("push", "Tells channels something, and hears them.", Push.publish, Push.subscribe),
  one(completions)
]

export const root: Entry = {
  command: Command.make("postilion").pipe(
    Command.withDescription("Runs a gateway for agents from one file, and operates it."),
    Command.withSubcommands(entries.map(({ command }) => command) as [AnyCommand, ...Array<AnyCommand>])
  ),
  below: entries
}
