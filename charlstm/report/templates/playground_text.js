// How the playground shows characters, probabilities and texts. Texts only ever become text nodes.
"use strict";

const NUM_BARS = 10;
const SURPRISE_LIMITS = [0.5, 0.2, 0.05, 0.01]; // probabilities between the classes of surprise, as in the legend
const HIDDEN = /^(?![\n\t\u200c\u200d])[\p{C}\p{Zl}\p{Zp}]$/u; // what a browser would not show, as in visible.py
const SYMBOLS = { "\n": "\u21b5", "\t": "\u21e5", " ": "\u2423" };
const ESCAPES = { "\n": "\\n", "\t": "\\t", "'": "\\'", "\\": "\\\\" };

const hexadecimal = (character, length) => character.codePointAt(0).toString(16).padStart(length, "0");
const codePointOf = (character) => `U+${hexadecimal(character, 4).toUpperCase()}`;
const percent = (share) => (share === 0 ? "\u2013" : share < 0.001 ? "< 0.1%" : `${(100 * share).toFixed(1)}%`);
const fixed = (number, digits) =>
  number.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

// A character alone, in a list: combining marks have nothing to combine with there.
const nameOf = (character) =>
  SYMBOLS[character] ?? (HIDDEN.test(character) || /\p{M}/u.test(character) ? codePointOf(character) : character);

const longNameOf = (character) => {
  const name = nameOf(character);
  return name === codePointOf(character) ? name : `${name} (${codePointOf(character)})`;
};

function elementOf(tag, className = "", content = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = content;
  return element;
}

// A text as lines of characters. A line is an element of its own: a browser then lays out the last one only.
class ShownText {
  constructor(element) {
    this.element = element;
    this.clear();
  }

  clear() {
    this.spans = [];
    this.numbers = new Map();
    this.element.replaceChildren();
    this.element.scrollTop = 0;
  }

  // `probability` is null where nothing predicted the character.
  append(character, probability, isPrompt) {
    const surprise = SURPRISE_LIMITS.filter((limit) => probability !== null && probability < limit).length;
    const isHidden = HIDDEN.test(character);
    const kind = character === "\n" ? " newline" : isHidden ? " control" : "";
    const span = elementOf("span", `s${surprise}${kind}${isPrompt ? " prompt" : ""}`);
    span.textContent = isHidden ? codePointOf(character) : character;
    if (this.spans.length === 0 || this.spans.at(-1).textContent === "\n") this.element.append(elementOf("div"));
    this.element.lastChild.append(span);
    this.numbers.set(span, this.spans.length);
    this.spans.push(span);
  }

  isAtEnd() {
    return this.element.scrollHeight - this.element.scrollTop - this.element.clientHeight < 40;
  }

  scrollToEnd() {
    this.element.scrollTop = this.element.scrollHeight;
  }

  // The number of the character above (-1) or below (1): in the next line on the screen, the one that is nearest.
  inNextLine(number, direction) {
    const from = this.spans[number].getBoundingClientRect();
    let [nearest, smallest, line] = [number, Infinity, null];
    for (let n = number + direction; this.spans[n]; n += direction) {
      const { left, top, height } = this.spans[n].getBoundingClientRect();
      if (Math.abs(top - from.top) < height / 2) continue;
      line ??= top;
      if (Math.abs(top - line) > height / 2) break;
      if (Math.abs(left - from.left) < smallest) [nearest, smallest] = [n, Math.abs(left - from.left)];
    }
    return nearest;
  }
}

// The likeliest characters and the one that came, with their probabilities, and those they were drawn with, if any.
function barsOf(characters, came, probabilities, drawn) {
  const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a]);
  const shown = order.slice(0, NUM_BARS);
  if (!shown.includes(came)) shown.push(came);
  return shown.map((id) => {
    const row = elementOf("tr", id === came ? "came" : "");
    const name = elementOf("th", "", nameOf(characters[id]));
    if (id === came) name.append(elementOf("span", "unseen", ", which came"));
    const bar = elementOf("td", "bar");
    bar.append(elementOf("span"));
    bar.firstChild.style.width = `${100 * probabilities[id]}%`;
    const share = elementOf("td", "", percent(probabilities[id]));
    row.append(name, bar, share, elementOf("td", "rule", drawn ? percent(drawn[id]) : ""));
    return row;
  });
}

// As bash reads it.
function quoted(string) {
  if (/^[\w.,:%+=@/-]+$/.test(string)) return string;
  if (/^[\x20-\x7e]*$/.test(string)) return `'${string.replaceAll("'", "'\\''")}'`;
  const escaped = (one) => ESCAPES[one] ?? (HIDDEN.test(one) ? `\\U${hexadecimal(one, 8)}` : one);
  return `$'${Array.from(string, escaped).join("")}'`;
}

// The words of the command that writes the same text.
function commandOf({ prompt, numDrawn, seed, rule }) {
  const options = [`--num-chars ${numDrawn}`, `--temperature ${rule.temperature}`];
  if (rule.topK) options.push(`--top-k ${rule.topK}`);
  options.push(`--top-p ${rule.topP}`);
  if (rule.minP) options.push(`--min-p ${rule.minP}`);
  options.push(`--seed ${seed}`);
  const argument = quoted(prompt);
  return ["charlstm generate", ...(prompt.startsWith("-") ? [...options, "--", argument] : [argument, ...options])];
}
