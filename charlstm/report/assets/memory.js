// Section 8: the earlier units that a prediction depends on.

section("memory", (root, data) => {
  const { units, lags, models, unit } = data;
  const several = models.length > 1;
  const views = [];
  let chosen = -1;
  const choose = (k) => {
    if (k !== chosen) {
      chosen = k;
      for (const { view, strength } of views) {
        view.choose(k);
        view.paint((j) => (j < k && k - j <= lags ? strength[k * lags + k - j - 1] / 255 : 0));
      }
    }
  };
  root.append(labelled("p", { class: "note" }, "memory.note"));
  for (const model of models) {
    const strength = decoded(model.strength, Uint8Array);
    const view = textView(units, "memory.text", choose);
    views.push({ view, strength });
    if (several) {
      const values = { name: model.name, cell: model.cell.toUpperCase() };
      root.append(labelled("h3", {}, "memory.model", values));
    }
    if (model.halves[0] !== null) {
      const [half, most] = model.halves.map((n) => number(n));
      const values = { half, most, units: { label: `page.units_${unit}` } };
      root.append(labelled("p", { class: "note" }, "memory.halves", values));
    }
    root.append(view);
  }
  choose(Math.floor(0.6 * (units.length - 1)));
});
