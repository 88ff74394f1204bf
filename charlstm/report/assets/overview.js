// Section 1: what the model costs beside counting and guessing, and the facts about it.

section("overview", (root, data) => {
  const { costs } = data;
  const worst = Math.max(costs.guessing, costs.counting, costs.model ?? 0);
  const rows = [
    ["overview.guessing", {}, costs.guessing, null],
    ["overview.counting", {}, costs.counting, null],
    ...costs.others.map((other) => [
      "overview.other",
      { name: modelName(other) },
      other.bits,
      modelColour(other.name),
    ]),
  ];
  if (costs.model !== null) {
    const name = modelName({ name: data.name, cell: data.network.cell });
    rows.push(["overview.model", { name }, costs.model, "own curve colour-0"]);
  }
  rows.sort((a, b) => b[2] - a[2]);
  root.append(
    measures(
      rows.map(([key, values, bits, kind]) => ({
        name: labelled("span", {}, key, values),
        share: worst > 0 ? bits / worst : 0,
        value: labelled("span", {}, "overview.cost", { bits: number(bits, 2) }),
        kind,
      })),
    ),
  );
  if (costs.model === null) {
    root.append(labelled("p", {}, "overview.nothing_held_out"));
  } else {
    const values = {
      bits: number(costs.model, 2),
      choices: number(2 ** costs.model, 1),
      size: number(data.vocabulary),
    };
    root.append(labelled("p", {}, "overview.meaning", values));
  }
  const own = { ...data, cell: data.network.cell, weights: data.network.weights };
  for (const one of costs.others.length ? [own, ...costs.others] : []) {
    const sizes = { name: modelName(one), weights: number(one.weights), steps: number(one.steps) };
    root.append(labelled("p", { class: "note" }, "overview.sizes", sizes));
  }
  root.append(facts(data));
  root.append(
    labelled("h3", {}, "overview.again"),
    labelled("p", { class: "note" }, "overview.again_note"),
    command(data.command),
  );
});

// The class of the colour that a model has in all sections.
function modelColour(name) {
  const order = page.sections.memory?.models.map((model) => model.name) ?? [];
  const n = order.indexOf(name);
  return n < 0 ? null : `curve colour-${n % 6}`;
}

function facts(data) {
  const { network, corpus } = data;
  const rows = [
    [
      "network",
      {
        cell: network.cell.toUpperCase(),
        widths: network.hidden.map((width) => number(width)).join(" + "),
        weights: number(network.weights),
      },
    ],
    ["vocabulary", { size: number(data.vocabulary) }],
    ["corpus", { train: number(corpus.train), valid: number(corpus.valid) }],
    [
      "training",
      { steps: number(data.steps), epochs: number(data.epochs, data.epochs < 100 ? 1 : 0) },
    ],
  ];
  if (data.best_step !== null) {
    rows.push(["best", { step: number(data.best_step) }]);
  }
  if (data.adapted) {
    rows.push(["adapted", { n: number(data.adapted) }]);
  }
  const list = element("dl", { class: "facts" });
  for (const [name, values] of rows) {
    list.append(
      labelled("dt", {}, `overview.${name}`),
      labelled("dd", {}, `overview.${name}_is`, values),
    );
  }
  const environment = Object.entries(data.environment).map((pair) => pair.join(" "));
  if (environment.length) {
    list.append(labelled("dt", {}, "overview.made_with"));
    list.append(element("dd", {}, environment.join(", ")));
  }
  list.append(element("dt", {}, "SHA-256"), element("dd", { class: "digest" }, data.sha256));
  return list;
}
