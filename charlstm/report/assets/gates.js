// Section 5: each unit of each gate as a dot, by how long it is open and how long closed. A
// hollow one hardly moves.

const SIDE = 240; // of a picture, in its own units
const EDGE = 42; // at its left, right and bottom, and
const TOP = 12; // at its top

section("gates", (root, data) => {
  const layers = data.layers.length;
  data.layers.forEach((gates, k) => {
    if (layers > 1) {
      root.append(labelled("h3", {}, "cells.layer", { n: k + 1 }));
    }
    const row = element("div", { class: "scatters" });
    for (const [gate, shares] of Object.entries(gates)) {
      row.append(gatePicture(gate, shares, data));
    }
    root.append(row);
  });
  root.append(labelled("p", { class: "note" }, "gates.note", { n: number(data.units) }));
});

function gatePicture(gate, { closed, open, mean, deviation }, { cell, limits }) {
  const name = { label: `cells.name_${cell}_${gate}` };
  const many = (shares) => number(shares.filter((share) => share > 0.9).length);
  const values = {
    gate: name,
    letter: gate,
    n: number(open.length),
    open: many(open),
    closed: many(closed),
    half: number(deviation.filter((d, k) => d < limits.still && open[k] + closed[k] < 0.1).length),
  };
  const picture = shape("svg", {
    viewBox: `0 0 ${SIDE + 2 * EDGE} ${SIDE + TOP + EDGE}`,
    role: "img",
  });
  const describe = () => {
    const spoken = [text("gates.caption", values), text("gates.summary", values)];
    picture.setAttribute("aria-label", spoken.join(". "));
  };
  describe();
  onChange(describe);
  drawAxes(picture);
  open.forEach((share, k) => {
    const dot = shape("circle", {
      cx: EDGE + share * SIDE,
      cy: TOP + (1 - closed[k]) * SIDE,
      r: 3.5,
      class: deviation[k] < limits.still ? "still" : "moving",
    });
    const parts = {
      unit: number(k + 1),
      open: percent(share),
      closed: percent(closed[k]),
      mean: number(mean[k], 2),
      deviation: number(deviation[k], 2),
    };
    const title = shape("title");
    dot.append(title);
    const rename = () => {
      title.textContent = text("gates.dot", parts);
    };
    rename();
    onChange(rename);
    picture.append(dot);
  });
  return element(
    "figure",
    { class: "scatter" },
    labelled("figcaption", {}, "gates.caption", values),
    labelled("p", { class: "note" }, `gates.means_${cell}_${gate}`),
    labelled("p", { class: "axis" }, "gates.up"),
    picture,
    labelled("p", { class: "axis across" }, "gates.across"),
    labelled("p", { class: "note" }, "gates.summary", values),
  );
}

// A square from 0 to 100 % with the line that no dot can cross: it is open or closed, not both.
function drawAxes(picture) {
  const [left, right, bottom] = [EDGE, EDGE + SIDE, TOP + SIDE];
  picture.append(
    shape("path", { class: "frame", d: `M${left} ${TOP}V${bottom}H${right}` }),
    shape("path", { class: "limit", d: `M${left} ${TOP}L${right} ${bottom}` }),
  );
  for (const share of [0, 0.5, 1]) {
    const mark = `${100 * share}%`;
    const across = shape(
      "text",
      { x: left + share * SIDE, y: bottom + 20, "text-anchor": "middle" },
      mark,
    );
    const up = shape(
      "text",
      { x: left - 6, y: bottom - share * SIDE + 5, "text-anchor": "end" },
      mark,
    );
    picture.append(across, up);
  }
}
