// Writes docs/openapi.json from what @postilion/client declares and @postilion/server serves. A test holds it to be current.
import { spawnSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const program =
  'import { document } from "./packages/server/src/api/Document.ts"; process.stdout.write(JSON.stringify(document()))'
const { error, status, stderr, stdout } = spawnSync(
  process.execPath,
  ["--conditions=@postilion/source", "--import", "tsx", "--input-type=module", "--eval", program],
  { cwd: root, encoding: "utf8", maxBuffer: 2 ** 24 }
)
if (status !== 0) {
  process.stderr.write(`the document could not be written: ${error?.message ?? stderr}\n`)
  process.exit(1)
}
writeFileSync(join(root, "docs/openapi.json"), `${JSON.stringify(JSON.parse(stdout), null, 2)}\n`)
const biome = join(root, "node_modules", ".bin", "biome")
process.exit(spawnSync(biome, ["format", "--write", "docs"], { cwd: root, stdio: "inherit" }).status ?? 1)
