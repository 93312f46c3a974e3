// Sampling of characters from logits, with its own random numbers. It computes exactly what charlstm/generation/
// computes (kernels.py), so this page writes the same texts as `charlstm generate`.
"use strict";

// Tables of powers of 2: for whole exponents, and for fractions in 1/4096, rounded to 30 binary places.
const FRACTION_BITS = 12;
const LOWEST = -1000; // binary logarithm of the smallest probability, relative to the largest
const PER_NAT = Math.LOG2E * 2 ** FRACTION_BITS;
const MAX_FACTOR = 1e60;
const FRACTIONS = Float64Array.from({ length: 2 ** FRACTION_BITS }, (_, n) =>
  Math.floor(2 ** (n / 2 ** FRACTION_BITS) * 2 ** 30 + 0.5) / 2 ** 30);
const POWERS = Float64Array.from({ length: 1 - LOWEST }, (_, n) => 2 ** (n + LOWEST));

const likeliest = (logits) => logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));

// Probabilities relative to the largest, e^((logit - largest) / temperature), and 0 for excluded characters. `minP`
// keeps characters with at least this share of the largest probability, `topK` the k likeliest characters, `topP` the
// fewest likeliest characters that together have this share of the remaining probability.
function relativeProbabilities(logits, { temperature, topK, topP, minP }) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const factor = Math.min(PER_NAT / temperature, MAX_FACTOR);
  const probable = Float64Array.from(logits, (logit) => {
    const steps = Math.max((logit - largest) * factor + (0.5 - LOWEST * 2 ** FRACTION_BITS), 0) | 0;
    return FRACTIONS[steps & (2 ** FRACTION_BITS - 1)] * POWERS[steps >> FRACTION_BITS];
  });
  const keepFrom = (smallest) => probable.forEach((p, id) => p >= smallest || (probable[id] = 0));
  const descending = () => probable.slice().sort().reverse();
  if (minP > 0) keepFrom(minP);
  if (topK && topK < probable.length) keepFrom(descending()[topK - 1]);
  if (topP < 1) {
    const sorted = descending();
    const total = sorted.reduce((sum, p) => sum + p, 0);
    let [sum, count] = [0, 0];
    for (const p of sorted) {
      sum += p;
      count += sum - p < topP * total ? 1 : 0;
    }
    keepFrom(sorted[count - 1]);
  }
  return probable;
}

// The model's own distribution, exact to four digits, which is enough for display.
function probabilitiesOf(logits) {
  const probable = relativeProbabilities(logits, { temperature: 1, topP: 1 });
  const total = probable.reduce((sum, p) => sum + p, 0);
  return probable.map((p) => p / total);
}

// The id that a number in [0, 1) selects, or the likeliest id at temperature 0.
function draw(logits, rule, uniform) {
  if (rule.temperature === 0) return likeliest(logits);
  const probable = relativeProbabilities(logits, rule);
  const target = uniform * probable.reduce((sum, p) => sum + p, 0);
  let sum = 0;
  return probable.findIndex((p) => (sum += p) > target);
}

// SplitMix64 (Steele, Lea & Flood 2014). A random number is a function of seed, prompt and position in the text.
const bits64 = (x) => BigInt.asUintN(64, x);
const STEP = 0x9e3779b97f4a7c15n; // 2^64 divided by the golden ratio

function mixed(bits) {
  bits = bits64(bits64(bits ^ (bits >> 30n)) * 0xbf58476d1ce4e5b9n);
  bits = bits64((bits ^ (bits >> 27n)) * 0x94d049bb133111ebn);
  return bits ^ (bits >> 31n);
}

// The 64-bit key of the random numbers for the first text of a prompt and seed.
function keyOf(seed, prompt) {
  const points = Array.from(prompt, (character) => character.codePointAt(0));
  return [0, ...points].reduce((key, value) => mixed(bits64((key ^ BigInt(value)) + STEP)), bits64(BigInt(seed)));
}

// The random number in [0, 1), of 53 bits, at a position from 0.
function uniformAt(key, position) {
  return Number(mixed(bits64(key + BigInt(position + 1) * STEP)) >> 11n) * 2 ** -53;
}
