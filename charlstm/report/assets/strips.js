// What happens in a layer, as pictures: the gates and states of all units at one place of the text,
// and those of one unit along the text.

// The quantities of each cell in the order of the picture, the gates first, and the equations of a
// unit: what stands in them, and the numbers `now` and `before`, after the unit of text before.
const PICTURES = {
  rnn: {
    names: ["h"],
    gates: 0,
    equations: (now) => [["h′ = tanh(u + v)", decimal(now.h)]],
  },
  gru: {
    names: ["r", "q", "n", "h"],
    gates: 2,
    equations: (now, before) => [
      [
        "h′ = (1 − q) · n + q · h",
        `${factor(1 - now.q)} · ${factor(now.n)} + ${factor(now.q)} · ${factor(before.h)} ≈ ${decimal(now.h)}`,
      ],
    ],
  },
  lstm: {
    names: ["i", "f", "o", "g", "c", "h"],
    gates: 3,
    equations: (now, before) => [
      [
        "c′ = f · c + i · g",
        `${factor(now.f)} · ${factor(before.c)} + ${factor(now.i)} · ${factor(now.g)} ≈ ${decimal(now.c)}`,
      ],
      ["h′ = o · tanh(c′)", `${factor(now.o)} · ${factor(Math.tanh(now.c))} ≈ ${decimal(now.h)}`],
    ],
  },
};

const WIDEST = 128; // units side by side; more are broken into lines
const COLUMNS = { char: 20, byte: 36, word: 76 }; // pixels of a unit of text in the tape
const ROW = 20; // pixels of a quantity, in a strip or in the tape
const LINE = 11; // pixels of a line of a strip, if it has several
const MARGIN = 24; // pixels at the left of the tape, for the letters

const decimal = (x) => number(x, 2);

// A factor has a digit more than a result, which then is what a reader gets who computes it.
const factor = (x) => (x < 0 ? `(${number(x, 3)})` : number(x, 3));

// A canvas as sharp as the screen. draw(context, width, height) is called when its size, the theme
// or the language changes, and by `redraw`.
function canvas(attributes, draw) {
  const node = element("canvas", attributes);
  node.redraw = () => {
    const { clientWidth: width, clientHeight: height } = node;
    const scale = window.devicePixelRatio;
    node.width = Math.round(width * scale);
    node.height = Math.round(height * scale);
    const context = node.getContext("2d");
    context.scale(scale, scale);
    draw(context, width, height);
  };
  new ResizeObserver(node.redraw).observe(node);
  onChange(node.redraw);
  return node;
}

// A function that fills rectangles by values of a quantity, from -1 (cold) to 1 (warm). A cell state
// has no bounds; it is drawn as its tanh, which is what the cell shows of it.
function filler(context, name) {
  const [warm, cold] = [colour("--warm"), colour("--cold")];
  return (value, x, y, width, height) => {
    const strength = name === "c" ? Math.tanh(value) : value;
    context.globalAlpha = Math.min(1, Math.abs(strength));
    context.fillStyle = strength < 0 ? cold : warm;
    context.fillRect(x, y, width, height);
    context.globalAlpha = 1;
  };
}

// The pictures of a network that has read a text. `layer` and `unit` are chosen here; the place in
// the text is given to `show`, and choose(t) is called where a unit of text is pointed at.
class Strips {
  constructor(data, network, reading, choose) {
    Object.assign(this, { data, network, reading, choose, ...PICTURES[data.cell] });
    this.layer = 0;
    this.unit = 0;
    this.t = 0;
    this.now = element("div", { class: "now" }, ...this.#rows());
    this.key = this.#key();
    this.equation = element("dl", { class: "equations" });
    this.tape = this.#tape();
    this.heading = labelled("h3", {}, "alive.along", { unit: 1 });
    if (data.widths.length > 1) {
      const options = data.widths.map((_, k) => [
        k,
        { label: "alive.layer", values: { n: k + 1 } },
      ]);
      this.layers = choices("alive.layers", options, (k) => this.#chooseLayer(k));
      this.layers.choose(0);
    } else {
      this.#chooseLayer(0);
    }
    onChange(() => this.#describe());
  }

  // The numbers of the chosen unit after t units of text, by letter.
  numbers(t) {
    const values = this.reading.valuesAt(t);
    return Object.fromEntries(this.names.map((name) => [name, values[this.#at(name) + this.unit]]));
  }

  // Show what there is after t units of text.
  show(t) {
    this.t = t;
    for (const { strip } of this.rows.values()) {
      strip.redraw();
    }
    this.tape.redraw();
    this.#describe();
  }

  // Where a quantity of the chosen layer begins among all values.
  #at(name) {
    return this.network.layers[this.layer].values[name].byteOffset / 4;
  }

  get #H() {
    return this.data.widths[this.layer];
  }

  // A row for each quantity, and a slider that chooses a unit.
  #rows() {
    this.rows = new Map();
    for (const name of this.names) {
      const what = name === "h" ? `h_${this.data.cell}` : name;
      const strip = canvas({ class: "strip", "aria-hidden": "true" }, (context, width, height) => {
        this.#drawStrip(context, width, height, name);
      });
      strip.addEventListener("pointerdown", (event) => this.#point(event));
      strip.addEventListener("pointermove", (event) => event.buttons && this.#point(event));
      const value = element("span", { class: "number" });
      const letter = element("span", { class: "letter" }, name);
      const meaning = labelled("span", { class: "meaning" }, `alive.${what}`);
      const row = element("div", { class: "quantity" }, letter, meaning, value, strip);
      this.rows.set(name, { row, strip, value });
    }
    this.slider = element("input", { type: "range", min: 1, max: this.#H, value: 1 });
    this.slider.addEventListener("input", () => this.#chooseUnit(this.slider.valueAsNumber - 1));
    this.slider.id = "alive-unit";
    this.chosen = labelled("label", { for: "alive-unit" }, "alive.unit", { unit: 1 });
    return [...[...this.rows.values()].map(({ row }) => row), this.chosen, this.slider];
  }

  // What the colours of the strips mean.
  #key() {
    const kinds = this.gates ? ["gate", "signed"] : ["signed"];
    return element("ul", { class: "key" }, ...kinds.map((kind) => ramp(kind)));
  }

  #chooseLayer(k) {
    this.layer = k;
    for (const { strip } of this.rows.values()) {
      strip.style.height = `${Math.max(ROW, this.#grid().lines * LINE)}px`;
    }
    this.slider.max = this.#H;
    this.#chooseUnit(Math.min(this.unit, this.#H - 1));
  }

  #chooseUnit(k) {
    this.unit = k;
    this.slider.value = k + 1;
    this.show(this.t);
  }

  // Choose the unit that a pointer is at.
  #point(event) {
    const { lines, columns } = this.#grid();
    const { left, top, width, height } = event.currentTarget.getBoundingClientRect();
    const column = Math.floor(((event.clientX - left) / width) * columns);
    const line = Math.floor(((event.clientY - top) / height) * lines);
    this.#chooseUnit(Math.max(0, Math.min(this.#H - 1, line * columns + column)));
  }

  // How the units of the layer are broken into lines.
  #grid() {
    const lines = Math.ceil(this.#H / WIDEST);
    return { lines, columns: Math.ceil(this.#H / lines) };
  }

  #drawStrip(context, width, height, name) {
    const { lines, columns } = this.#grid();
    const values = this.reading.valuesAt(this.t);
    const paint = filler(context, name);
    const [w, h, at] = [width / columns, height / lines, this.#at(name)];
    for (let k = 0; k < this.#H; k++) {
      const line = Math.floor(k / columns);
      paint(values[at + k], (k % columns) * w, line * h, Math.max(w - 0.5, 0.5), h - (lines > 1));
    }
    const line = Math.floor(this.unit / columns);
    context.strokeStyle = colour("--ink");
    context.lineWidth = 1.5;
    const x = Math.max(1, Math.min((this.unit % columns) * w - 0.5, width - w - 1));
    context.strokeRect(x, line * h + 0.75, w, h - 1.5);
  }

  // Put the numbers of the chosen unit into words and equations.
  #describe() {
    const { t, unit, reading } = this;
    const now = this.numbers(t);
    for (const [name, { value }] of this.rows) {
      value.textContent = decimal(now[name]);
    }
    label(this.heading, "alive.along", { unit: unit + 1 });
    label(this.chosen, "alive.unit", { unit: unit + 1 });
    const spoken = this.names.map((name) => `${name} ${decimal(now[name])}`).join(", ");
    this.slider.setAttribute("aria-valuetext", `${unit + 1}: ${spoken}`);
    this.tape.setAttribute("aria-label", text("alive.tape", { unit: unit + 1, numbers: spoken }));
    const before = t > 1 || reading.own ? this.numbers(Math.max(0, t - 1)) : { c: 0, h: 0 };
    const lines = t > 0 ? this.equations(now, before) : [];
    this.equation.replaceChildren(
      ...lines.flatMap(([left, right]) => [element("dt", {}, left), element("dd", {}, right)]),
    );
  }

  // --- the chosen unit along the text ---

  #tape() {
    const node = canvas({ class: "tape", role: "img" }, (context, width) => {
      this.#drawTape(context, width);
    });
    node.style.height = `${(this.names.length + 1) * (ROW + 2) + 6}px`;
    const pointed = (event) => {
      const { first, column } = this.#window(node.clientWidth);
      const k = Math.floor((event.clientX - node.getBoundingClientRect().left - MARGIN) / column);
      this.choose(Math.max(0, Math.min(this.reading.length, first + k + 1)));
    };
    node.addEventListener("pointerdown", pointed);
    node.addEventListener("pointermove", (event) => event.buttons && pointed(event));
    return node;
  }

  // The units of text that have room beside each other, so that the place t is among them.
  #window(width) {
    const column = COLUMNS[this.data.vocabulary.unit];
    const room = Math.max(1, Math.floor((width - MARGIN) / column));
    const last = Math.min(this.reading.length, Math.max(room, this.t + Math.floor(room / 4)));
    const first = Math.max(0, last - room);
    return { first, last, column };
  }

  #drawTape(context, width) {
    const { first, last, column } = this.#window(width);
    const { reading, names, unit } = this;
    context.textBaseline = "middle";
    context.textAlign = "center";
    const [ink, muted] = [colour("--ink"), colour("--muted")];
    const font = getComputedStyle(this.now).fontFamily;
    const strong = Number(colour("--strongest"));
    context.font = `600 14px ${font}`;
    context.fillStyle = muted;
    const yOf = (row) => row * (ROW + 2) + 4;
    names.forEach((name, row) => context.fillText(name, MARGIN / 2 - 3, yOf(row + 1) + ROW / 2));
    const painters = names.map((name) => filler(context, name));
    const surprise = filler(context, "bits");
    for (let t = first; t < last; t++) {
      const x = MARGIN + (t - first) * column;
      surprise(Math.min(1, (reading.bits[t] ?? 0) / 10) * strong, x, yOf(0), column - 1, ROW);
      context.fillStyle = ink;
      context.fillText(reading.names[t], x + column / 2, yOf(0) + ROW / 2 + 1, column - 2);
      if (reading.isOutside(t)) {
        context.strokeStyle = muted;
        context.setLineDash([2, 2]);
        context.strokeRect(x + 0.5, yOf(0) + 0.5, column - 2, ROW - 1);
        context.setLineDash([]);
      }
      const values = reading.valuesAt(t + 1);
      names.forEach((name, row) => {
        painters[row](values[this.#at(name) + unit], x, yOf(row + 1), column - 1, ROW);
      });
    }
    if (this.t > first && this.t <= last) {
      context.strokeStyle = ink;
      context.lineWidth = 1.5;
      const x = MARGIN + (this.t - 1 - first) * column;
      context.strokeRect(x - 1, 2, column + 1, yOf(names.length + 1) - 3);
    }
  }
}
