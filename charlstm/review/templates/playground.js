// A character-level LSTM in plain JavaScript. It computes exactly what charlstm/generation/ computes (quantized.py,
// stepper.py). playground_draw.js draws characters from its logits.
//
//     input, forget and output gate    i, f, o = sigmoid(W x + U h + b), each with its own W, U and b
//     candidate                        g = tanh(W x + U h + b)
//     cell state                       c <- f * c + i * g
//     hidden state                     h <- o * tanh(c)
//
// x is the character, or the hidden state of the layer below. Weights and hidden states are whole numbers from -127 to
// 127. Sums of whole numbers are exact. After a sum, the result of each operation is rounded to float32, by Math.fround
// or by a Float32Array. Functions are tables, rounded to 15 binary places.
"use strict";

const STEPS_PER_UNIT = 256; // of a table's argument
const TABLE_LENGTH = 8192; // for arguments from -16 to 16
const MIDDLE = TABLE_LENGTH / 2 + 0.5; // the index of 0, and 1/2 for rounding
const LEVELS = 127; // of a weight or an activation, on either side of 0
const TINY = Math.fround(1e-30); // so that 127 / largest is finite

const float32 = Math.fround;
const indexOf = (steps) => Math.min(Math.max(steps, 0), TABLE_LENGTH - 1) | 0;

const tableOf = (f, places = 2 ** 15) =>
  Float32Array.from({ length: TABLE_LENGTH }, (_, n) => {
    const x = (n - TABLE_LENGTH / 2) / STEPS_PER_UNIT;
    return Math.floor(f(x) * places + 0.5) / places;
  });

// The error function, for GELU: a series of positive terms (Abramowitz & Stegun 1964, 7.1.6).
function erf(x) {
  if (x < 0) return -erf(-x);
  if (x > 6) return 1;
  let [term, sum] = [x, x];
  for (let n = 1; term > sum * 1e-17; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const SIGMOID = tableOf((x) => 1 / (1 + Math.exp(-x)));
const TANH = tableOf(Math.tanh);
const TANH_LEVELS = TANH.map((y) => y * LEVELS);
const GELU = tableOf((x) => 0.5 * x * (1 + erf(x / Math.SQRT2)));

const bytesOf = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer;

// Rows of 8-bit weights, with a scale per row.
class Matrix {
  constructor({ weights, scale }) {
    this.weights = new Int8Array(bytesOf(weights));
    this.scale = new Float32Array(bytesOf(scale));
    this.sums = new Int32Array(this.scale.length);
  }

  // The sums of weights * vector, exact.
  multiply(vector) {
    const { weights, sums } = this;
    for (let row = 0; row < sums.length; row++) {
      const first = row * vector.length;
      let sum = 0;
      for (let k = 0; k < vector.length; k++) sum += weights[first + k] * vector[k];
      sums[row] = sum;
    }
    return sums;
  }

  // The product as float32. `largest` is the vector's largest magnitude (see `eightBits`), 1 for a hidden state.
  times(vector, largest = 1) {
    const number = (sum, row) => float32(sum) * float32(this.scale[row] * largest);
    return Float32Array.from(this.multiply(vector), number);
  }
}

// A vector as whole numbers from -127 to 127, in units of 1/127 of its largest magnitude, and that magnitude.
function eightBits(vector) {
  let largest = TINY;
  for (const x of vector) largest = Math.max(largest, Math.abs(x));
  const factor = float32(LEVELS / largest);
  return [Int8Array.from(vector, (x) => rounded(float32(x * factor))), largest];
}

const rounded = (x) => Math.floor(float32(x + 0.5));

class Layer {
  constructor({ matrix, base, unit }) {
    this.matrix = new Matrix(matrix);
    this.base = new Int16Array(bytesOf(base)); // W x + b of each character; b above the first layer
    this.unit = unit; // of `base`, in steps of a table
  }

  // One time step, which updates `hidden` and `cell`. `vector` is the input of the matrix: the previous hidden state,
  // above the first layer after the hidden state of the layer below.
  read(vector, id, hidden, cell) {
    const { base, unit, matrix } = this;
    const sums = matrix.multiply(vector);
    const size = hidden.length;
    const first = id * 4 * size;
    // The input of a gate, W x + U h + b, as an index of its table. Rows are in the order i, f, o, g.
    const index = (row, middle) => {
      const fromHidden = float32(float32(sums[row]) * matrix.scale[row]);
      return float32(fromHidden + float32(base[first + row] * unit + middle));
    };
    for (let n = 0; n < size; n++) {
      const i = SIGMOID[indexOf(index(n, MIDDLE))];
      const f = SIGMOID[indexOf(index(n + size, MIDDLE))];
      const o = SIGMOID[indexOf(index(n + 2 * size, MIDDLE))];
      const g = TANH[indexOf(index(n + 3 * size, MIDDLE + TABLE_LENGTH) - TABLE_LENGTH)]; // of a table behind SIGMOID
      cell[n] = float32(f * cell[n]) + float32(i * g);
      hidden[n] = rounded(float32(o * TANH_LEVELS[indexOf(float32(cell[n] * STEPS_PER_UNIT + MIDDLE))]));
    }
  }
}

class Model {
  constructor({ characters, hidden_size, layers, up, down, head, bias }) {
    this.characters = characters.map((point) => String.fromCodePoint(point));
    this.ids = new Map(this.characters.map((character, id) => [character, id]));
    this.hiddenSize = hidden_size;
    this.layers = layers.map((layer) => new Layer(layer));
    this.up = up && new Matrix(up);
    this.down = down && new Matrix(down);
    this.head = new Matrix(head);
    this.bias = new Float32Array(bytesOf(bias));
  }

  // The state before the first character.
  zeroState() {
    return this.layers.map(() => ({ hidden: new Int8Array(this.hiddenSize), cell: new Float32Array(this.hiddenSize) }));
  }

  // Read a character, which updates `state`.
  read(state, id) {
    for (let n = 0; n < this.layers.length; n++) {
      const { hidden, cell } = state[n];
      if (n === 0) {
        this.layers[0].read(hidden, id, hidden, cell);
      } else {
        const both = new Int8Array(2 * this.hiddenSize);
        both.set(state[n - 1].hidden);
        both.set(hidden, this.hiddenSize);
        this.layers[n].read(both, 0, hidden, cell); // one row of `base` for all characters
      }
    }
  }

  // The logits of the next character from the hidden state of the last layer: through the feed-forward block
  // h + down(gelu(up(h))), if the model has one, and the head.
  logits(hidden) {
    const logits = this.up ? this.afterBlock(hidden) : this.head.times(hidden);
    return logits.map((logit, id) => logit + this.bias[id]);
  }

  afterBlock(hidden) {
    const steps = this.up.times(hidden);
    const [inner, largestInner] = eightBits(steps.map((one) => GELU[indexOf(float32(one + MIDDLE))]));
    const added = this.down.times(inner, largestInner);
    const [outer, largest] = eightBits(added.map((x, n) => float32(hidden[n] * float32(1 / LEVELS)) + x));
    return this.head.times(outer, largest);
  }
}
