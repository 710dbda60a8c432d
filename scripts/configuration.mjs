// Writes docs/configuration.md and gateway.schema.json from the schema of the configuration. A test holds them to be current.
import { spawnSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const program =
  'import { jsonSchema, markdown } from "./packages/server/src/config/Reference.ts"; process.stdout.write(JSON.stringify([markdown(), jsonSchema()]))'
const { error, status, stderr, stdout } = spawnSync(
  process.execPath,
  ["--conditions=@postilion/source", "--import", "tsx", "--input-type=module", "--eval", program],
  { cwd: root, encoding: "utf8" }
)
if (status !== 0) {
  process.stderr.write(`the configuration could not be written: ${error?.message ?? stderr}\n`)
  process.exit(1)
}
const [markdown, schema] = JSON.parse(stdout)
writeFileSync(join(root, "docs/configuration.md"), markdown)
for (const folder of ["docs", "packages/server"]) {
  writeFileSync(join(root, folder, "gateway.schema.json"), `${JSON.stringify(schema, null, 2)}\n`)
}
const biome = join(root, "node_modules", ".bin", "biome")
process.exit(
  spawnSync(biome, ["format", "--write", "docs", "packages/server/gateway.schema.json"], {
    cwd: root,
    stdio: "inherit"
  }).status ?? 1
)
