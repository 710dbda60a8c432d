import { defineWorkspace } from "vitest/config"

const conditions = ["@postilion/source", "node", "import", "module", "default"]

/** `isolate: false` where no test leaves anything behind in its process: half the time goes into loading modules again. */
const project = (
  name: string,
  root: string,
  isolate = true,
  include = ["test/**/*.test.ts"],
  { globalSetup = [], testTimeout = 30_000 }: { globalSetup?: Array<string>; testTimeout?: number } = {}
) => ({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: { name, root, include, isolate, globalSetup, testTimeout, hookTimeout: 30_000 }
})

export default defineWorkspace([
  project("gateway", "packages/gateway", false),
  project("agents", "packages/agents"),
  project("client", "packages/client"),
  project("server", "packages/server"),
  // Tests the command as it is shipped, so it is built first.
  project("cli", "packages/cli", true, undefined, { globalSetup: ["test/Build.ts"] }),
  project("demo", "apps/demo"),
  project("faults", "apps/faults"),
  project("docs", "."),
  // What takes long for what it finds: `npm run test:slow`.
  project("slow", ".", true, ["packages/*/test/**/*.slow.ts", "apps/*/test/**/*.slow.ts"], {
    globalSetup: ["packages/cli/test/Build.ts"]
  }),
  // What needs a browser and Python: `npm run test:interop`.
  project("interop", ".", true, ["packages/*/test/**/*.interop.ts"], { testTimeout: 180_000 })
])
