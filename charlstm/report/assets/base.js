// What all sections share: elements, labels in two languages, the theme, and the order of the page.
//
// A section is a file that calls section(name, make). When the page has loaded, make(root, data,
// tools) fills `root`, an empty element, from `data`, what Python computed for it. Whatever comes
// from data becomes text or a number: nothing here reads markup.

const makers = new Map();
const listeners = [];
const valuesOf = new WeakMap(); // of the labels that have any, by element
let page = { labels: {}, sections: {} };

// Declare a section; its file is part of the page only where the section is.
function section(name, make) {
  makers.set(name, make);
}

// --- elements ---------------------------------------------------------------------------------

// An element with attributes and children; strings among these become text.
function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  setAttributes(node, attributes);
  node.append(...children);
  return node;
}

// The same for pictures.
function shape(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  setAttributes(node, attributes);
  node.append(...children);
  return node;
}

function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
}

// --- labels -----------------------------------------------------------------------------------

function language() {
  return document.documentElement.lang;
}

// The text of a label, such as "surprise.title", with {name} replaced by values.name. A value that
// is itself a label has the form {label: key, values}. {character} and {characters} stand for what the model
// reads one by one, which may be bytes or words.
function text(key, values = {}) {
  const [part, name] = key.split(".");
  const pattern = page.labels[part][name][language()];
  const units = {
    character: { label: `page.unit_${page.unit}` },
    characters: { label: `page.units_${page.unit}` },
  };
  return pattern.replace(/\{(\w+)\}/g, (_, each) => {
    const value = values[each] ?? units[each];
    return value !== null && typeof value === "object"
      ? text(value.label, value.values)
      : String(value);
  });
}

// Let an element show a label, now and after each change of the language. Returns the element.
function label(node, key, values) {
  node.dataset.label = key;
  if (values) {
    valuesOf.set(node, values);
  } else {
    valuesOf.delete(node);
  }
  node.textContent = text(key, values);
  return node;
}

// The same for the name by which a screen reader calls it.
function aria(node, key) {
  node.dataset.aria = key;
  node.setAttribute("aria-label", text(key));
  return node;
}

// An element that shows a label.
function labelled(name, attributes, key, values) {
  return label(element(name, attributes), key, values);
}

function setLanguage(lang) {
  document.documentElement.lang = lang;
  for (const node of document.querySelectorAll("[data-label]")) {
    node.textContent = text(node.dataset.label, valuesOf.get(node));
  }
  for (const node of document.querySelectorAll("[data-aria]")) {
    node.setAttribute("aria-label", text(node.dataset.aria));
  }
  document.getElementById("language").lang = lang === "ko" ? "en" : "ko";
  changed();
}

// --- numbers ----------------------------------------------------------------------------------

// A number with so many digits after the point, a true minus, and no minus before zeros alone.
function number(value, digits = 0) {
  const written = value.toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
  return written.replace(/^-(?=[0.]+$)/, "").replace("-", "−");
}

function percent(share) {
  if (share > 0 && share < 0.001) {
    return "<0.1%";
  }
  return `${number(100 * share, share < 0.1 || share > 0.99 ? 1 : 0)}%`;
}

// A share as a percentage of two digits, with as many zeros before them as it takes.
function portion(value) {
  const shown = Math.max(value, 1e-9);
  const written = (100 * shown).toLocaleString("en", { maximumSignificantDigits: 2 });
  return `${value < shown ? "<" : ""}${written}%`;
}

// What a model is called: its name, and its cell where the name does not say that already.
function modelName({ name, cell }) {
  const kind = cell.toUpperCase();
  return name.toUpperCase() === kind ? kind : `${name} (${kind})`;
}

// Numbers from base64, as typed arrays. `kind` is a constructor, such as Float32Array.
function decoded(base64, kind) {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let k = 0; k < bytes.length; k++) {
    bytes[k] = binary.charCodeAt(k);
  }
  return new kind(bytes.buffer);
}

// --- theme ------------------------------------------------------------------------------------

function theme() {
  return document.documentElement.dataset.theme;
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  changed();
}

// A colour of the style sheet, such as "--ink", as it is now.
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Call a function after each change of language or theme: for what is drawn, or is no label.
function onChange(listener) {
  listeners.push(listener);
}

function changed() {
  for (const listener of listeners) {
    listener();
  }
}

// --- the page ---------------------------------------------------------------------------------

// Buttons of which one is pressed; choose(value) is called for each that becomes so. `choices` are
// pairs of a value and a text or {label, values}.
function choices(name, options, choose) {
  const group = aria(element("div", { class: "choices", role: "group" }), name);
  const buttons = new Map();
  for (const [value, what] of options) {
    const button = element("button", { type: "button", "aria-pressed": "false" });
    if (typeof what === "string") {
      button.textContent = what;
    } else {
      label(button, what.label, what.values);
    }
    button.addEventListener("click", () => group.choose(value));
    buttons.set(value, button);
    group.append(button);
  }
  group.choose = (value) => {
    for (const [each, button] of buttons) {
      button.setAttribute("aria-pressed", String(each === value));
    }
    choose(value);
  };
  return group;
}

// A command to copy. It is broken into lines before its options.
function command(line) {
  const code = element("code");
  line.split(/ (?=-)/).forEach((part, n) => {
    code.append(n ? " " : "", element("span", { class: "part" }, part));
  });
  return element("pre", { tabindex: "0" }, code);
}

// A picture of curves that was drawn in Python, with what it shows in words.
function figure(svg, key, values) {
  const image = element("img", { src: `data:image/svg+xml;base64,${svg}` });
  const describe = () => image.setAttribute("alt", text(key, values));
  describe();
  onChange(describe);
  return element("div", { class: "figure" }, image);
}

const tools = {
  element,
  shape,
  text,
  label,
  aria,
  labelled,
  language,
  number,
  percent,
  portion,
  modelName,
  decoded,
  theme,
  colour,
  onChange,
  choices,
  command,
  figure,
};

// The theme is set before anything is shown.
document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches
  ? "dark"
  : "light";

document.addEventListener("DOMContentLoaded", () => {
  page = JSON.parse(document.getElementById("data").textContent);
  document
    .getElementById("language")
    .addEventListener("click", () => setLanguage(language() === "ko" ? "en" : "ko"));
  document
    .getElementById("theme")
    .addEventListener("click", () => setTheme(theme() === "dark" ? "light" : "dark"));
  for (const [name, data] of Object.entries(page.sections)) {
    const make = makers.get(name);
    if (make) {
      make(document.querySelector(`#${name} > .work`), data, tools);
    }
  }
});
