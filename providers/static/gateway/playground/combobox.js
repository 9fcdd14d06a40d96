// A field that offers names while one types: grouped, searched by the server, reachable by the keyboard alone.

import { el } from "./dom.js";

const PAUSE_MS = 120;
let count = 0;

/**
 * `load(words)` promises `{groups: [{title, names: [{name, note}]}], more}`; `chosen(name, option)` hears of each choice, `texts` are
 * `none` and `more`. With `free`, what was typed counts too, even if it was not offered.
 */
export class Combobox {
  constructor({ label, value, load, chosen, texts, free = false, shown = (name) => name }) {
    this.#how = { load, chosen, texts, free, shown };
    const id = `gw-combobox-${(count += 1)}`;
    this.list = el("div", { class: "gw-combo-list", role: "listbox", id, "aria-label": label, hidden: true });
    this.input = el("input", {
      class: "gw-input gw-combo-input",
      role: "combobox",
      autocomplete: "off",
      spellcheck: "false",
      "aria-label": label,
      "aria-expanded": "false",
      "aria-controls": id,
      "aria-autocomplete": "list",
      oninput: () => this.#search(this.input.value),
      onfocus: () => this.input.select(),
      onclick: () => this.#open(),
      onkeydown: (event) => this.#key(event),
      onblur: () => this.#leave(),
    });
    this.node = el("div", { class: "gw-combo" }, this.input, this.list);
    this.value = value;
  }

  #how;
  #value = "";
  #options = [];
  #at = -1;
  #timer = 0;
  #asked = 0;

  get value() {
    return this.#value;
  }

  set value(name) {
    this.#value = name;
    this.input.value = name ? this.#how.shown(name) : "";
    this.input.title = this.input.value;
  }

  get isOpen() {
    return !this.list.hidden;
  }

  #open() {
    if (!this.isOpen) this.#search("");
  }

  #search(words) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fill(words), words ? PAUSE_MS : 0);
  }

  async #fill(words) {
    const asked = (this.#asked += 1);
    let told;
    try {
      told = await this.#how.load(words);
    } catch {
      told = { groups: [], more: 0 };
    }
    if (asked !== this.#asked || document.activeElement !== this.input) return;
    this.#options = [];
    this.list.replaceChildren(...told.groups.map((group) => this.#group(group)));
    if (!this.#options.length) this.list.append(el("p", { class: "gw-combo-none" }, this.#how.texts.none));
    if (told.more) this.list.append(el("p", { class: "gw-combo-none" }, this.#how.texts.more.replace("%s", told.more)));
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.#move(words ? 0 : this.#options.findIndex((option) => option.told.name === this.#value));
  }

  #group({ title, names }) {
    const options = names.map((told) => {
      const node = el(
        "div",
        {
          role: "option",
          id: `${this.list.id}-${this.#options.length}`,
          class: "gw-combo-option",
          "aria-selected": String(told.name === this.#value),
        },
        el("span", { class: "gw-combo-name" }, told.label ?? told.name),
        told.note && el("small", {}, told.note),
      );
      node.addEventListener("mousedown", (event) => {
        event.preventDefault();
        this.#choose(told);
      });
      this.#options.push({ node, told });
      return node;
    });
    return el(
      "div",
      { role: "group", "aria-label": title },
      el("div", { class: "gw-combo-title", "aria-hidden": "true" }, title),
      ...options,
    );
  }

  #move(to) {
    this.#options[this.#at]?.node.classList.remove("gw-at");
    this.#at = Math.max(-1, Math.min(to, this.#options.length - 1));
    const option = this.#options[this.#at]?.node;
    option?.classList.add("gw-at");
    option?.scrollIntoView({ block: "nearest" });
    if (option) this.input.setAttribute("aria-activedescendant", option.id);
    else this.input.removeAttribute("aria-activedescendant");
  }

  #key(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!this.isOpen) this.#open();
      else this.#move(this.#at + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter") {
      event.preventDefault();
      const option = this.isOpen ? this.#options[this.#at] : undefined;
      if (option) this.#choose(option.told);
      else if (this.#how.free && this.input.value.trim()) this.#choose({ name: this.input.value.trim() });
    } else if (event.key === "Escape" && this.isOpen) {
      event.stopPropagation();
      this.#close();
      this.value = this.#value;
    }
  }

  #choose(told) {
    this.#close();
    this.value = told.name;
    this.#how.chosen(told.name, told);
  }

  #leave() {
    this.#close();
    const typed = this.input.value.trim();
    if (this.#how.free && typed && typed !== this.#how.shown(this.#value)) this.#choose({ name: typed });
    else this.value = this.#value;
  }

  #close() {
    clearTimeout(this.#timer);
    this.#asked += 1;
    this.list.hidden = true;
    this.#at = -1;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}
