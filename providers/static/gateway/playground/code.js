// The dialog that shows a request as code.

import { copy, el } from "./dom.js";
import { curl, javascript, python } from "./snippets.js";

const FORMS = [
  ["curl", "curl", curl],
  ["python", "Python", python],
  ["javascript", "JavaScript", javascript],
];

export function showCode(api, body, texts) {
  const shown = el("pre", { class: "gw-play-code", tabindex: "0" });
  const tabs = FORMS.map(([name, title, write]) =>
    el(
      "button",
      {
        type: "button",
        class: "gw-play-tab",
        role: "tab",
        "aria-selected": "false",
        dataset: { form: name },
        onclick: () => choose(name, write),
      },
      title,
    ),
  );
  const copier = el(
    "button",
    { type: "button", class: "gw-button gw-primary", onclick: () => copy(copier, shown.textContent, texts.copied) },
    texts.copy,
  );

  function choose(name, write) {
    tabs.forEach((tab) => tab.setAttribute("aria-selected", String(tab.dataset.form === name)));
    shown.textContent = write(api, body);
  }

  const dialog = el(
    "dialog",
    { class: "gw-dialog gw-play-dialog", "aria-label": texts.code },
    el("button", { type: "button", class: "gw-close", "aria-label": texts.close, onclick: () => dialog.close() }, "×"),
    el("h2", { class: "gw-title" }, texts.code),
    el("p", { class: "gw-quiet" }, texts.code_means),
    el("div", { class: "gw-play-tabs", role: "tablist", "aria-label": texts.code }, ...tabs),
    shown,
    el("div", { class: "gw-row gw-form-row" }, el("span", { class: "gw-grow" }), copier),
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  choose(FORMS[0][0], FORMS[0][2]);
  document.body.append(dialog);
  dialog.showModal();
}
