#!/usr/bin/env node
import { existsSync } from "node:fs"

const built = new URL("../dist/main.js", import.meta.url)
if (existsSync(built)) await import(built.href)
else {
  // A clone in which nothing is built: from source, as `npm run postilion` does it.
  process.argv.splice(2, 0, "postilion")
  await import("../../../scripts/run.mjs")
}
