// Section 8: the earlier units that a prediction depends on.

const VISIBLE = 26; // of 255, a tenth: what the eye takes for coloured

section("memory", (root, data) => {
  const { units, lags, models } = data;
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
  root.append(labelled("p", {}, "memory.note", { n: number(units.length) }));
  if (several) {
    root.append(...compared(models));
  }
  if (page.sections.reach?.svg) {
    root.append(labelled("p", {}, "memory.beside_reach", { reach: { label: "reach.title" } }));
  }
  for (const model of models) {
    const strength = decoded(model.strength, Uint8Array);
    const view = textView(units, "memory.text", choose);
    views.push({ view, strength });
    if (several) {
      root.append(element("h3", {}, modelName(model)));
    }
    if (model.halves[0] !== null) {
      const [half, most] = model.halves.map((n) => number(n));
      root.append(labelled("p", { class: "note" }, "memory.halves", { half, most }));
    }
    root.append(view);
  }
  const strengths = views.map(({ strength }) => strength);
  choose(telling(strengths, units.length, lags));
});

// How far the models look back, each as a bar in the colour of its curve.
function compared(models) {
  const longest = Math.max(...models.map(({ halves }) => halves[1] ?? 0));
  const rows = models.flatMap((model, n) => {
    const most = model.halves[1];
    if (most === null) {
      return [];
    }
    return {
      name: element("span", {}, modelName(model)),
      share: most / longest,
      value: labelled("span", {}, "memory.count", { n: number(most) }),
      kind: `curve colour-${n % 6}`,
    };
  });
  return [labelled("p", {}, "memory.compared"), measures(rows)];
}

// The place to begin with: where the first model colours most, compared with another.
function telling(strengths, count, lags) {
  const coloured = (strength, k) => {
    const own = strength.subarray(k * lags, (k + 1) * lags);
    return own.reduce((sum, x) => sum + (x >= VISIBLE), 0);
  };
  const [first, ...others] = strengths;
  let [best, most] = [Math.max(0, count - 1), 0];
  for (let k = Math.min(lags, count - 1); k < count; k++) {
    const least = others.length ? Math.min(...others.map((other) => coloured(other, k))) : 0;
    if (coloured(first, k) - least > most) {
      [best, most] = [k, coloured(first, k) - least];
    }
  }
  return best;
}
