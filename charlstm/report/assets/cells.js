// Section 4: the units that follow something nameable, and all units as a heat map.

section("cells", (root, data) => {
  root.append(
    labelled("p", {}, `cells.letters_${data.cell}`),
    labelled("h3", {}, "cells.named_title"),
  );
  if (data.named.length) {
    root.append(labelled("p", {}, "cells.named_intro", { n: number(data.measured) }));
    namedUnits(root, data);
  } else {
    root.append(labelled("p", {}, "cells.nothing_named"));
  }
  root.append(labelled("h3", {}, "cells.map_title"), labelled("p", {}, "cells.map_intro"));
  new HeatMap(root, data);
});

// --- units that follow something ---------------------------------------------------------------

function namedUnits(root, data) {
  const shown = element("div", { class: "found" });
  const groups = element("div", { class: "named" });
  const ordered = [...data.named].sort((a, b) => b.follows - a.follows || b.value - a.value);
  const buttons = [];
  for (const remembered of [true, false]) {
    const rows = ordered.filter((row) => row.remembered === remembered);
    if (!rows.length) {
      continue;
    }
    const list = element("div", { class: "choices" });
    for (const row of rows) {
      const name = labelled("span", {}, `cells.feature_${row.feature}`);
      const value = element("span", { class: "value" }, number(row.value, 2));
      const kind = row.follows ? "feature" : "feature weak";
      const button = element(
        "button",
        { type: "button", class: kind, "aria-pressed": "false" },
        name,
        " ",
        value,
      );
      button.addEventListener("click", () => choose(row, button));
      buttons.push([row, button]);
      list.append(button);
    }
    const title = remembered ? "cells.remembered" : "cells.recognised";
    groups.append(labelled("h4", {}, title), list);
  }
  function choose(row, button) {
    for (const [, each] of buttons) {
      each.setAttribute("aria-pressed", String(each === button));
    }
    shown.replaceChildren(...describedUnit(row, data));
  }
  const borders = [true, false].filter((follows) => ordered.some((row) => row.follows === follows));
  groups.append(
    element(
      "ul",
      { class: "key" },
      ...borders.map((follows) =>
        labelled(
          "li",
          { class: follows ? "border" : "border weak" },
          follows ? "cells.key_follows" : "cells.key_weak",
        ),
      ),
    ),
  );
  root.append(groups, shown);
  const best = ordered.find((row) => row.remembered && row.follows) ?? ordered[0];
  choose(...buttons.find(([row]) => row === best));
}

function describedUnit(row, data) {
  const values = {
    feature: { label: `cells.feature_${row.feature}` },
    value: number(row.value, 2),
    chance: number(row.chance, 2),
    unit: number(row.index + 1),
    quantity: { label: `cells.name_${data.cell}_${row.quantity}` },
    where:
      data.layers.length > 1
        ? { label: "cells.where", values: { letter: row.quantity, n: row.layer + 1 } }
        : row.quantity,
    threshold: row.threshold === null ? "" : number(row.threshold, 2),
  };
  const way = row.rising ? "above" : "below";
  const sentence = row.numeric ? `cells.counts_${row.rising ? "up" : "down"}` : `cells.says_${way}`;
  const judged = row.numeric ? "cells.judged_correlation" : "cells.judged_f1";
  const view = textView(row.units, "cells.found_text", (k) => {
    value.textContent = number(row.values[k], 2);
  });
  view.classList.add("truths");
  view.paint((k) => row.strength[k] / 100);
  if (!row.numeric) {
    view.spans.forEach((span, k) => span.classList.toggle("true", row.truth[k] > 0));
  }
  const value = element("output", {});
  const parts = [
    labelled("p", {}, row.follows ? sentence : "cells.none_follows", values),
    labelled("p", { class: "note" }, judged, values),
    view,
  ];
  const ends = row.numeric
    ? ["cells.key_little", "cells.key_much"]
    : ["cells.key_no", "cells.key_yes"];
  const key = element("ul", { class: "key" }, ramp("signed", ends));
  if (!row.numeric) {
    key.append(
      element(
        "li",
        {},
        element("span", { class: "unit true" }, "abc"),
        " ",
        labelled("span", {}, "cells.key_true", values),
      ),
    );
  }
  key.append(element("li", {}, labelled("span", {}, "cells.key_value"), " ", value));
  parts.push(key);
  view.choose(
    Math.max(
      0,
      row.truth.findIndex((truth) => truth > 0),
    ),
  );
  return parts;
}

// --- the heat map -----------------------------------------------------------------------------

// A layer's gate or state as a picture, a row for each unit and a column for each unit of text,
// and the text painted by the row that is chosen.
class HeatMap {
  constructor(root, data) {
    this.data = data;
    this.layer = 0;
    this.row = 0;
    this.k = 0;
    this.canvas = element("canvas", { class: "map", "aria-hidden": "true" });
    this.marker = element("div", { class: "marker" });
    this.slider = element("input", { type: "range", id: "cells-unit", min: "0", step: "1" });
    this.what = element("p", { class: "note" });
    this.key = element("ul", { class: "key" });
    this.status = element("p", { class: "reading", role: "status" });
    this.view = textView(data.units, "cells.map_text", (k) => this.look(k));
    const names = Object.keys(data.layers[0]);
    const quantities = names.map((name) => [name, { label: `cells.choice_${data.cell}_${name}` }]);
    this.quantities = choices("cells.quantity", quantities, (name) =>
      this.choose(this.layer, name),
    );
    const frame = element("div", { class: "frame" }, this.canvas, this.marker);
    if (data.layers.length > 1) {
      const layers = data.layers.map((_, k) => [k, { label: "cells.layer", values: { n: k + 1 } }]);
      const group = choices("cells.which_layer", layers, (k) => this.choose(k, this.quantity));
      root.append(group);
      this.quantity = names[0];
      group.choose(0);
    }
    root.append(
      this.quantities,
      this.what,
      frame,
      this.key,
      element(
        "div",
        { class: "controls" },
        labelled("label", { for: "cells-unit" }, "cells.slider"),
        this.slider,
        this.status,
      ),
      this.view,
    );
    this.slider.addEventListener("input", () => this.chooseRow(this.slider.valueAsNumber));
    this.canvas.addEventListener("pointerdown", (event) => this.point(event));
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.buttons || event.pointerType === "mouse") {
        this.point(event);
      }
    });
    onChange(() => this.draw());
    this.quantities.choose(names.includes("c") ? "c" : names.at(-1));
    this.view.choose(0);
    this.chooseRow(this.telling());
  }

  // The row to begin with: its values differ much, but each stays for a while.
  telling() {
    const { N, strengths } = this;
    let [best, most] = [0, -1];
    for (let row = 0; row < this.H; row++) {
      const own = strengths.subarray(row * N, (row + 1) * N);
      const mean = own.reduce((sum, x) => sum + x, 0) / N;
      const variance = own.reduce((sum, x) => sum + (x - mean) ** 2, 0) / N;
      const moved = own.reduce((sum, x, k) => sum + Math.abs(x - own[Math.max(0, k - 1)]), 0) / N;
      const score = variance / (0.05 + moved);
      if (score > most) {
        [best, most] = [row, score];
      }
    }
    return best;
  }

  choose(layer, quantity) {
    this.layer = layer;
    this.quantity = quantity;
    this.map = this.data.layers[layer][quantity];
    this.codes = decoded(this.map.codes, Uint8Array);
    this.strengths = Float32Array.from(this.codes, (code) => this.strengthOf(code));
    this.key.replaceChildren(ramp(this.map.gate ? "gate" : "signed"));
    this.H = this.map.order.length;
    this.N = this.data.units.length;
    this.slider.max = String(this.H - 1);
    label(this.what, `cells.what_${this.data.cell}_${quantity}`);
    this.draw();
    this.chooseRow(Math.min(this.row, this.H - 1));
  }

  valueOf(code) {
    return this.map.gate ? code / 255 : (2 * (code / 255) - 1) * this.map.scale;
  }

  // From -1 (cold) to 1 (warm); a gate has only warm ones. A cell state, which has no bounds, is
  // drawn as its tanh, which is what the cell shows of it.
  strengthOf(code) {
    const value = this.valueOf(code);
    return this.quantity === "c" ? Math.tanh(value) : value;
  }

  draw() {
    if (!this.map) {
      return;
    }
    const { canvas, N, H } = this;
    [canvas.width, canvas.height] = [N, H];
    const context = canvas.getContext("2d");
    const image = context.createImageData(N, H);
    const [paper, warm, cold] = ["--raised", "--warm", "--cold"].map((name) => rgb(colour(name)));
    for (let j = 0; j < N * H; j++) {
      const strength = this.strengths[j];
      const full = strength < 0 ? cold : warm;
      for (let part = 0; part < 3; part++) {
        image.data[4 * j + part] = paper[part] + Math.abs(strength) * (full[part] - paper[part]);
      }
      image.data[4 * j + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    this.describe();
  }

  chooseRow(row) {
    this.row = row;
    this.slider.value = String(row);
    this.view.paint((k) => this.strengths[row * this.N + k]);
    this.describe();
  }

  look(k) {
    this.k = k;
    this.describe();
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const within = (share, n) => Math.max(0, Math.min(n - 1, Math.floor(share * n)));
    const row = within((event.clientY - box.top) / box.height, this.H);
    this.view.choose(within((event.clientX - box.left) / box.width, this.N));
    if (event.buttons && row !== this.row) {
      this.chooseRow(row);
    }
  }

  describe() {
    const { row, k } = this;
    this.marker.style.setProperty("top", `${(100 * row) / this.H}%`);
    this.marker.style.setProperty("height", `${100 / this.H}%`);
    const unit = number(this.map.order[row] + 1);
    const value = number(this.valueOf(this.codes[row * this.N + k]), 2);
    const values = { unit, value, at: unitName(this.data.units[k]) };
    label(this.status, "cells.status", values);
    this.slider.setAttribute("aria-valuetext", unit);
  }
}

// The parts of a colour as the style sheet writes it, #rrggbb.
function rgb(hex) {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}
