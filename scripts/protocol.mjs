// Writes docs/protocol.md, docs/protocol.json and docs/asyncapi.json from the schemas of @postilion/client. A test holds them to be current.
import { spawnSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const program =
  'import { asyncApi } from "./packages/client/src/AsyncApi.ts"; import { jsonSchema, markdown } from "./packages/client/src/Reference.ts"; process.stdout.write(JSON.stringify([markdown(), jsonSchema(), asyncApi()]))'
const { error, status, stderr, stdout } = spawnSync(
  process.execPath,
  ["--conditions=@postilion/source", "--import", "tsx", "--input-type=module", "--eval", program],
  { cwd: root, encoding: "utf8" }
)
if (status !== 0) {
  process.stderr.write(`the protocol could not be written: ${error?.message ?? stderr}\n`)
  process.exit(1)
}
const [markdown, schema, asyncApi] = JSON.parse(stdout)
writeFileSync(join(root, "docs/protocol.md"), markdown)
writeFileSync(join(root, "docs/protocol.json"), `${JSON.stringify(schema, null, 2)}\n`)
writeFileSync(join(root, "docs/asyncapi.json"), `${JSON.stringify(asyncApi, null, 2)}\n`)
const biome = join(root, "node_modules", ".bin", "biome")
process.exit(spawnSync(biome, ["format", "--write", "docs"], { cwd: root, stdio: "inherit" }).status ?? 1)
