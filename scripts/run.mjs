// Runs a command of this repository on a machine that has nothing but Node.js and npm: installs what the lockfile names,
// when it is not there yet, and then starts the command. No dependencies of its own.
import { spawn } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const bin = (name) => join(root, "node_modules", ".bin", name)
const source = ["--conditions=@postilion/source", "--import", "tsx"]

const vitest = (...args) => [bin("vitest"), "run", ...args, "--maxWorkers=2", "--minWorkers=1"]
const only = (...names) => names.map((name) => `--project=${name}`)

const commands = {
  demo: [process.execPath, ...source, "apps/demo/src/main.ts"],
  // What users run is the compiled code: that is what is measured.
  bench: [process.execPath, "--expose-gc", "apps/bench/dist/main.js"],
  faults: [process.execPath, "apps/faults/dist/main.js"],
  // In whichever folder it was typed, which need not be this one.
  postilion: [
    process.execPath,
    "--conditions=@postilion/source",
    `--import=${pathToFileURL(join(root, "node_modules/tsx/dist/loader.mjs"))}`,
    join(root, "packages/cli/src/main.ts")
  ],
  test: [
    // What leaves nothing behind in its process: half the time would go into loading modules again.
    vitest(...only("gateway", "server", "docs"), "--no-isolate"),
    vitest(...only("agents", "client", "cli"))
  ],
  slow: vitest(...only("slow")),
  interop: vitest(...only("interop"))
}

const run = (command, args, cwd = root) =>
  new Promise((resolve) => {
    const child = spawn(command, args, { cwd, stdio: "inherit" })
    const forward = (signal) => child.kill(signal)
    process.on("SIGTERM", forward)
    // A terminal sends Ctrl-C to the child itself: this one only has to outlive it.
    process.on("SIGINT", () => {})
    child.on("exit", (code, signal) => resolve(code ?? (signal === "SIGINT" ? 130 : 143)))
    child.on("error", (error) => {
      process.stderr.write(`${command} could not be started: ${error.message}\n`)
      resolve(1)
    })
  })

/** Whether what is installed is what the lockfile names: pnpm keeps a copy of the one it installed from. */
const installed = () => {
  const copy = join(root, "node_modules", ".pnpm", "lock.yaml")
  return existsSync(copy) && readFileSync(copy, "utf8") === readFileSync(join(root, "pnpm-lock.yaml"), "utf8")
}

const [name = "", ...args] = process.argv.slice(2)
const command = commands[name]
if (command === undefined) {
  process.stderr.write(`unknown command "${name}"; commands: ${Object.keys(commands).join(", ")}\n`)
  process.exit(2)
}
if (Number(process.versions.node.split(".")[0]) < 20) {
  process.stderr.write(`Postilion needs Node.js 20 or newer; this is ${process.version}. See https://nodejs.org\n`)
  process.exit(1)
}
if (!installed()) {
  const { packageManager } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
  process.stderr.write("Installing dependencies (once; SQLite may have to be compiled, about a minute) ...\n")
  const npx = process.platform === "win32" ? "npx.cmd" : "npx"
  const code = await run(npx, ["--yes", packageManager, "install", "--frozen-lockfile"])
  if (code !== 0) process.exit(code)
}
if (name === "bench" || name === "faults") {
  const code = await run(bin("tsc"), ["-b", `apps/${name}`])
  if (code !== 0) process.exit(code)
}
// npm goes to where the package is, and keeps where it was called from here.
const here = process.env.INIT_CWD ?? process.cwd()
let failed = 0
for (const [file, ...fixed] of Array.isArray(command[0]) ? command : [command]) {
  const code = await run(file, [...fixed, ...args], name === "postilion" ? here : root)
  failed ||= code
}
process.exit(failed)
