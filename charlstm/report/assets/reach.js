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
        { name: modelName(model), state: { label: `reach.state_${mainState(model)}` } },
      ]),
    ),
  );
  if (models.some((model) => Object.keys(model.states).length > 1)) {
    root.append(labelled("p", { class: "note" }, "reach.dashed"));
  }
  for (const model of leading) {
    const lags = model.curve.length - 1;
    const values = {
      name: modelName(model),
      lag: number(lags),
      left: portion(model.curve[lags]),
      kept: percent(keptEachStep(model.curve)),
    };
    root.append(labelled("p", {}, "reach.sentence", values));
  }
  root.append(...reachAndScore(leading));
  const cells = new Set(models.map((model) => model.cell));
  for (const cell of ["rnn", "gru", "lstm"]) {
    if (cells.has(cell)) {
      root.append(labelled("p", {}, `reach.why_${cell}`));
    }
  }
  root.append(reachTable(models));
});

// c or h, of the uppermost layer.
function mainState(model) {
  return Object.keys(model.states)[0].split(".")[1];
}

// The share of the gradient that a step back keeps, on average over the lags that are drawn.
function keptEachStep(curve) {
  const lag = curve.findLastIndex((left) => left >= 1e-9);
  return lag > 0 ? curve[lag] ** (1 / lag) : 0;
}

// Which model's gradient reaches furthest, and which one guesses best.
function reachAndScore(models) {
  const { name, network, costs } = page.sections.overview ?? { costs: { others: [] } };
  const scores = [{ name, cell: network?.cell, bits: costs.model ?? null }, ...costs.others];
  if (models.length < 2 || scores.length < 2 || scores.some(({ bits }) => bits === null)) {
    return [];
  }
  const far = models.reduce((a, b) => (keptEachStep(b.curve) > keptEachStep(a.curve) ? b : a));
  const best = scores.reduce((a, b) => (b.bits < a.bits ? b : a));
  return [labelled("p", {}, "reach.and_score", { far: modelName(far), best: modelName(best) })];
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
