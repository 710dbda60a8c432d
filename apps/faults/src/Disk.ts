import { spawnSync } from "node:child_process"
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** Where the rounds' files are. */
export interface Disk {
  readonly folder: string
  /** Whether it is a disk of its own, small enough to be filled. */
  readonly canFill: boolean
  /** Leaves no room on it; what is returned makes room again. Does nothing where it cannot be filled. */
  readonly fill: () => () => void
  /** Takes it away, with all that is on it. */
  readonly remove: () => void
}

const SIZE = "64m"
const BLOCK = Buffer.alloc(65_536)
const PAGE = 4_096

/**
 * A small file system in memory, where this user may mount one (root, as in most CI containers); else a folder among the
 * temporary ones, on which the disk never gets full.
 */
export const make = (): Disk => {
  const folder = mkdtempSync(join(tmpdir(), "postilion-faults-"))
  const canFill = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${SIZE}`, "tmpfs", folder]).status === 0
  const filler = join(folder, "filler")
  return {
    folder,
    canFill,
    fill: () => {
      if (!canFill) return () => {}
      const file = openSync(filler, "w")
      for (const size of [BLOCK.length, PAGE]) {
        try {
          while (writeSync(file, BLOCK, 0, size) === size) {}
        } catch {
          // Full, as it was to be.
        }
      }
      closeSync(file)
      return () => rmSync(filler, { force: true })
    },
    remove: () => {
      if (canFill) spawnSync("umount", ["-l", folder])
      rmSync(folder, { recursive: true, force: true })
    }
  }
}
