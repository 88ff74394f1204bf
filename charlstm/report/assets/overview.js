// Section 1: what the model costs beside counting and guessing, and the facts about it.

section("overview", (root, data) => {
  const { costs } = data;
  const worst = Math.max(costs.guessing, costs.counting, costs.model ?? 0);
  const rows = [
    ["overview.guessing", {}, costs.guessing],
    ["overview.counting", {}, costs.counting],
    ...costs.others.map(({ name, cell, bits }) => [
      "overview.other",
      { name, cell: cell.toUpperCase() },
      bits,
    ]),
  ];
  if (costs.model !== null) {
    rows.push(["overview.model", { name: data.name }, costs.model]);
  }
  root.append(
    measures(
      rows.map(([key, values, bits]) => ({
        name: labelled("span", {}, key, values),
        share: worst > 0 ? bits / worst : 0,
        value: labelled("span", {}, "overview.cost", { bits: number(bits, 2) }),
        kind: key === "overview.model" ? "own" : null,
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
  root.append(facts(data));
  root.append(
    labelled("h3", {}, "overview.again"),
    labelled("p", { class: "note" }, "overview.again_note"),
    command(data.command),
  );
});

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
