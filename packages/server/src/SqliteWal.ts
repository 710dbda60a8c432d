import { closeSync, openSync, readSync } from "node:fs"

/**
 * SQLite reads a write-ahead log up to the first frame whose checksum fails and writes over the rest: right after a power
 * cut, where that frame was never committed, and a silent loss where the file was damaged. This tells the two apart.
 *
 * The format: https://www.sqlite.org/fileformat2.html#walformat
 */

const HEADER = 32
const FRAME_HEADER = 24
/** The magic number's last bit says in which byte order checksums are computed. */
const MAGIC = 0x377f0682

interface Sums {
  a: number
  b: number
}

const checksum = (sums: Sums, bytes: Buffer, bigEndian: boolean): void => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let { a, b } = sums
  for (let i = 0; i < bytes.length; i += 8) {
    a = (a + view.getUint32(i, !bigEndian) + b) >>> 0
    b = (b + view.getUint32(i + 4, !bigEndian) + a) >>> 0
  }
  sums.a = a
  sums.b = b
}

/** What is wrong with a log that was opened; `undefined` when SQLite will read all that was committed to it. */
const damageIn = (descriptor: number): string | undefined => {
  const header = Buffer.alloc(HEADER)
  const read = (into: Buffer, position: number): boolean =>
    readSync(descriptor, into, 0, into.length, position) === into.length
  if (!read(header, 0)) return undefined
  const magic = header.readUInt32BE(0)
  const pageSize = header.readUInt32BE(8)
  const bigEndian = (magic & 1) === 1
  const sums: Sums = { a: 0, b: 0 }
  checksum(sums, header.subarray(0, 24), bigEndian)
  if ((magic & ~1) !== MAGIC || sums.a !== header.readUInt32BE(24) || sums.b !== header.readUInt32BE(28)) {
    return "its header is not what was written"
  }
  const salts = header.subarray(16, 24)
  const frame = Buffer.alloc(FRAME_HEADER + pageSize)
  /** The first frame that does not fit, from 1. */
  let broken: number | undefined
  let committed = false
  for (let number = 1; read(frame, HEADER + (number - 1) * frame.length); number++) {
    const current = frame.subarray(8, 16).equals(salts)
    if (broken === undefined) {
      checksum(sums, frame.subarray(0, 8), bigEndian)
      checksum(sums, frame.subarray(FRAME_HEADER), bigEndian)
      const fits = current && sums.a === frame.readUInt32BE(16) && sums.b === frame.readUInt32BE(20)
      if (fits) continue
      broken = number
    }
    if (!current) continue
    // A frame after a commit is written once that commit is on disk, and with it all that was before.
    if (committed) return `its frame ${broken} is not what was written, and later ones were committed`
    committed = frame.readUInt32BE(4) !== 0
  }
  return undefined
}

/** What is wrong with the write-ahead log at `file`; `undefined` when nothing is, or there is none. */
export const damageOf = (file: string): string | undefined => {
  let descriptor: number
  try {
    descriptor = openSync(file, "r")
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined
    throw cause
  }
  try {
    return damageIn(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
