import { defineWorkspace } from "vitest/config"

const conditions = ["@postilion/source", "node", "import", "module", "default"]

/** `isolate: false` where no test leaves anything behind in its process: half the time goes into loading modules again. */
const project = (name: string, root: string, isolate = true) => ({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: { name, root, include: ["test/**/*.test.ts"], isolate, testTimeout: 30_000, hookTimeout: 30_000 }
})

export default defineWorkspace([
  project("gateway", "packages/gateway", false),
  project("agents", "packages/agents"),
  project("client", "packages/client"),
  project("server", "packages/server"),
  project("demo", "apps/demo"),
  project("faults", "apps/faults"),
  project("docs", ".")
])
