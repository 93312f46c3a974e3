// Filters: hide the texts that do not match. Without scripts all texts are there, and the form stays hidden.
"use strict";
for (const form of document.querySelectorAll(".filters")) {
  const inputs = [...form.querySelectorAll("[data-filter]")];
  const texts = [...form.parentElement.querySelectorAll("[data-prompt]")];
  const matches = (text, input) =>
    input.type === "checkbox"
      ? !input.checked || text.dataset[input.dataset.filter] === "1"
      : input.value === "" || text.dataset[input.dataset.filter] === input.value;
  const apply = () => {
    let count = 0;
    for (const text of texts) {
      text.hidden = !inputs.every((input) => matches(text, input));
      count += text.hidden ? 0 : 1;
    }
    form.querySelector(".count").textContent = `${count} of ${texts.length}`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}
// A mark in a hidden text shows all texts again, so that the link back leads somewhere.
window.addEventListener("hashchange", () => {
  const target = document.getElementById(location.hash.slice(1));
  const text = target && target.closest("[data-prompt][hidden]");
  if (text) {
    for (const form of document.querySelectorAll(".filters")) {
      form.reset();
      form.dispatchEvent(new Event("input"));
    }
    target.scrollIntoView();
  }
});
