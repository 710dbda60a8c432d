// Writes docs/cli.md from the commands of @postilion/cli. A test holds it to be current.
import { spawnSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const program = 'import { markdown } from "./packages/cli/src/Reference.ts"; process.stdout.write(markdown())'
const { error, status, stderr, stdout } = spawnSync(
  process.execPath,
  ["--conditions=@postilion/source", "--import", "tsx", "--input-type=module", "--eval", program],
  { cwd: root, encoding: "utf8" }
)
if (status !== 0) {
  process.stderr.write(`the command line's page could not be written: ${error?.message ?? stderr}\n`)
  process.exit(1)
}
writeFileSync(join(root, "docs/cli.md"), stdout)
const biome = join(root, "node_modules", ".bin", "biome")
process.exit(spawnSync(biome, ["format", "--write", "docs"], { cwd: root, stdio: "inherit" }).status ?? 1)
