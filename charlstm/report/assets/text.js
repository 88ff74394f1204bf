// A text of units, of which one is chosen: by pointing, tapping, or with the arrow keys.

// Make the view of a text. `units` are what each unit adds to the text. `name` is the label by
// which a screen reader calls it; choose(k) is called when unit k becomes the chosen one. The
// element returned has
//
//   spans      an element for each unit
//   choose(k)  the same as pointing at unit k
//   paint(f)   colour the background of each unit k by f(k), from -1 (cold) to 1 (warm)
function textView(units, name, choose) {
  const view = aria(element("div", { class: "text", role: "group", tabindex: "0" }), name);
  const spans = units.map((unit, k) => unitElement(unit, k));
  let chosen = -1;
  spans.forEach((span, k) => {
    view.append(span);
    if (units[k].includes("\n")) {
      view.append(element("br"));
    }
  });
  view.spans = spans;
  view.choose = (k) => {
    if (k < 0 || k >= spans.length) {
      return;
    }
    if (chosen >= 0) {
      spans[chosen].classList.remove("chosen");
    }
    chosen = k;
    spans[k].classList.add("chosen");
    reveal(view, spans[k]);
    choose(k);
  };
  view.paint = (strength) => spans.forEach((span, k) => paint(span, strength(k)));
  const pointed = (event) => {
    const span = event.target.closest(".unit");
    if (span && Number(span.dataset.k) !== chosen) {
      view.choose(Number(span.dataset.k));
    }
  };
  view.addEventListener("pointerover", pointed);
  view.addEventListener("click", pointed);
  view.addEventListener("keydown", (event) => {
    const next = neighbour(spans, chosen, event.key);
    if (next !== null) {
      event.preventDefault();
      view.choose(next);
      spans[chosen].scrollIntoView({ block: "nearest" });
    }
  });
  return view;
}

// Scroll a text, but not the page, so far that a unit of it is in sight.
function reveal(view, span) {
  const [frame, box] = [view.getBoundingClientRect(), span.getBoundingClientRect()];
  if (box.top < frame.top) {
    view.scrollTop -= frame.top - box.top + frame.height / 3;
  } else if (box.bottom > frame.bottom) {
    view.scrollTop += box.bottom - frame.bottom + frame.height / 3;
  }
}

function unitElement(unit, k) {
  const shown = unit.includes("\n") ? unit.replace(/\n/g, "↵") : unit === "" ? "·" : unit;
  const kind = unit.includes("\n") || unit === "" ? "unit faint" : "unit";
  return element("span", { class: kind, "data-k": k }, shown);
}

// The unit that a key leads to from unit k; null for a key that leads nowhere.
function neighbour(spans, k, key) {
  const last = spans.length - 1;
  switch (key) {
    case "ArrowLeft":
      return Math.max(0, k - 1);
    case "ArrowRight":
      return Math.min(last, k + 1);
    case "ArrowUp":
      return Math.max(0, onOtherLine(spans, k, -1));
    case "ArrowDown":
      return Math.min(last, onOtherLine(spans, k, 1));
    case "Home":
      return 0;
    case "End":
      return last;
    default:
      return null;
  }
}

// The unit above (-1) or below (1) unit k, as the lines are broken on the screen.
function onOtherLine(spans, k, direction) {
  if (k < 0) {
    return 0;
  }
  const from = spans[k].getBoundingClientRect();
  let best = k;
  let line = null;
  let nearest = Infinity;
  for (let j = k + direction; j >= 0 && j < spans.length; j += direction) {
    const box = spans[j].getBoundingClientRect();
    if (Math.abs(box.top - from.top) < from.height / 2) {
      continue;
    }
    line = line === null ? box.top : line;
    if (Math.abs(box.top - line) > from.height / 2) {
      break;
    }
    if (Math.abs(box.left - from.left) < nearest) {
      nearest = Math.abs(box.left - from.left);
      best = j;
    }
  }
  return best;
}

// Colour the background of an element by a strength from -1 (cold) to 1 (warm).
function paint(node, strength) {
  const share = Math.min(1, Math.abs(strength));
  node.classList.toggle("cold", strength < 0);
  node.style.setProperty("--share", share.toFixed(3));
}

// What a unit is called where it stands alone.
function unitName(unit) {
  if (unit === " ") {
    return "␣";
  }
  return unit === "" ? "·" : unit.replace(/\n/g, "↵").replace(/ $/, "");
}

// Bars of some probabilities; `rows` have a name, a share from 0 to 1, and whether to mark it.
function bars(rows) {
  const list = element("ul", { class: "bars" });
  for (const { name, share, marked } of rows) {
    const bar = element("span", { class: "bar" });
    bar.style.setProperty("--share", share.toFixed(4));
    list.append(
      element(
        "li",
        { class: marked ? "marked" : null },
        element("span", { class: "name" }, name),
        element("span", { class: "track" }, bar),
        element("span", { class: "value" }, percent(share)),
      ),
    );
  }
  return list;
}

// Rows that compare: an element for the name and one for the value of each, between them a bar by a
// share from 0 to 1. A kind is the class of the row and its bar.
function measures(rows) {
  const list = element("ul", { class: "measures" });
  for (const { name, share, value, kind } of rows) {
    const bar = element("span", { class: `bar ${kind ?? ""}` });
    bar.style.setProperty("--share", share.toFixed(4));
    name.classList.add("name");
    value.classList.add("value");
    const track = element("span", { class: "track" }, bar);
    list.append(element("li", { class: kind }, name, track, value));
  }
  return list;
}

// What the colours of a gate, or of what has a sign, stand for: an entry of a key. The labels are
// those of its ends.
function ramp(kind, labels) {
  const usual = kind === "gate" ? ["closed", "open"] : ["negative", "positive"];
  const [low, high] = labels ?? usual.map((end) => `page.${end}`);
  return element(
    "li",
    {},
    labelled("span", {}, low),
    " ",
    element("span", { class: `ramp ${kind}` }),
    " ",
    labelled("span", {}, high),
  );
}

Object.assign(tools, { textView, paint, unitName, bars, measures, ramp });
