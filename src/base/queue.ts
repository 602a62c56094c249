/**
 * First in, first out. Promises: taking costs the same whatever waits, and nothing that was taken is kept, also when the queue never
 * runs empty. Leaves to others: bounds.
 */
/** Of all queues that are empty: most are, most of the time. */
const empty: never[] = [];

export class Queue<Item extends object> {
  #items: (Item | undefined)[] = empty;
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }
  /** What is taken next. */
  get first(): Item | undefined {
    return this.#items[this.#head];
  }

  push(item: Item): void {
    if (this.#items === empty) this.#items = [item];
    else this.#items.push(item);
  }

  take(): Item | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) return undefined;
    this.#items[this.#head++] = undefined;
    if (this.#head === this.#items.length) this.clear();
    else if (this.#head >= 64 && this.#head * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  clear(): void {
    this.#items = empty;
    this.#head = 0;
  }
}
