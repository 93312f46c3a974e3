"""The playground in Chromium computes logits and writes texts as Python does, to the bit."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from charlstm.generation.sampler import Request, Sampler
from charlstm.model.shape import ModelShape
from charlstm.sampling import Sampling
from tests.support.browser import needs_chromium
from tests.support.playgrounds import (
    FOUND,
    case,
    default_case,
    found_by,
    logits_of,
    odd_case,
    page_with,
)
from tests.support.reference_sampler import RULES

pytestmark = [pytest.mark.slow, needs_chromium]

CASES = {
    "default": default_case(),
    "odd": odd_case(),
    "block": case(ModelShape(7, 5, 10, 2, 13), "abcdefg"),
    "saturated": case(ModelShape(7, 5, 16, 1, 9), "abcdefg", factor=200),
    "zero": case(ModelShape(7, 5, 16, 2, 9), "abcdefg", factor=0),
}
MODEL = """
const model = new Model(JSON.parse(document.getElementById("playground-model").textContent));
"""
LOGITS = """
const all = new Float32Array(ids.length * model.bias.length);
const state = model.zeroState();
ids.forEach((id, n) => {
  model.read(state, id);
  all.set(model.logits(state.at(-1).hidden), n * model.bias.length);
});
const bytes = Array.from(new Uint8Array(all.buffer), (one) => String.fromCharCode(one));
found(btoa(bytes.join("")));
"""
WRITE = """
found(requests.map(({ prompt, length, rule, seed }) => {
  const state = model.zeroState();
  for (const one of prompt) model.read(state, model.ids.get(one));
  let text = "";
  for (let n = 0; n < length; n++) {
    const id = draw(model.logits(state.at(-1).hidden), rule, uniformAt(keyOf(seed, prompt), n));
    text += model.characters[id];
    model.read(state, id);
  }
  return text;
}));
"""


def script(body: str, **values: object) -> str:
    """Return `body` behind constants, in its own scope, so that no name of the page changes."""
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    return f"{FOUND}{{\n{MODEL}{constants}{body}}}\n"


@pytest.mark.parametrize("name", CASES)
def test_a_thousand_logits_are_those_of_torch(tmp_path: Path, name: str) -> None:
    one = CASES[name]
    ids = np.random.default_rng(1).integers(0, len(one.vocab), 1000)
    bits = base64.b64decode(found_by(page_with(one, script(LOGITS, ids=ids.tolist())), tmp_path))
    ours = np.frombuffer(bits, "<f4").reshape(1000, -1)
    theirs = logits_of(one, ids)
    assert np.abs(ours - theirs).max() == 0
    assert name == "zero" or len(np.unique(ours)) > 1000


@pytest.mark.parametrize("name", ["default", "odd", "zero"])
def test_texts_are_those_of_python(tmp_path: Path, name: str) -> None:
    one = CASES[name]
    every = one.vocab.characters
    prompts = [every[0], every[-1], every[:: max(1, len(every) // 20)]]
    requests = [
        Request(prompt, rule._replace(num_chars=200 if name == "default" else 60, seed=seed))
        for rule in RULES
        for prompt, seed in zip(prompts, [1, 2**53 - 1, 0], strict=True)
    ]
    rules = ("temperature", "topK", "topP", "minP")
    asked = [
        {
            "prompt": prompt,
            "length": rule.num_chars,
            "seed": rule.seed,
            "rule": dict(zip(rules, rule[1:5], strict=True)),
        }
        for prompt, rule, *_ in requests
    ]
    texts = found_by(page_with(one, script(WRITE, requests=asked)), tmp_path)
    assert texts == [written.text for written in Sampler(one.model, one.vocab).generate(requests)]
    assert len(set(texts)) > (3 if name == "zero" else len(RULES))


CLICK = """
const find = (selector) => document.querySelector(`#playground ${selector}`);
const controls = find(".play").elements;
const set = (name, value) => {
  controls.namedItem(name).value = value;
  controls.namedItem(name).dispatchEvent(new Event("input", { bubbles: true }));
};
const click = (name) => controls.namedItem(name).click();
const spans = () => [...document.querySelectorAll("#playground .written span")];
const isDone = () => find(".status").textContent !== "" && controls.namedItem("stop").disabled;
const whenDone = (next) => setTimeout(() => (isDone() ? next() : whenDone(next)), 20);
const press = (key) => {
  find(".written").dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
};
"""


def test_the_form_writes_and_shows_what_was_expected(tmp_path: Path) -> None:
    body = f"""{CLICK}
    set("prompt", "ROMEO:\\nO'"); set("temperature", "0.7"); set("top-p", "0.9");
    set("seed", "42"); set("length", "300");
    click("write");
    whenDone(() => {{
      for (let n = 0; n < 5; n++) press("ArrowRight");
      const rows = [...document.querySelectorAll("#playground tbody tr")];
      found({{ text: find(".written").textContent, where: find(".where").textContent,
        rows: rows.map((row) => row.textContent),
        cursor: spans().findIndex((one) => one.classList.contains("cursor")),
        came: document.querySelectorAll(".came").length }});
    }});
    """
    one = CASES["default"]
    got = found_by(page_with(one, script(body), prompt="R"), tmp_path, milliseconds=20_000)
    request = Request("ROMEO:\nO'", Sampling(temperature=0.7, top_p=0.9, num_chars=300, seed=42))
    assert got["text"] == request.prompt + Sampler(one.model, one.vocab).generate([request])[0].text
    assert got["cursor"] == 4 and 10 <= len(got["rows"]) <= 11 and got["came"] == 1
    assert got["where"].startswith("O had ") and " nats" in got["where"]
