// The events of one job in the order of their seqs, and the job at any of them.

import { copy, empty, fold } from "./fold.js";

/** Events between two copies of the state: so many are folded at the most when the playhead is dragged. */
const STRIDE = 250;
/** Events that a page keeps; older ones are folded into the state with which the timeline begins. */
const MOST = 20_000;

export class Timeline {
  constructor(most = MOST) {
    this.most = most;
    this.clear();
  }

  clear() {
    this.entries = [];
    this.head = empty();
    /** The state before the first entry that is kept. */
    this.base = empty();
    this.copies = [];
    this.position = 0n;
    this.bands = [];
    this.cursor = null;
  }

  /** The first seq that the playhead can reach. */
  get first() {
    return this.base.seq;
  }

  get last() {
    return this.head.seq;
  }

  /**
   * Takes an event that has a seq or comes next. Whether it was new: what is told twice is known by its position.
   */
  push({ event, data, position, seq, how }) {
    const place = position === undefined ? this.position + 1n : BigInt(position);
    if (place <= this.position) return false;
    this.position = place;
    const entry = { seq: seq ?? this.head.seq + 1, event, data, how };
    const status = this.head.status;
    fold(this.head, entry);
    this.entries.push(entry);
    if (this.head.status !== status || this.bands.length === 0) {
      this.bands.push({ seq: entry.seq, status: this.head.status });
      if (this.bands.length > 500) this.bands.splice(1, 1);
    }
    if (this.entries.length % STRIDE === 0) this.copies.push(copy(this.head));
    if (this.entries.length > this.most) this.#forget();
    return true;
  }

  /** The job as it was at a seq. What is returned is good until the next call. */
  at(seq) {
    const wanted = Math.min(Math.max(seq, this.first), this.last);
    if (wanted === this.last) return this.head;
    const from = this.#before(wanted);
    const state = this.cursor && this.cursor.seq <= wanted && this.cursor.seq >= from.seq ? this.cursor : copy(from);
    let index = this.index(state.seq + 1);
    while (state.seq < wanted) fold(state, this.entries[index++]);
    this.cursor = state;
    return state;
  }

  /** Where the entry of a seq is, or the next one behind it. */
  index(seq) {
    let low = 0;
    let high = this.entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.entries[middle].seq < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #before(seq) {
    let found = this.base;
    for (const one of this.copies) {
      if (one.seq > seq) break;
      found = one;
    }
    return found;
  }

  #forget() {
    const kept = this.copies.findIndex((one) => one.seq >= this.entries[STRIDE * 4 - 1].seq);
    this.base = this.copies[kept];
    this.copies.splice(0, kept + 1);
    this.entries.splice(0, this.index(this.base.seq + 1));
    this.cursor = null;
  }
}
