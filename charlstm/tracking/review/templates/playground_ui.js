// The playground: a form, a text that is written while one watches, and what the model expected at a character of it.
// The model is in playground.js. Texts only ever become text nodes.
"use strict";
(() => {
  const section = document.getElementById("playground");
  if (!section || !section.querySelector(".play")) return;
  const find = (selector) => section.querySelector(selector);
  const [form, text, panel, problem, status] = [".play", ".written", ".panel", ".problem", ".status"].map(find);
  const field = (name) => form.elements.namedItem(name);
  const MAX_TEXT = 20_000; // characters that are kept
  const SLICE_MILLISECONDS = 14; // of work between two looks at the user's events
  const SLICE_CHARACTERS = 200; // the same for a clock that stands still
  const NUM_BARS = 10;
  const CHANCES = [0.5, 0.2, 0.05, 0.01]; // between the classes of surprise, as in the legend

  const model = new Model(JSON.parse(document.getElementById("playground-model").textContent));

  // -------------------------------------------------------------------------------------------- what is shown how

  const HIDDEN = /^(?![\n\t\u200c\u200d])[\p{C}\p{Zl}\p{Zp}]$/u; // as in visible.py
  const codePoint = (one) => `U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  const NAMES = new Map([["\n", "\u21b5"], ["\t", "\u21e5"], [" ", "\u2423"]]);
  const nameOf = (one) => NAMES.get(one) ?? (HIDDEN.test(one) || /\p{M}/u.test(one) ? codePoint(one) : one);
  const percent = (share) => (share === 0 ? "\u2013" : share < 0.001 ? "< 0.1%" : `${(100 * share).toFixed(1)}%`);
  const counted = (count, digits = 0) =>
    count.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

  function element(tag, className = "", content = "") {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = content;
    return made;
  }

  // ------------------------------------------------------------------------------------------------- the settings

  const optional = (name, absent) => (field(name).value === "" ? absent : Number(field(name).value));
  const ruleOf = () => ({
    temperature: Number(field("temperature").value),
    topP: Number(field("top-p").value),
    topK: optional("top-k", null),
    minP: optional("min-p", 0),
  });

  // What is wrong with the prompt, or "".
  function promptProblem() {
    const unknown = [...new Set(field("prompt").value)].filter((one) => !model.ids.has(one));
    const named = unknown.slice(0, 8).map((one) => (nameOf(one) === codePoint(one) ? nameOf(one) : `${nameOf(one)} (${codePoint(one)})`));
    const rest = unknown.length > named.length ? ` and ${unknown.length - named.length} more` : "";
    if (unknown.length > 0) return `The model has never seen: ${named.join(", ")}${rest}. It cannot read the prompt.`;
    return field("prompt").value === "" ? "The prompt is empty. Give at least one character, for example a line break." : "";
  }

  function check() {
    problem.textContent = promptProblem();
    field("write").disabled = problem.textContent !== "";
  }

  // As bash reads it.
  function quoted(string) {
    if (/^[\w.,:%+=@/-]+$/.test(string)) return string;
    if (/^[\x20-\x7e]*$/.test(string)) return `'${string.replaceAll("'", "'\\''")}'`;
    const escaped = (one) => {
      const plain = { "\n": "\\n", "\t": "\\t", "'": "\\'", "\\": "\\\\" }[one];
      return plain ?? (HIDDEN.test(one) ? `\\U${one.codePointAt(0).toString(16).padStart(8, "0")}` : one);
    };
    return `$'${Array.from(string, escaped).join("")}'`;
  }

  function commandOf({ prompt, seed, rule, entries }) {
    const options = [`--prompt ${quoted(prompt)}`, `--num-chars ${entries.length - Array.from(prompt).length}`];
    options.push(`--temperature ${rule.temperature}`, `--top-p ${rule.topP}`, `--seed ${seed}`);
    if (rule.topK) options.push(`--top-k ${rule.topK}`);
    if (rule.minP) options.push(`--min-p ${rule.minP}`);
    return `charlstm generate ${options.join(" ")}`;
  }

  // -------------------------------------------------------------------------------------------------- the writing

  // A text: its characters so far, each with what predicted it. `rule` is that of its last characters.
  let run = null;

  function start() {
    check();
    if (problem.textContent !== "" || !form.reportValidity()) return;
    if (run) run.wanted = 0;
    const prompt = field("prompt").value;
    const seed = BigInt(Number(field("seed").value));
    const ids = Array.from(prompt, (one) => model.ids.get(one));
    run = { prompt, seed, key: keyOf(seed, prompt), state: model.zeroState(), ids, entries: [], rule: ruleOf(), isMixed: false, nats: 0 };
    text.replaceChildren();
    text.scrollTop = 0;
    point(null, null);
    write(run, ids.length + Number(field("length").value));
  }

  function resume() {
    if (!run || !form.reportValidity()) return;
    const rule = ruleOf();
    run.isMixed ||= JSON.stringify(rule) !== JSON.stringify(run.rule);
    run.rule = rule;
    write(run, run.entries.length + Number(field("length").value));
  }

  // Write until `wanted` characters are there, a slice of time after the other.
  function write(current, wanted) {
    current.wanted = Math.min(wanted, MAX_TEXT);
    const [begun, before] = [performance.now(), current.entries.length];
    const slice = () => {
      const [sliceBegun, sliceBefore] = [performance.now(), current.entries.length];
      const isLow = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
      const fresh = document.createDocumentFragment();
      while (current.entries.length < current.wanted) {
        fresh.append(spanOf(next(current)));
        const count = current.entries.length - sliceBefore;
        if (count >= SLICE_CHARACTERS || performance.now() - sliceBegun > SLICE_MILLISECONDS) break;
      }
      if (current !== run) return;
      text.append(fresh);
      if (isLow) text.scrollTop = text.scrollHeight;
      const isDone = current.entries.length >= current.wanted;
      showStatus(current, (1000 * (current.entries.length - before)) / (performance.now() - begun), isDone);
      if (!isDone) setTimeout(slice);
    };
    find(".result").hidden = false;
    slice();
  }

  // The next character: of the prompt, or drawn. The hidden state is kept: the distribution is made of it again.
  function next(current) {
    const { entries, ids, state } = current;
    const number = entries.length;
    const hidden = number > 0 ? state[state.length - 1].hidden.slice() : null;
    const logits = hidden && model.logits(hidden);
    const isPrompt = number < ids.length;
    const id = isPrompt ? ids[number] : draw(logits, current.rule, uniformAt(current.key, number - ids.length));
    const chance = hidden ? chances(logits)[id] : null;
    if (!isPrompt) current.nats -= Math.log(chance);
    model.read(state, id);
    const entry = { id, hidden, chance, rule: isPrompt ? null : current.rule, number };
    entries.push(entry);
    return entry;
  }

  // The model's own distribution.
  function chances(logits) {
    const largest = logits.reduce((a, b) => Math.max(a, b));
    const exponentials = Float64Array.from(logits, (logit) => Math.exp(logit - largest));
    const total = exponentials.reduce((a, b) => a + b);
    return exponentials.map((one) => one / total);
  }

  function spanOf({ id, chance, rule }) {
    const one = model.characters[id];
    const surprise = chance === null ? 0 : CHANCES.filter((limit) => chance < limit).length;
    const kind = one === "\n" ? " newline" : HIDDEN.test(one) ? " control" : "";
    return element("span", `s${surprise}${kind}${rule ? "" : " prompt"}`, HIDDEN.test(one) ? codePoint(one) : one);
  }

  function showStatus(current, perSecond, isDone) {
    const drawn = current.entries.length - current.ids.length;
    const parts = [`${counted(Math.max(0, drawn))} characters`];
    if (drawn > 0) parts.push(`${counted(current.nats / drawn, 3)} nats each`);
    if (Number.isFinite(perSecond)) parts.push(`${counted(perSecond)} a second`);
    if (current.entries.length >= MAX_TEXT) parts.push("this page keeps no more");
    status.textContent = parts.join(" \u00b7 ");
    field("stop").disabled = isDone;
    field("continue").disabled = !isDone || current.entries.length >= MAX_TEXT;
    find(".command").hidden = !isDone || drawn <= 0;
    find(".same").hidden = current.isMixed;
    find(".mixed").hidden = !current.isMixed;
    find(".command code").textContent = commandOf(current);
  }

  // --------------------------------------------------------------------------------------------------- the cursor

  // The character that the panel is about: the one under the mouse, else the chosen one.
  let [chosen, hovered] = [null, null];

  function point(newChosen, newHovered) {
    const shownBefore = hovered ?? chosen;
    text.children[chosen]?.classList.remove("cursor");
    [chosen, hovered] = [newChosen, newHovered];
    text.children[chosen]?.classList.add("cursor");
    const shown = hovered ?? chosen;
    if (shown !== shownBefore) showPanel(shown);
  }

  function choose(number, isKey) {
    point(Math.max(0, Math.min(number, text.children.length - 1)), null);
    if (isKey) text.children[chosen]?.scrollIntoView({ block: "nearest", behavior: "instant" });
  }

  // The character above or below: in the next line that way, the one that is nearest.
  function inNextLine(number, direction) {
    const from = text.children[number].getBoundingClientRect();
    let [best, bestDistance, line] = [number, Infinity, null];
    for (let n = number + direction; text.children[n]; n += direction) {
      const { left, top, height } = text.children[n].getBoundingClientRect();
      if (Math.abs(top - from.top) < height / 2) continue;
      line ??= top;
      if (Math.abs(top - line) > height / 2) break;
      if (Math.abs(left - from.left) < bestDistance) [best, bestDistance] = [n, Math.abs(left - from.left)];
    }
    return best;
  }

  const KEYS = {
    ArrowLeft: (number) => number - 1,
    ArrowRight: (number) => number + 1,
    ArrowUp: (number) => inNextLine(number, -1),
    ArrowDown: (number) => inNextLine(number, 1),
    Home: () => 0,
    End: () => text.children.length - 1,
  };

  function showPanel(number) {
    const entry = number === null ? null : run.entries[number];
    find(".hint").hidden = entry !== null;
    panel.querySelector("table").hidden = !entry?.hidden;
    const where = panel.querySelector(".where");
    where.hidden = !entry;
    if (!entry) return;
    const name = nameOf(model.characters[entry.id]);
    if (!entry.hidden) {
      where.textContent = `${name} is the first character. The model had read nothing before it.`;
      return;
    }
    where.textContent = `${name} had ${percent(entry.chance)}: a surprise of ${counted(-Math.log(entry.chance), 2)} nats`;
    panel.querySelector("tbody").replaceChildren(...rowsOf(entry));
    panel.querySelector(".rule").textContent = entry.rule ? "drawn from" : "";
  }

  // The likeliest characters and the one that came, with the model's chances and those that it was drawn from.
  function rowsOf({ id, hidden, rule }) {
    const logits = model.logits(hidden);
    const own = chances(logits);
    const drawn = rule && drawnFrom(logits, rule);
    const order = Array.from(own.keys()).sort((a, b) => own[b] - own[a]);
    const shown = order.slice(0, NUM_BARS);
    if (!shown.includes(id)) shown.push(id);
    return shown.map((one) => {
      const row = element("tr", one === id ? "came" : "");
      const bar = element("td", "bar");
      bar.append(element("span"));
      bar.firstChild.style.width = `${100 * own[one]}%`;
      const name = element("th", "", nameOf(model.characters[one]));
      if (one === id) name.append(element("span", "unseen", ", which came"));
      row.append(name, bar, element("td", "", percent(own[one])), element("td", "rule", drawn ? percent(drawn[one]) : ""));
      return row;
    });
  }

  function drawnFrom(logits, rule) {
    if (rule.temperature === 0) return logits.map((_, id) => (id === draw(logits, rule, 0) ? 1 : 0));
    const probable = relativeProbabilities(logits, rule);
    const total = probable.reduce((a, b) => a + b);
    return probable.map((one) => one / total);
  }

  // --------------------------------------------------------------------------------------------------- the events

  const numberOf = (target) => (target.parentElement === text ? Array.prototype.indexOf.call(text.children, target) : null);
  text.addEventListener("click", (event) => numberOf(event.target) !== null && choose(numberOf(event.target), false));
  text.addEventListener("pointerover", (event) => event.pointerType === "mouse" && point(chosen, numberOf(event.target)));
  text.addEventListener("pointerleave", () => point(chosen, null));
  text.addEventListener("focus", () => chosen === null && text.children.length > 0 && text.matches(":focus-visible") && choose(0, true));
  text.addEventListener("keydown", (event) => {
    const move = KEYS[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey || text.children.length === 0) return;
    event.preventDefault();
    choose(move(chosen ?? 0), true);
  });
  // No submit event: a frame in a sandbox has none.
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("keydown", (event) => {
    const isWrite = event.key === "Enter" && (event.target.type === "number" || event.ctrlKey || event.metaKey);
    if (isWrite) start();
  });
  field("prompt").addEventListener("input", check);
  field("write").addEventListener("click", start);
  field("stop").addEventListener("click", () => (run.wanted = run.entries.length));
  field("continue").addEventListener("click", resume);
  field("colors").addEventListener("input", () => text.classList.toggle("plain", !field("colors").checked));

  field("prompt").value = JSON.parse(field("prompt").dataset.start);
  find(".no-scripts").hidden = true;
  form.hidden = false;
  check();
})();
