// The playground: a form, the text as it is written, and the characters that the model expected at each place. The
// model is in playground.js, the sampling in playground_draw.js. Texts become nothing but text nodes.
"use strict";

const NUM_BARS = 10;
const SURPRISE_LIMITS = [0.5, 0.2, 0.05, 0.01]; // limits between the colors, as in the legend
const HIDDEN = /^(?![\n\t\u200c\u200d])[\p{C}\p{Zl}\p{Zp}]$/u; // characters that a browser would hide, as in page.py
const SYMBOLS = { "\n": "\u21b5", "\t": "\u21e5", " ": "\u2423" };
const MOVES = { ArrowLeft: -1, ArrowRight: 1 };
const SLICE = 20; // characters written between two checks for user events

const codePointOf = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
const percent = (share) => (share < 0.001 ? "< 0.1%" : `${(100 * share).toFixed(1)}%`);

// The name of a single character. A combining mark has nothing to combine with, so it is named by its code point.
const nameOf = (character) =>
  SYMBOLS[character] ?? (HIDDEN.test(character) || /\p{M}/u.test(character) ? codePointOf(character) : character);

function elementOf(tag, className = "", content = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = content;
  return element;
}

(() => {
  const find = (selector) => document.querySelector(`#playground ${selector}`);
  const form = find(".play");
  const field = (name) => form.elements.namedItem(name);
  const numberIn = (name, absent) => (field(name).value === "" ? absent : Number(field(name).value));
  const model = new Model(JSON.parse(document.getElementById("playground-model").textContent));
  const written = find(".written");
  // The page continues by messages to itself, because browsers delay timers in a frame.
  const { port1: slices, port2: nextSlice } = new MessageChannel();
  let run = { entries: [], spans: [], wanted: 0 }; // the text so far: a record and an element per character
  let cursor = -1;

  // Return whether the form is valid. Show the characters of the prompt that the model has never seen.
  function isFine() {
    const unknown = [...new Set(field("prompt").value)].filter((character) => !model.ids.has(character));
    const named = unknown.slice(0, 8).map((one) => `${nameOf(one)} (${codePointOf(one)})`).join(", ");
    find(".problem").textContent = named && `The model has never seen: ${named}.`;
    return named === "" && form.reportValidity();
  }

  function start() {
    if (!isFine()) return;
    const prompt = field("prompt").value;
    const promptIds = Array.from(prompt, (character) => model.ids.get(character));
    run = {
      promptIds,
      key: keyOf(numberIn("seed"), prompt),
      rule: {
        temperature: numberIn("temperature"),
        topK: numberIn("top-k", null),
        topP: numberIn("top-p"),
        minP: numberIn("min-p", 0),
      },
      state: model.zeroState(),
      entries: [],
      spans: [],
      nats: 0, // of the drawn characters
      wanted: promptIds.length + numberIn("length"),
    };
    cursor = -1;
    written.replaceChildren();
    find(".panel tbody").replaceChildren();
    find(".result").hidden = false;
    writeSlice();
  }

  function writeSlice() {
    for (let n = 0; n < SLICE && run.entries.length < run.wanted; n++) addCharacter();
    written.scrollTop = written.scrollHeight;
    const numDrawn = Math.max(0, run.entries.length - run.promptIds.length);
    find(".status").textContent = `${numDrawn} characters \u00b7 ${(run.nats / numDrawn).toFixed(3)} nats each`;
    field("stop").disabled = run.entries.length >= run.wanted;
    if (!field("stop").disabled) nextSlice.postMessage(null);
  }
  slices.onmessage = writeSlice;

  // Add the next character, from the prompt or drawn. Its record has the previous hidden state, which gives the
  // expected characters.
  function addCharacter() {
    const number = run.entries.length - run.promptIds.length;
    const hidden = run.entries.length > 0 ? run.state.at(-1).hidden.slice() : null;
    const logits = hidden && model.logits(hidden);
    const id = number < 0 ? run.promptIds.at(number) : draw(logits, run.rule, uniformAt(run.key, number));
    const probability = hidden && probabilitiesOf(logits)[id];
    if (number >= 0) run.nats -= Math.log(probability);
    show(model.characters[id], probability, number < 0);
    run.entries.push({ id, hidden, probability });
    model.read(run.state, id);
  }

  // Each line is an element, so that a browser lays out only the last line again.
  function show(character, probability, isPrompt) {
    const surprise = SURPRISE_LIMITS.filter((limit) => probability !== null && probability < limit).length;
    const isHidden = HIDDEN.test(character);
    const kind = character === "\n" ? " newline" : isHidden ? " control" : "";
    const name = isHidden ? codePointOf(character) : character;
    const span = elementOf("span", `s${surprise}${kind}${isPrompt ? " prompt" : ""}`, name);
    if (run.spans.length === 0 || run.spans.at(-1).textContent === "\n") written.append(elementOf("div"));
    written.lastChild.append(span);
    run.spans.push(span);
  }

  // Show the likeliest characters at the cursor and the actual character, with their probabilities.
  function point(number) {
    if (number < 0 || number >= run.spans.length) return;
    run.spans[cursor]?.classList.remove("cursor");
    cursor = number;
    run.spans[cursor].classList.add("cursor");
    const { id: came, hidden, probability } = run.entries[cursor];
    const name = nameOf(model.characters[came]);
    const nats = hidden && (-Math.log(probability)).toFixed(2);
    const had = hidden ? `had ${percent(probability)}: a surprise of ${nats} nats` : "is the first character";
    find(".where").textContent = `${name} ${had}`;
    const probabilities = hidden ? probabilitiesOf(model.logits(hidden)) : [];
    const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
    const shown = order.filter((id, rank) => rank < NUM_BARS || id === came);
    find(".panel tbody").replaceChildren(...shown.map((id) => {
      const [row, bar, filled] = [elementOf("tr", id === came ? "came" : ""), elementOf("td", "bar"), elementOf("span")];
      filled.style.width = `${100 * probabilities[id]}%`;
      bar.append(filled);
      row.append(elementOf("th", "", nameOf(model.characters[id])), bar);
      row.append(elementOf("td", "", percent(probabilities[id])));
      return row;
    }));
  }

  written.addEventListener("pointerover", ({ target }) => point(run.spans.indexOf(target)));
  written.addEventListener("keydown", (event) => {
    if (!MOVES[event.key] || run.spans.length === 0) return;
    event.preventDefault();
    point(Math.max(0, Math.min(cursor + MOVES[event.key], run.spans.length - 1)));
    run.spans[cursor].scrollIntoView({ block: "nearest" });
  });
  // In the sandbox of MLflow's page, a form has no submit event.
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("keydown", ({ key, target }) => key === "Enter" && target.type === "number" && start());
  field("write").addEventListener("click", start);
  field("stop").addEventListener("click", () => (run.wanted = run.entries.length));
  field("prompt").value = JSON.parse(field("prompt").dataset.start);
  find(".no-scripts").hidden = true;
  form.hidden = false;
})();
