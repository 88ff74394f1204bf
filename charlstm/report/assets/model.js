// The network, one unit at a time: the forward half of charlstm/nn/cells.py, with its letters.
//
//   u = x Wx + b     from the input: one unit, its embedding, or h of the layer below
//   v = h Wh         from the state before
//
//   RNN    h' = tanh(u + v)
//   GRU    r, q = sigma(u + v)      n = tanh(u_n + r * v_n)     h' = (1 - q) * n + q * h
//   LSTM   i, f, o = sigma(u + v)   g = tanh(u + v)             c' = f * c + i * g
//                                                               h' = o * tanh(c')
//
//   y = h Wy^T + by, where the output is tied h E^T + by, or h Wp E^T + by;   p = softmax(y)
//
// Sizes: V units, H hidden, D embedding. Products are summed in double precision; weights, gates
// and states have single precision, as in NumPy.

function sigma(z) {
  return 1 / (1 + Math.exp(-z));
}

// `values` names the arrays (H) of a layer, of which h, and c of an LSTM, are its state. `step`
// takes them as they are after the step before, and u and v of each gate, and overwrites them.
const CELLS = {
  rnn: {
    gates: ["h"],
    values: ["h"],
    step({ h }, u, v) {
      for (let k = 0; k < h.length; k++) {
        h[k] = Math.tanh(u.h[k] + v.h[k]); // h' = tanh(u + v)
      }
    },
  },
  gru: {
    gates: ["r", "q", "n"],
    values: ["r", "q", "n", "h"],
    step({ r, q, n, h }, u, v) {
      for (let k = 0; k < h.length; k++) {
        r[k] = sigma(u.r[k] + v.r[k]); // reset gate
        q[k] = sigma(u.q[k] + v.q[k]); // update gate
        n[k] = Math.tanh(u.n[k] + r[k] * v.n[k]); // candidate
        h[k] = (1 - q[k]) * n[k] + q[k] * h[k]; // h' = (1 - q) * n + q * h
      }
    },
  },
  lstm: {
    gates: ["i", "f", "o", "g"],
    values: ["i", "f", "o", "g", "c", "h"],
    step({ i, f, o, g, c, h }, u, v) {
      for (let k = 0; k < h.length; k++) {
        i[k] = sigma(u.i[k] + v.i[k]); // input gate
        f[k] = sigma(u.f[k] + v.f[k]); // forget gate
        o[k] = sigma(u.o[k] + v.o[k]); // output gate
        g[k] = Math.tanh(u.g[k] + v.g[k]); // candidate
        c[k] = f[k] * c[k] + i[k] * g[k]; // c' = f * c + i * g
        h[k] = o[k] * Math.tanh(c[k]); // h' = o * tanh(c')
      }
    },
  },
};

// --- products, of vectors with matrices that lie row by row ------------------------------------

// y += x
function add(y, x) {
  for (let k = 0; k < y.length; k++) {
    y[k] += x[k];
  }
}

// y += x W, with x (n) and W (n, m)
function addProduct(y, x, W) {
  const m = y.length;
  for (let j = 0, at = 0; j < x.length; j++, at += m) {
    const xj = x[j];
    for (let k = 0; k < m; k++) {
      y[k] += xj * W[at + k];
    }
  }
}

// y += x W^T, with x (n) and W (m, n)
function addTransposed(y, x, W) {
  const n = x.length;
  for (let k = 0, at = 0; k < y.length; k++, at += n) {
    let sum = 0;
    for (let j = 0; j < n; j++) {
      sum += x[j] * W[at + j];
    }
    y[k] += sum;
  }
}

// Row k of W (m, n)
function rowOf(W, k, n) {
  return W.subarray(k * n, (k + 1) * n);
}

// Arrays of given sizes by name, which lie one after the other in `flat`
function views(flat, sizes) {
  const arrays = {};
  let at = 0;
  for (const [name, size] of Object.entries(sizes)) {
    arrays[name] = flat.subarray(at, at + size);
    at += size;
  }
  return arrays;
}

// --- the network --------------------------------------------------------------------------------

class Layer {
  // Wx (G, n, H), Wh (G, H, H) and b (G, 1, H) lie among `weights`, and `values` are arrays by name.
  constructor(cell, k, H, weights, values) {
    const byGate = (name) => {
      const W = weights[`layer${k}.${name}`];
      const size = W.length / cell.gates.length;
      return cell.gates.map((_, g) => rowOf(W, g, size));
    };
    const zeros = () => Object.fromEntries(cell.gates.map((gate) => [gate, new Float64Array(H)]));
    Object.assign(this, { cell, H, values, u: zeros(), v: zeros() });
    this.Wx = byGate("Wx");
    this.Wh = byGate("Wh");
    this.b = byGate("b");
  }

  // Read x, which is values (n), the id of a one-hot vector, or null for a vector of zeros;
  // return h.
  step(x) {
    const { cell, H, u, v, values } = this;
    cell.gates.forEach((gate, g) => {
      u[gate].set(this.b[g]);
      if (typeof x === "number") {
        add(u[gate], rowOf(this.Wx[g], x, H));
      } else if (x !== null) {
        addProduct(u[gate], x, this.Wx[g]);
      }
      v[gate].fill(0);
      addProduct(v[gate], values.h, this.Wh[g]);
    });
    cell.step(values, u, v);
    return values.h;
  }
}

// The network. After each step `logits` (V) are those of the next unit, and `values` all that
// happens in the cells, as one array.
class Network {
  // `data` are those of `alive` in charlstm/report/alive.py.
  constructor(data) {
    const { V, widths, embedding: D, tie, weights } = data;
    const cell = CELLS[data.cell];
    const sizes = {};
    for (const [name, shape] of Object.entries(weights.shapes)) {
      sizes[name] = shape.reduce((a, b) => a * b);
    }
    this.weights = views(weightsOf(weights), sizes);
    this.Wy = tie ? this.weights.E : this.weights.Wy;
    this.D = D;
    this.logits = new Float64Array(V);
    this.projected = this.weights.Wp ? new Float64Array(D) : null;
    this.values = new Float32Array(cell.values.length * widths.reduce((a, b) => a + b));
    let at = 0;
    this.layers = widths.map((H, k) => {
      const named = Object.fromEntries(cell.values.map((name) => [name, H]));
      const values = views(this.values.subarray(at), named);
      at += cell.values.length * H;
      return new Layer(cell, k, H, this.weights, values);
    });
    this.begin();
  }

  // Go to the state before the first unit.
  begin() {
    this.values.fill(0);
    this.output();
  }

  // Go to where `values` were copied.
  load(values) {
    this.values.set(values);
    this.output();
  }

  // Read a unit; an id below zero stands for one outside the vocabulary.
  step(id) {
    let x = id;
    if (id < 0) {
      x = null;
    } else if (this.D) {
      x = rowOf(this.weights.E, id, this.D);
    }
    for (const layer of this.layers) {
      x = layer.step(x);
    }
    this.output();
  }

  output() {
    const { logits, projected, weights } = this;
    let { h } = this.layers.at(-1).values;
    if (projected) {
      projected.fill(0);
      addProduct(projected, h, weights.Wp);
      h = projected;
    }
    logits.set(weights.by);
    addTransposed(logits, h, this.Wy); // y = h Wy^T + by
  }
}

// The flat vector of weights: float32, or 16 bits a number.
function weightsOf({ precision, base64 }) {
  if (precision === "<f4") {
    return decoded(base64, Float32Array);
  }
  return new Float32Array(decoded(base64, Uint16Array)).map(half);
}

// What the last of the ten bits of a fraction is worth, by the exponent beside it
const POWERS = Array.from({ length: 32 }, (_, exponent) => 2 ** (Math.max(1, exponent) - 25));

// The number that 16 bits stand for: a sign, five bits of exponent, ten of fraction
function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) + (exponent ? 1024 : 0);
  return (bits & 0x8000 ? -fraction : fraction) * POWERS[exponent];
}

// --- from logits to a unit ----------------------------------------------------------------------

// p = softmax(y / temperature), where the unit `without` has no probability. At temperature 0 the
// likeliest has all of it, the first of equals.
function softmax(y, temperature = 1, without = -1) {
  const p = Float64Array.from(y);
  if (without >= 0) {
    p[without] = -Infinity;
  }
  const highest = p.reduce((a, b) => Math.max(a, b));
  if (temperature === 0) {
    const likeliest = p.indexOf(highest);
    return p.fill(0).fill(1, likeliest, likeliest + 1);
  }
  for (let k = 0; k < p.length; k++) {
    p[k] = Math.exp((p[k] - highest) / temperature);
  }
  const sum = p.reduce((a, b) => a + b);
  return p.map((each) => each / sum);
}

// The unit that a uniform number from 0 up to 1 draws by probabilities p (V)
function draw(p, number) {
  let left = number * p.reduce((a, b) => a + b);
  let last = 0;
  for (let k = 0; k < p.length; k++) {
    if (p[k] > 0) {
      last = k; // rounding may leave a rest after the last
      left -= p[k];
      if (left < 0) {
        return k;
      }
    }
  }
  return last;
}
