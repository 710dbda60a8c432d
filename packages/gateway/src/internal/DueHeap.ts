interface Due {
  readonly key: string
  at: number
}

/** Ties go by key, so that ids that were made in order come due in order. */
const before = (a: Due, b: Due): boolean => (a.at === b.at ? a.key < b.key : a.at < b.at)

/** Keys ordered by when they are due: a binary heap that knows where each key stands, so that any of them can move. */
export class DueHeap {
  private readonly heap: Array<Due> = []
  private readonly places = new Map<string, number>()

  get size(): number {
    return this.heap.length
  }
  has(key: string): boolean {
    return this.places.has(key)
  }
  first(): { readonly key: string; readonly at: number } | undefined {
    return this.heap[0]
  }
  /** Adds `key`, or moves it. O(log n). */
  set(key: string, at: number): void {
    const place = this.places.get(key)
    if (place === undefined) {
      this.heap.push({ key, at })
      this.up(this.heap.length - 1)
      return
    }
    this.node(place).at = at
    this.up(this.down(place))
  }
  /** O(log n). */
  delete(key: string): void {
    const place = this.places.get(key)
    if (place === undefined) return
    this.places.delete(key)
    const last = this.heap.pop()
    if (last === undefined || last.key === key) return
    this.put(last, place)
    this.up(this.down(place))
  }
  clear(): void {
    this.heap.length = 0
    this.places.clear()
  }
  private node(place: number): Due {
    return this.heap[place] as Due
  }
  private put(due: Due, place: number): void {
    this.heap[place] = due
    this.places.set(due.key, place)
  }
  private up(from: number): number {
    const due = this.node(from)
    let place = from
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!before(due, this.node(parent))) break
      this.put(this.node(parent), place)
      place = parent
    }
    this.put(due, place)
    return place
  }
  private down(from: number): number {
    const due = this.node(from)
    let place = from
    while (true) {
      let child = 2 * place + 1
      if (child >= this.heap.length) break
      if (child + 1 < this.heap.length && before(this.node(child + 1), this.node(child))) child += 1
      if (!before(this.node(child), due)) break
      this.put(this.node(child), place)
      place = child
    }
    this.put(due, place)
    return place
  }
}
