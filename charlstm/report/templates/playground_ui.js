// The playground: a form, a text that is written while one watches, and what the model expected at each character.
// The model is in playground.js, its drawing in playground_draw.js. Texts only ever become text nodes.
"use strict";

const NUM_BARS = 10;
const SURPRISE_LIMITS = [0.5, 0.2, 0.05, 0.01]; // probabilities between the classes of surprise, as in the legend
const HIDDEN = /^(?![\n\t\u200c\u200d])[\p{C}\p{Zl}\p{Zp}]$/u; // what a browser would not show, as in page.py
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

// ---------------------------------------------------------------------------------------------- the form

(() => {
  const find = (selector) => document.querySelector(`#playground ${selector}`);
  const form = find(".play");
  const field = (name) => form.elements.namedItem(name);
  const MAX_TEXT = 20_000; // characters that are kept
  const SLICE_MILLISECONDS = 10; // of work between two looks at the user's events
  const SLICE_CHARACTERS = 200; // the same for a clock that stands still

  const model = new Model(JSON.parse(document.getElementById("playground-model").textContent));
  const text = new ShownText(find(".written"));

  // Messages to itself: browsers delay timers, by up to a second in a frame.
  const { port1: slices, port2: nextSlice } = new MessageChannel();

  // The text as it is: `entries` has a record for each character; `rule` is the one of the last characters.
  let run = null;
  // The characters that the panel may be about: the one under the mouse goes before the one that was chosen.
  let [chosen, hovered] = [null, null];

  // ------------------------------------------------------------------------------------------------- the settings

  const numberIn = (name, absent) => (field(name).value === "" ? absent : Number(field(name).value));
  const ruleOf = () => ({
    temperature: numberIn("temperature"),
    topK: numberIn("top-k", null),
    topP: numberIn("top-p"),
    minP: numberIn("min-p", 0),
  });

  // What is wrong with the form beyond what the browser says by itself, or "".
  function problemOf() {
    const unknown = [...new Set(field("prompt").value)].filter((character) => !model.ids.has(character));
    const named = unknown.slice(0, 8).map(longNameOf).join(", ");
    const rest = unknown.length > 8 ? ` and ${unknown.length - 8} more` : "";
    if (unknown.length > 0) return `The model has never seen: ${named}${rest}. It cannot read the prompt.`;
    if (field("prompt").value === "") return "The prompt is empty. Give at least one character, such as a line break.";
    return "";
  }

  function isFine() {
    const problem = problemOf();
    if (find(".problem").textContent !== problem) find(".problem").textContent = problem;
    field("write").disabled = problem !== "";
    return problem === "";
  }

  // -------------------------------------------------------------------------------------------------- the writing

  function start() {
    if (!isFine() || !form.reportValidity()) return;
    const prompt = field("prompt").value;
    const seed = numberIn("seed");
    run = {
      prompt,
      seed,
      key: keyOf(seed, prompt),
      promptIds: Array.from(prompt, (character) => model.ids.get(character)),
      state: model.zeroState(),
      entries: [],
      nats: 0, // of the drawn characters
      rule: ruleOf(),
      isMixed: false, // whether characters were drawn by other rules before
    };
    text.clear();
    point(null, null);
    find(".result").hidden = false;
    write(run, run.promptIds.length + numberIn("length"));
  }

  function resume() {
    if (!isFine() || !form.reportValidity()) return;
    const rule = ruleOf();
    run.isMixed ||= JSON.stringify(rule) !== JSON.stringify(run.rule);
    run.rule = rule;
    write(run, run.entries.length + numberIn("length"));
  }

  // Write until `wanted` characters are there, one slice of time after the other.
  function write(current, wanted) {
    const [begun, numBefore] = [performance.now(), current.entries.length];
    current.wanted = Math.min(wanted, MAX_TEXT);
    const writeSlice = () => {
      if (current !== run) return; // another text was begun
      const isAtEnd = text.isAtEnd();
      const sliceEnd = performance.now() + SLICE_MILLISECONDS;
      const most = Math.min(current.wanted, current.entries.length + SLICE_CHARACTERS);
      while (current.entries.length < most && performance.now() < sliceEnd) addCharacter(current);
      if (isAtEnd) text.element.scrollTop = text.element.scrollHeight;
      const isDone = current.entries.length >= current.wanted;
      showStatus(current, (1000 * (current.entries.length - numBefore)) / (performance.now() - begun), isDone);
      if (!isDone) nextSlice.postMessage(null);
    };
    slices.onmessage = writeSlice;
    writeSlice();
  }

  // The next character, of the prompt or drawn. The hidden state before it is kept: it tells what was expected.
  function addCharacter(current) {
    const number = current.entries.length;
    const hidden = number > 0 ? current.state.at(-1).hidden.slice() : null;
    const logits = hidden && model.logits(hidden);
    const isPrompt = number < current.promptIds.length;
    const id = isPrompt
      ? current.promptIds[number]
      : draw(logits, current.rule, uniformAt(current.key, number - current.promptIds.length));
    const probability = hidden && probabilitiesOf(logits)[id];
    if (!isPrompt) current.nats -= Math.log(probability);
    current.entries.push({ id, hidden, probability, rule: isPrompt ? null : current.rule });
    text.append(model.characters[id], probability, isPrompt);
    model.read(current.state, id);
  }

  function showStatus(current, perSecond, isDone) {
    const numDrawn = Math.max(0, current.entries.length - current.promptIds.length);
    const parts = [`${fixed(numDrawn, 0)} characters`];
    if (numDrawn > 0) parts.push(`${fixed(current.nats / numDrawn, 3)} nats each`);
    if (Number.isFinite(perSecond)) parts.push(`${fixed(perSecond, 0)} a second`);
    if (current.entries.length >= MAX_TEXT) parts.push("this page keeps no more");
    find(".status").textContent = parts.join(" \u00b7 ");
    field("stop").disabled = isDone;
    field("continue").disabled = !isDone || current.entries.length >= MAX_TEXT;
    // No argument may have a NUL, and no single command changes its settings on the way.
    find(".command").hidden = !isDone || numDrawn === 0 || current.prompt.includes("\0") || current.isMixed;
    const words = commandOf({ ...current, numDrawn }).map((word) => elementOf("span", "", word));
    find(".command code").replaceChildren(...words.flatMap((word) => [word, " "]).slice(0, -1));
  }

  // --------------------------------------------------------------------------------------------------- the cursor

  function point(newChosen, newHovered) {
    const before = hovered ?? chosen;
    text.spans[chosen]?.classList.remove("cursor");
    [chosen, hovered] = [newChosen, newHovered];
    text.spans[chosen]?.classList.add("cursor");
    if ((hovered ?? chosen) !== before) showPanel(run.entries[hovered ?? chosen]);
  }

  function showPanel(entry) {
    const [where, table] = [find(".where"), find(".panel table")];
    find(".hint").hidden = Boolean(entry);
    where.hidden = !entry;
    table.hidden = !entry?.hidden;
    if (!entry) return;
    const name = nameOf(model.characters[entry.id]);
    if (!entry.hidden) {
      where.textContent = `${name} is the first character. The model had read nothing before it.`;
      return;
    }
    const [logits, nats] = [model.logits(entry.hidden), -Math.log(entry.probability)];
    where.textContent = `${name} had ${percent(entry.probability)}: a surprise of ${fixed(nats, 2)} nats`;
    table.querySelector(".rule").textContent = entry.rule ? "drawn from" : "";
    const drawn = entry.rule && drawnFrom(logits, entry.rule);
    table.tBodies[0].replaceChildren(...barsOf(model.characters, entry.id, probabilitiesOf(logits), drawn));
  }

  const MOVES = {
    ArrowLeft: (number) => number - 1,
    ArrowRight: (number) => number + 1,
    Home: () => 0,
    End: () => text.spans.length - 1,
  };

  function moveTo(number) {
    point(Math.max(0, Math.min(number, text.spans.length - 1)), null);
    text.spans[chosen].scrollIntoView({ block: "nearest", behavior: "instant" });
  }

  // --------------------------------------------------------------------------------------------------- the events

  text.element.addEventListener("click", ({ target }) => {
    if (text.numbers.has(target)) point(text.numbers.get(target), null);
  });
  text.element.addEventListener("pointerover", ({ target, pointerType }) => {
    if (pointerType === "mouse") point(chosen, text.numbers.get(target) ?? null);
  });
  text.element.addEventListener("pointerleave", () => point(chosen, null));
  text.element.addEventListener("keydown", (event) => {
    if (!MOVES[event.key] || event.ctrlKey || event.metaKey || event.altKey || text.spans.length === 0) return;
    event.preventDefault();
    moveTo(chosen === null && event.key.startsWith("Arrow") ? 0 : MOVES[event.key](chosen ?? 0));
  });
  // In the sandbox of MLflow's page a form has no submit event.
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("keydown", ({ key, target, ctrlKey, metaKey }) => {
    if (key === "Enter" && (target.type === "number" || ctrlKey || metaKey)) start();
  });
  form.addEventListener("input", isFine);
  field("write").addEventListener("click", start);
  field("stop").addEventListener("click", () => (run.wanted = run.entries.length));
  field("continue").addEventListener("click", resume);
  field("colors").addEventListener("input", ({ target }) => text.element.classList.toggle("plain", !target.checked));

  field("prompt").value = JSON.parse(field("prompt").dataset.start);
  find(".no-scripts").hidden = true;
  form.hidden = false;
  isFine();
})();
