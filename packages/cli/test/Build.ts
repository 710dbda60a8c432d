import { execFileSync } from "node:child_process"
import { join } from "node:path"

/** What is tested is what is shipped: the bin of a built package. */
export default (): void => {
  const root = join(import.meta.dirname, "../../..")
  execFileSync(join(root, "node_modules/.bin/tsc"), ["-b", "packages/cli"], { cwd: root, stdio: "inherit" })
}
