// Runs command lines one after the other, and at last prints what each of them printed and ended with.
import { run } from "@postilion/cli"
import { Effect } from "effect"

const results = []
const write = { stdout: process.stdout.write.bind(process.stdout), stderr: process.stderr.write.bind(process.stderr) }
for (const line of JSON.parse(process.argv[2] ?? "[]")) {
  const printed = { stdout: "", stderr: "" }
  for (const place of ["stdout", "stderr"]) {
    process[place].write = (text) => {
      printed[place] += text
      return true
    }
  }
  const code = await Effect.runPromise(run([process.execPath, "postilion", ...line]))
  results.push({ code, ...printed })
}
for (const place of ["stdout", "stderr"]) process[place].write = write[place]
process.stdout.write(`\u0000${JSON.stringify(results)}\u0000`, () => process.exit(0))
