// The end: what the sections before it have measured of this model, in three sentences.

section("summary", (root) => {
  const { overview, cells, reach, memory } = page.sections;
  const { model } = overview.costs;
  if (model !== null) {
    const choices = { choices: number(2 ** model, 1), size: number(overview.vocabulary) };
    root.append(labelled("p", {}, "summary.score", choices));
  }
  if (cells.named.length) {
    const own = cells.named.filter((row) => row.follows).length;
    const things = { n: number(cells.named.length), own: number(own) };
    root.append(labelled("p", {}, "summary.units", things));
  }
  const [curve, most] = [reach.models[0]?.states, memory.models[0].halves[1]];
  if (curve && most !== null) {
    const values = Object.values(curve)[0];
    const lag = values.length - 1;
    const far = { most: number(most), lag: number(lag), left: portion(values[lag]) };
    root.append(labelled("p", {}, "summary.memory", far));
  }
});
