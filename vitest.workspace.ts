import { defineWorkspace } from "vitest/config"

const conditions = ["@postilion/source", "node", "import", "module", "default"]

interface Options {
  readonly include?: Array<string>
  /** Each file in a process of its own, where tests leave something behind: half the time goes into loading modules again. Default: true. */
  readonly isolate?: boolean
  /** A file's tests at the same time: most of them wait for something. `describe.sequential` where they share something. Default: false. */
  readonly concurrent?: boolean
  readonly globalSetup?: Array<string>
  readonly testTimeout?: number
}
const project = (
  name: string,
  root: string,
  {
    concurrent = false,
    include = ["test/**/*.test.ts"],
    isolate = true,
    globalSetup = [],
    testTimeout = 30_000
  }: Options = {}
) => ({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: { name, root, include, isolate, sequence: { concurrent }, globalSetup, testTimeout, hookTimeout: 30_000 }
})

/** Milliseconds. */
const MINUTE = 60_000

export default defineWorkspace([
  project("gateway", "packages/gateway", { isolate: false, concurrent: true, testTimeout: MINUTE }),
  project("agents", "packages/agents"),
  project("client", "packages/client"),
  project("server", "packages/server", { isolate: false, concurrent: true, testTimeout: MINUTE }),
  // Tests the command as it is shipped, so it is built first.
  project("cli", "packages/cli", { globalSetup: ["test/Build.ts"] }),
  project("demo", "apps/demo"),
  project("faults", "apps/faults"),
  project("docs", ".", { concurrent: true, testTimeout: MINUTE }),
  // What takes long for what it finds: `npm run test:slow`.
  project("slow", ".", { include: ["packages/*/test/**/*.slow.ts", "apps/*/test/**/*.slow.ts"] }),
  // What needs a browser and Python: `npm run test:interop`.
  project("interop", ".", { include: ["packages/*/test/**/*.interop.ts"], testTimeout: 3 * MINUTE })
])
