import { defineWorkspace } from "vitest/config"

const conditions = ["@postilion/source", "node", "import", "module", "default"]

interface Options {
  /** Default: what ends in `.test.ts` below `test`. */
  readonly include?: Array<string>
  readonly globalSetup?: Array<string>
  /** Milliseconds. Default: 30,000. */
  readonly testTimeout?: number
}
const project = (
  name: string,
  root: string,
  { include = ["test/**/*.test.ts"], globalSetup = [], testTimeout = 30_000 }: Options = {}
) => ({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: { name, root, include, globalSetup, testTimeout, hookTimeout: 30_000 }
})

/** Milliseconds. */
const MINUTE = 60_000

// How a project's tests are run, each on its own or many at a time, is said by `scripts/run.mjs`: Vitest has it for all alike.
export default defineWorkspace([
  project("gateway", "packages/gateway", { testTimeout: MINUTE }),
  project("agents", "packages/agents"),
  project("client", "packages/client"),
  project("server", "packages/server", { testTimeout: MINUTE }),
  // Tests the command as it is shipped, so it is built first.
  project("cli", "packages/cli", { globalSetup: ["test/Build.ts"] }),
  project("docs", ".", { testTimeout: MINUTE }),
  // What takes long for what it finds: `npm run test:slow`.
  project("slow", ".", {
    include: ["packages/*/test/**/*.slow.ts", "apps/*/test/**/*.slow.ts"],
    globalSetup: ["packages/cli/test/Build.ts"]
  }),
  // What needs a browser and Python: `npm run test:interop`.
  project("interop", ".", { include: ["packages/*/test/**/*.interop.ts"], testTimeout: 3 * MINUTE })
])
