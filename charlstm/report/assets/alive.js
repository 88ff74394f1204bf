// The model at work: what is typed is read unit by unit, and continued.

const MEMORY = 32e6; // bytes that the values of a text may take
const LONGEST = 5000; // characters of a text
const SHOWN = 10; // guesses
const BUDGET = 10; // milliseconds of each frame in which the model works
const PACES = [1, 2, 4, 8, 16, 32, Infinity]; // units a second
const USUAL = 200; // units to write where the model's settings name none

section("alive", (root, data) => {
  if (data.left_out) {
    const { weights, most } = data.left_out;
    const values = { weights: number(weights), most: number(most) };
    root.append(labelled("p", { class: "notice" }, "alive.left_out", values));
  } else {
    new Alive(root, data);
  }
});

class Alive {
  constructor(root, data) {
    const network = new Network(data);
    this.data = data;
    this.vocabulary = new VOCABULARIES[data.vocabulary.unit](data.vocabulary);
    this.reading = new Reading(network, this.vocabulary);
    this.strips = new Strips(data, network, this.reading, (t) => this.#look(t));
    this.longest = Math.min(LONGEST, Math.floor(MEMORY / network.values.byteLength));
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.t = 0; // the place in the text that is shown: after so many units
    this.left = 0; // units that are still to be written
    this.due = 0; // units that the pace allows to be written by now
    this.time = 0; // of the frame before
    this.waiting = false; // for a frame
    this.outside = ""; // units that the model does not know, but not while a syllable is composed
    this.#fill(root);
    this.#typed();
  }

  #fill(root) {
    const { strips } = this;
    const writing = element("div", {}, ...this.#controls(), ...this.#guessing());
    const inside = element("div", {}, labelled("h3", {}, "alive.inside"));
    inside.append(...[strips.layers, strips.now, strips.key, strips.equation].filter(Boolean));
    inside.append(labelled("p", { class: "note" }, `alive.primes_${this.data.cell}`));
    const along = labelled("p", { class: "note" }, "alive.along_note");
    root.append(element("div", { class: "desk" }, writing, inside));
    root.append(strips.heading, along, strips.tape);
    if (this.data.weights.precision !== "<f4") {
      root.append(labelled("p", { class: "note" }, "alive.rounded"));
    }
    root.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("selectionchange", () => {
      if (document.activeElement === this.area && !this.left) {
        this.#look(this.#caret());
      }
    });
    onChange(() => this.#show());
  }

  // --- what can be operated ---

  #controls() {
    const { seed, temperature } = this.data;
    this.area = element("textarea", {
      id: "alive-text",
      rows: 4,
      dir: "auto",
      maxlength: this.longest,
      spellcheck: "false",
      autocomplete: "off",
      autocapitalize: "off",
    });
    this.area.value = seed;
    this.area.addEventListener("input", (event) => this.#typed(event.isComposing));
    this.area.addEventListener("compositionend", () => this.#typed());
    this.go = element("button", { type: "button", class: "go" });
    this.go.addEventListener("click", () => this.#toggle());
    const clear = labelled("button", { type: "button" }, "alive.clear");
    clear.addEventListener("click", () => this.#clear());
    this.status = element("p", { class: "status", role: "status" });
    const heat = { min: 0, max: 2, step: 0.05, value: temperature };
    const speed = { min: 0, max: PACES.length - 1, step: 1, value: 4 };
    this.temperature = this.#slider("temperature", heat, (value) => number(value, 2));
    this.pace = this.#slider("pace", speed, (value) => this.#paceText(PACES[value]));
    return [
      element("h3", {}, labelled("label", { for: "alive-text" }, "alive.text")),
      this.area,
      this.status,
      element("div", { class: "controls" }, this.go, clear),
      element("div", { class: "sliders" }, ...this.temperature.parts, ...this.pace.parts),
      labelled("p", { class: "note" }, "alive.keys"),
    ];
  }

  // A slider with its name and what its value means.
  #slider(name, attributes, textOf) {
    const input = element("input", { type: "range", id: `alive-${name}`, ...attributes });
    const output = element("output", { for: input.id });
    const describe = () => {
      output.textContent = textOf(input.valueAsNumber);
      input.setAttribute("aria-valuetext", output.textContent);
      this.#wake();
    };
    input.addEventListener("input", describe);
    onChange(describe);
    describe();
    return { input, parts: [labelled("label", { for: input.id }, `alive.${name}`), input, output] };
  }

  #paceText(pace) {
    return pace === Infinity ? text("alive.fastest") : text("alive.a_second", { n: pace });
  }

  // What may come next; each guess is a button that writes it.
  #guessing() {
    this.where = element("span");
    this.before = element("bdi", { class: "before" });
    const count = Math.min(SHOWN, this.data.V);
    this.guesses = Array.from({ length: count }, (_, k) => {
      const name = element("span", { class: "name" });
      const bar = element("span", { class: "bar" });
      const value = element("span", { class: "value" });
      const track = element("span", { class: "track" }, bar);
      const button = element("button", { type: "button" }, name, track, value);
      button.addEventListener("click", () => this.#accept(k));
      return { button, name, bar, value, id: 0 };
    });
    const rows = this.guesses.map(({ button }) => element("li", {}, button));
    return [
      labelled("h3", {}, "alive.next"),
      element("p", { class: "context" }, this.where, this.before),
      element("ol", { class: `guesses ${this.data.vocabulary.unit}` }, ...rows),
      labelled("p", { class: "note" }, "alive.press"),
      labelled("p", { class: "note" }, "page.signs"),
    ];
  }

  #key(event) {
    if (event.key === "Escape" && this.left) {
      this.#stop();
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) {
      event.preventDefault();
      this.#toggle();
    }
  }

  // --- what happens then ---

  // The text was changed by hand.
  #typed(composing = false) {
    const { vocabulary } = this;
    const units = vocabulary.split(vocabulary.normalised(this.area.value));
    const ids = units.map((unit) => vocabulary.idOf.get(unit) ?? vocabulary.unknown);
    const names = units.map((unit) => vocabulary.nameOf(unit));
    this.reading.take(ids, names);
    const outside = new Set(names.filter((_, t) => this.reading.isOutside(t)));
    this.outside = composing ? "" : [...outside].slice(0, 8).join(" ");
    this.writer = null;
    this.#look(this.#caret());
  }

  #clear() {
    this.#stop();
    this.area.value = "";
    this.#typed();
    this.area.focus();
  }

  #toggle() {
    if (this.left) {
      this.#stop();
    } else if (!this.full) {
      this.left = this.data.length || USUAL;
      this.due = 1;
      this.time = performance.now();
      this.area.readOnly = true;
      this.#wake();
    }
  }

  #stop() {
    this.left = 0;
    this.area.readOnly = false;
    this.#wake();
  }

  #accept(k) {
    const { reading } = this;
    if (!this.left && !this.full && !reading.pending && this.t === reading.length) {
      this.#write(this.guesses[k].id);
      this.#wake();
    }
  }

  // Write a unit at the end of the text.
  #write(id) {
    const { reading, vocabulary, area } = this;
    this.writer ??= vocabulary.writer(area.value);
    reading.push(id, vocabulary.nameOf(vocabulary.units[id]));
    area.value += this.writer(id).replaceAll("\r", ""); // a text area ends lines with LF alone
    area.scrollTop = area.scrollHeight;
    this.t = reading.ids.length;
    if (this.full) {
      this.#stop();
    }
  }

  // Whether the text is as long as the page can hold.
  get full() {
    return this.area.value.length >= this.longest;
  }

  // How many units stand before the caret.
  #caret() {
    const { value, selectionEnd } = this.area;
    const all = this.reading.ids.length;
    const units = this.vocabulary.encode(value.slice(0, selectionEnd)).length;
    return selectionEnd < value.length ? Math.min(all, units) : all;
  }

  // Show another place of the text.
  #look(t) {
    this.t = t;
    this.#wake();
  }

  // --- frame by frame ---

  #wake() {
    if (!this.waiting) {
      this.waiting = true;
      requestAnimationFrame((time) => this.#work(time));
    }
  }

  // Read what is to be read, write what is to be written, and show it.
  #work(time) {
    this.waiting = false;
    const { reading } = this;
    const over = performance.now() + BUDGET;
    const inTime = () => performance.now() < over;
    while (inTime() && reading.next()) {}
    const pace = this.calm.matches ? Infinity : PACES[this.pace.input.valueAsNumber];
    const passed = (time - this.time) / 1000;
    this.due = pace === Infinity ? pace : Math.min(pace, this.due + passed * pace);
    this.time = time;
    while (this.left && this.due >= 1 && !reading.pending && inTime()) {
      this.#write(draw(this.#probabilities(reading.length), Math.random()));
      reading.next();
      this.due--;
      this.left = Math.max(0, this.left - 1);
      if (!this.left) {
        this.#stop();
      }
    }
    if (!this.calm.matches || !(this.left || reading.pending)) {
      this.#show();
    }
    if (this.left || reading.pending) {
      this.#wake();
    }
  }

  #probabilities(t) {
    const temperature = this.temperature.input.valueAsNumber;
    return softmax(this.reading.logitsAt(t), temperature, this.vocabulary.unknown);
  }

  #show() {
    const t = Math.min(this.t, this.reading.length);
    this.#label(this.go, this.left ? "alive.stop" : "alive.go_on");
    this.strips.show(t);
    this.#showGuesses(t);
    this.#showStatus();
  }

  // Let an element show a label that it does not show yet.
  #label(node, key) {
    if (node.dataset.label !== key) {
      label(node, key);
    }
  }

  #showGuesses(t) {
    const { reading, vocabulary, guesses } = this;
    const p = this.#probabilities(t);
    const likeliest = Array.from(p.keys()).sort((a, b) => p[b] - p[a] || a - b);
    guesses.forEach((guess, k) => {
      guess.id = likeliest[k];
      guess.name.textContent = vocabulary.nameOf(vocabulary.units[guess.id]);
      guess.value.textContent = percent(p[guess.id]);
      guess.bar.style.setProperty("--share", p[guess.id].toFixed(4));
      guess.button.classList.toggle(
        "marked",
        t < reading.ids.length && guess.id === reading.ids[t],
      );
      guess.button.setAttribute("aria-disabled", String(t < reading.ids.length));
    });
    this.#label(this.where, t ? "alive.after" : "alive.at_start");
    this.before.textContent = vocabulary.tail(reading.ids, reading.names, t);
  }

  #showStatus() {
    const { status, outside } = this;
    let message = "";
    if (this.full) {
      message = text("alive.full");
    } else if (outside) {
      message = text("alive.outside", { units: outside });
    }
    if (status.textContent !== message) {
      status.textContent = message; // only then: it is read aloud
    }
  }
}
