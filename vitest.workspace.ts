import { defineWorkspace } from "vitest/config"

const conditions = ["@postilion/source", "node", "import", "module", "default"]

const project = (name: string, root: string) => ({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: { name, root, include: ["test/**/*.test.ts"], testTimeout: 30_000, hookTimeout: 30_000 }
})

export default defineWorkspace([
  project("gateway", "packages/gateway"),
  project("agents", "packages/agents"),
  project("server", "packages/server"),
  project("demo", "apps/demo"),
  project("docs", ".")
])
