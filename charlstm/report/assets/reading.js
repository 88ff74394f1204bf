// What the network has read of a text: the ids of its units and, after each, all values in the
// cells. As `sample` does it, a text that was typed is read from the state before any text, but one
// that the model began stands after a line end, where the corpus has any.
class Reading {
  constructor(network, vocabulary) {
    Object.assign(this, { network, vocabulary });
    this.ids = [];
    this.names = []; // of the units, as they are shown
    this.values = []; // after each unit that was read
    this.bits = []; // -log2 p of each unit; null where it is outside, and of the first
    if (vocabulary.line_end !== null) {
      network.step(vocabulary.line_end);
    }
    this.begin = network.values.slice();
    this.at = -1; // where the network stands
    this.own = false; // whether the model wrote the first unit
  }

  // How many units have been read.
  get length() {
    return this.values.length;
  }

  get pending() {
    return this.length < this.ids.length;
  }

  // Take over the units of a text. What was read of it before need not be read again.
  take(ids, names) {
    let same = 0;
    while (same < this.length && same < ids.length && ids[same] === this.ids[same]) {
      same++;
    }
    Object.assign(this, { ids, names, own: this.own && same > 0 });
    this.values.length = same;
    this.bits.length = same;
  }

  // Add a unit that the model has drawn.
  push(id, name) {
    this.own ||= this.length === 0;
    this.ids.push(id);
    this.names.push(name);
  }

  // Read one more unit; return whether there was one.
  next() {
    const t = this.length;
    if (!this.pending) {
      return false;
    }
    const id = this.ids[t];
    const p = softmax(this.logitsAt(t));
    const given = t === 0 || this.isOutside(t);
    this.bits.push(given ? null : -Math.log2(p[id]));
    if (t === 0 && !(this.own && this.vocabulary.line_end !== null)) {
      this.network.begin();
    }
    this.network.step(id);
    this.values.push(this.network.values.slice());
    this.at = t + 1;
    return true;
  }

  isOutside(t) {
    return this.ids[t] === this.vocabulary.unknown;
  }

  // All values in the cells after t units.
  valuesAt(t) {
    return t > 0 ? this.values[t - 1] : this.begin;
  }

  // The logits of the unit that comes after t others.
  logitsAt(t) {
    const { network, vocabulary } = this;
    if (t === 0 && vocabulary.line_end === null) {
      return vocabulary.counts.map(Math.log);
    }
    if (this.at !== t) {
      network.load(this.valuesAt(t));
      this.at = t;
    }
    return network.logits;
  }
}
