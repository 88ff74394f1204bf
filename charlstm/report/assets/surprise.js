// Section 3: each unit by its surprise, and what was likely in its place.

const STRONGEST = { char: 10, byte: 10, word: 20 }; // bits of the strongest colour

section("surprise", (root, data) => {
  const { units, bits, guesses, names, ranks } = data;
  const most = STRONGEST[data.unit];
  const outside = new Set(data.outside);
  const panel = element("div", { class: "panel", role: "status" });
  const view = textView(units, "surprise.text", (k) => show(k));
  view.paint((k) => (bits[k] ?? 0) / most);

  function show(k) {
    panel.replaceChildren();
    const came = { came: unitName(units[k]) };
    panel.append(labelled("p", { class: "came" }, "surprise.came", came));
    if (bits[k] === null) {
      panel.append(labelled("p", {}, "surprise.given"));
      return;
    }
    const p = 2 ** -bits[k];
    const cost = { bits: number(bits[k], 1), share: portion(p) };
    panel.append(
      outside.has(k)
        ? labelled("p", {}, "surprise.outside", cost)
        : labelled("p", {}, "surprise.cost", cost),
      labelled("p", { class: "expected" }, "surprise.expected"),
      bars(
        guesses[k].map(([n, share], j) => ({
          name: names[n],
          share,
          marked: j === ranks[k],
        })),
      ),
    );
  }

  const hardest = bits.reduce((best, b, k) => ((b ?? 0) > (bits[best] ?? 0) ? k : best), 0);
  const next = labelled("button", { type: "button" }, "surprise.next");
  let at = -1;
  next.addEventListener("click", () => {
    const order = bits.map((b, k) => [b ?? 0, k]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    at = (at + 1) % Math.min(20, order.length);
    view.choose(order[at][1]);
    view.spans[order[at][1]].scrollIntoView({ block: "center" });
  });
  root.append(
    labelled("p", { class: "note" }, `surprise.source_${page.sections.overview.text}`),
    labelled("p", { class: "note" }, "page.signs"),
    element("div", { class: "controls" }, scale(most), next),
    element("div", { class: "beside" }, view, panel),
  );
  view.choose(hardest);
});

// The key of the colours, from no surprise to the most.
function scale(most) {
  const list = element("ul", { class: "key", "aria-hidden": "true" });
  for (const share of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
    const bits = `${share === 1 ? "≥" : ""}${number(share * most)}`;
    const sign = element("span", { class: "unit patch" }, bits);
    paint(sign, share);
    list.append(element("li", {}, sign));
  }
  list.append(labelled("li", {}, "surprise.scale"));
  return list;
}
