// Filters hide the texts that do not match. Without scripts, all texts are visible, and the form stays hidden.
"use strict";
for (const form of document.querySelectorAll(".filters")) {
  const selects = [...form.querySelectorAll("select")];
  const texts = [...form.parentElement.querySelectorAll("[data-prompt]")];
  const apply = () => {
    for (const text of texts) {
      text.hidden = !selects.every(({ name, value }) => value === "" || text.dataset[name] === value);
    }
    form.querySelector(".count").textContent = `${texts.filter((text) => !text.hidden).length} of ${texts.length}`;
  };
  form.addEventListener("input", apply);
  form.hidden = false;
  apply();
}
