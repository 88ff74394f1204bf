// Section 2: the curves of the training, and what the network wrote on the way.

section("learning", (root, data) => {
  const { best, returns, samples } = data;
  const values = { bits: best ? number(best[1], 2) : "", step: best ? number(best[0]) : "" };
  if (data.svg === null) {
    root.append(labelled("p", {}, "learning.nothing"));
  } else {
    root.append(
      labelled("p", { class: "axis" }, "learning.up"),
      figure(data.svg, best ? "learning.alt" : "learning.alt_without", values),
      labelled(
        "p",
        { class: "axis across" },
        data.rate ? "learning.across_rate" : "learning.across",
      ),
      swatches([
        [3, "learning.train"],
        ...(data.table.length ? [[4, best ? "learning.valid_best" : "learning.valid"]] : []),
        ...(data.rate ? [[5, "learning.rate"]] : []),
      ]),
    );
  }
  if (best) {
    root.append(labelled("p", {}, "learning.best", values));
  }
  for (const [from, to] of returns) {
    const back = { from: number(from), to: number(to) };
    root.append(labelled("p", { class: "notice" }, "learning.returned", back));
  }
  if (data.table.length) {
    root.append(lossTable(data.table));
  }
  if (samples.length) {
    root.append(labelled("h3", {}, "learning.samples"));
    root.append(labelled("p", { class: "note" }, "learning.samples_note"));
    for (const [step, bits, written] of samples) {
      root.append(sample(step, bits, written));
    }
  } else if (!data.logged) {
    root.append(
      labelled("p", { class: "note" }, "learning.log_hint"),
      command("charlstm train CORPUS --sample-every 500 --log train.log"),
      command("charlstm report --log train.log"),
    );
  }
});

// A list that says which colour of a picture is what; entries are a colour's number and a label.
function swatches(entries) {
  const list = element("ul", { class: "key" });
  for (const [n, key, values] of entries) {
    const swatch = element("span", { class: `swatch colour-${n % 6}` });
    list.append(element("li", {}, swatch, labelled("span", {}, key, values)));
  }
  return list;
}

function lossTable(rows) {
  const head = element("tr", {});
  head.append(
    labelled("th", { scope: "col" }, "learning.step"),
    labelled("th", { scope: "col" }, "learning.bits"),
  );
  const body = element("tbody");
  for (const [step, bits] of rows) {
    body.append(
      element("tr", {}, element("td", {}, number(step)), element("td", {}, number(bits, 3))),
    );
  }
  const table = element("table", {}, element("thead", {}, head), body);
  const summary = labelled("summary", {}, "learning.numbers");
  return element("details", {}, summary, element("div", { class: "scroll" }, table));
}

function sample(step, bits, written) {
  const values = { step: number(step), bits: bits === null ? "" : number(bits, 2) };
  const key = bits === null ? "learning.sample_first" : "learning.sample";
  const caption = labelled("figcaption", {}, key, values);
  return element("figure", { class: "sample" }, caption, element("pre", { dir: "auto" }, written));
}
