// Section 6: how much of the gradient arrives, by how far back it goes.

section("reach", (root, data) => {
  const { models, svg } = data;
  if (svg === null) {
    root.append(labelled("p", {}, "reach.short"));
    return;
  }
  const leading = models.map((model) => ({ ...model, curve: Object.values(model.states)[0] }));
  root.append(
    labelled("p", { class: "axis" }, "reach.up"),
    figure(svg, "reach.alt", {}),
    labelled("p", { class: "axis across" }, "reach.across"),
    swatches(
      leading.map((model, n) => [
        n,
        "reach.curve",
        { ...modelValues(model), state: { label: `reach.state_${mainState(model)}` } },
      ]),
    ),
  );
  for (const model of leading) {
    const lags = model.curve.length - 1;
    const values = {
      ...modelValues(model),
      lag: number(lags),
      left: model.curve[lags] < 1e-9 ? { label: "reach.nothing" } : portion(model.curve[lags]),
      half: halfWay(model.curve),
    };
    const lasts = values.half === null ? "reach.sentence_lasting" : "reach.sentence";
    root.append(labelled("p", {}, lasts, values));
  }
  const cells = new Set(models.map((model) => model.cell));
  for (const cell of ["rnn", "gru", "lstm"]) {
    if (cells.has(cell)) {
      root.append(labelled("p", { class: "note" }, `reach.why_${cell}`));
    }
  }
  root.append(reachTable(models));
});

function modelValues({ name, cell }) {
  return { name, cell: cell.toUpperCase() };
}

// c or h, of the uppermost layer.
function mainState(model) {
  return Object.keys(model.states)[0].split(".")[1];
}

// The first lag from which on less than half arrives; null where more than that always does.
function halfWay(curve) {
  for (let lag = curve.length - 1; lag >= 0; lag--) {
    if (curve[lag] >= 0.5) {
      return lag === curve.length - 1 ? null : number(lag + 1);
    }
  }
  return "1";
}

function reachTable(models) {
  const longest = Math.max(...models.map((model) => Object.values(model.states)[0].length)) - 1;
  const lags = [1, 2, 5, 10, 20, 50].filter((lag) => lag <= longest);
  const head = element("tr", {}, labelled("th", { scope: "col" }, "reach.model"));
  head.append(labelled("th", { scope: "col" }, "reach.state"));
  for (const lag of lags) {
    head.append(element("th", { scope: "col" }, number(lag)));
  }
  const body = element("tbody");
  for (const model of models) {
    for (const [state, curve] of Object.entries(model.states)) {
      const row = element("tr", {}, element("td", {}, model.name), element("td", {}, state));
      row.append(...lags.map((lag) => element("td", {}, lag in curve ? portion(curve[lag]) : "")));
      body.append(row);
    }
  }
  const table = element(
    "table",
    {},
    labelled("caption", {}, "reach.table"),
    element("thead", {}, head),
    body,
  );
  const frame = element("div", { class: "scroll", tabindex: "0", role: "group" }, table);
  return element(
    "details",
    {},
    labelled("summary", {}, "reach.numbers"),
    aria(frame, "reach.numbers"),
  );
}
