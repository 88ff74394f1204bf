// From text to ids and back, as charlstm/text/units.py has it. An id is a place among the units.

// Where Python's str.split() splits; \s stands for something else here.
const BLANK =
  "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";

const TAIL = 16; // units that show where one is in a text

class Vocabulary {
  // `data` are those of `vocabulary_data` in charlstm/report/alive.py.
  constructor(data) {
    Object.assign(this, data);
    this.idOf = new Map(this.units.map((unit, id) => [unit, id]));
  }

  // The units of a text, as ids: `unknown` for those outside.
  encode(text) {
    return this.split(this.normalised(text)).map((unit) => this.idOf.get(unit) ?? this.unknown);
  }

  // A text in the normal form of the model, with the line ends of its corpus.
  normalised(text) {
    const form = this.normalize === "none" ? text : text.normalize(this.normalize.toUpperCase());
    return form.replaceAll("\n", this.line_break);
  }

  // What a unit is called where it stands alone.
  nameOf(unit) {
    return visible(unit);
  }

  // The end of a text of t units: some of their names.
  tail(_, names, t) {
    return names.slice(Math.max(0, t - TAIL), t).join("");
  }
}

// Characters: the code points of Unicode.
class Characters extends Vocabulary {
  split(text) {
    return Array.from(text);
  }

  // A function from ids that continue a text to what each adds to it.
  writer() {
    return (id) => this.units[id];
  }
}

// Bytes of UTF-8, as numbers.
class Bytes extends Vocabulary {
  constructor(data) {
    super({ ...data, units: Array.from({ length: 256 }, (_, byte) => byte) });
  }

  split(text) {
    return Array.from(new TextEncoder().encode(text));
  }

  writer() {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return (id) => decoder.decode(Uint8Array.of(id), { stream: true });
  }

  nameOf(byte) {
    const alone = byte < 0x7f && (byte >= 0x20 || byte === 0x0a);
    return alone ? visible(String.fromCharCode(byte)) : `0x${byte.toString(16).padStart(2, "0")}`;
  }

  // Characters, of which the last may want bytes yet, and the first may have lost some.
  tail(ids, _, t) {
    const text = ids
      .slice(Math.max(0, t - 3 * TAIL), t)
      .map(this.writer())
      .join("");
    return Array.from(text.replace(/^\ufffd+/, ""), visible).join("");
  }
}

// Words: what stands between blanks, and <eos> at each line end.
class Words extends Vocabulary {
  split(text) {
    return text
      .replaceAll("\n", " <eos> ")
      .split(new RegExp(`${BLANK}+`))
      .filter(Boolean);
  }

  writer(before) {
    let afterWord = before !== "" && !new RegExp(`${BLANK}$`).test(before);
    return (id) => {
      const space = afterWord ? " " : "";
      afterWord = this.units[id] !== "<eos>";
      return afterWord ? space + this.units[id] : "\n";
    };
  }

  nameOf(word) {
    return word === "<eos>" ? "↵" : visible(word);
  }

  tail(_, names, t) {
    return names.slice(Math.max(0, t - TAIL), t).join(" ");
  }
}

const VOCABULARIES = { char: Characters, byte: Bytes, word: Words };

const SYMBOLS = { " ": "␣", "\n": "↵", "\t": "⇥" };

// A unit as it can stand alone: code points instead of what shows nothing or acts on its
// neighbours, and a ring below a mark.
function visible(unit) {
  const shown = unit.replaceAll(/[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}]/gu, (c) => {
    return `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  });
  return SYMBOLS[unit] ?? shown.replace(/^\p{M}/u, "◌$&");
}
