// What a column shows: what was asked, and what was answered with its figures.

import { copy, el, icon, iconButton } from "./dom.js";
import { figures, served } from "./figures.js";
import { render, visible } from "./markdown.js";

const LEAST_PAUSE_MS = 50;

export function questionNode(round, number, { texts, onEdit }) {
  const pictures = round.pictures.map((address, place) => el("img", { src: address, alt: texts.picture.replace("%s", place + 1) }));
  return el(
    "div",
    { class: "gw-play-question" },
    el("div", { class: "gw-play-asked", dir: "auto" }, ...pictures, round.text && el("p", {}, ...visible(round.text))),
    iconButton("edit", texts.edit, () => onEdit(number), "gw-play-edit"),
  );
}

/** An answer that may still be growing. `said` is the page's own record of it, and is read anew at each `update`. */
export class AnswerNode {
  constructor(said, { texts, actions }) {
    this.said = said;
    this.#texts = texts;
    this.#actions = actions;
    this.#thoughts = el(
      "details",
      { class: "gw-play-thoughts", hidden: true },
      el("summary", {}, texts.thoughts),
      el("div", { dir: "auto" }),
    );
    this.#body = el("div", { class: "gw-md" });
    this.#calls = el("div", {});
    this.#problem = el("div", {});
    this.#foot = el("div", { class: "gw-play-foot" });
    this.node = el("article", { class: "gw-play-answer" }, this.#thoughts, this.#body, this.#calls, this.#problem, this.#foot);
    this.#draw();
  }

  #texts;
  #actions;
  #thoughts;
  #body;
  #calls;
  #problem;
  #foot;
  #timer = 0;
  #took = 0;
  #shown = null;

  /** Draws what is new: soon, and less often where drawing takes long. */
  update() {
    if (this.#timer) return;
    this.#timer = setTimeout(() => this.flush(), Math.max(LEAST_PAUSE_MS, 4 * this.#took));
  }

  flush() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const began = performance.now();
    this.#draw();
    this.#took = performance.now() - began;
    this.onDrawn?.();
  }

  #draw() {
    const { said } = this;
    this.node.classList.toggle("gw-play-running", said.running);
    this.node.setAttribute("aria-busy", String(said.running));
    this.#thoughts.hidden = !said.reasoning;
    if (said.reasoning) this.#thoughts.lastChild.replaceChildren(...visible(said.reasoning));
    if (this.#shown !== said.text) {
      const labels = { copy: this.#texts.copy };
      this.#body.replaceChildren(render(said.text, labels, (button, code) => copy(button, code, this.#texts.copied)));
      this.#shown = said.text;
    }
    if (said.running && !said.text && !said.reasoning && !said.calls.length) {
      this.#body.replaceChildren(
        el("p", { class: "gw-play-waiting" }, el("i"), el("i"), el("i"), el("span", { class: "gw-play-hidden" }, this.#texts.waiting)),
      );
      this.#shown = null;
    }
    this.#calls.replaceChildren(...said.calls.filter(Boolean).map((call) => callNode(call, this.#texts)));
    this.#problem.replaceChildren(...problemNodes(said, this.#texts));
    this.#foot.replaceChildren(...this.#footNodes().filter(Boolean));
  }

  #footNodes() {
    const { said } = this;
    const nodes = [served(said, this.#texts), figures(said, this.#texts)];
    if (said.running) return nodes;
    const texts = this.#texts;
    const copier = iconButton("content_copy", texts.copy_answer, () => copy(copier, said.text, texts.copied));
    const tools = [
      said.text && copier,
      iconButton("code", texts.code, () => this.#actions.code(said)),
      iconButton("refresh", texts.regenerate, () => this.#actions.regenerate(said)),
    ];
    nodes.push(
      el(
        "div",
        { class: "gw-play-tools" },
        this.#decision(),
        el("span", { class: "gw-grow" }),
        el("span", { class: "gw-play-acts" }, ...tools),
      ),
    );
    return nodes;
  }

  /** Why it was served so: asked for when it is folded out. */
  #decision() {
    const { said } = this;
    if (!said.told) return null;
    if (this.#folded) return this.#folded;
    const place = el("div", { class: "gw-play-why" }, "…");
    const node = el("details", { class: "gw-play-decision" }, el("summary", {}, icon("alt_route"), this.#texts.decision), place);
    node.addEventListener("toggle", async () => {
      if (!node.open || place.dataset.read) return;
      place.dataset.read = "1";
      try {
        place.innerHTML = await this.#actions.decision(said.requestId); // the gateway's own template: no word of a model's
        node.scrollIntoView({ block: "nearest" });
      } catch (error) {
        delete place.dataset.read;
        place.textContent = error.message;
      }
    });
    this.#folded = node;
    return node;
  }

  #folded = null;
}

function callNode(call, texts) {
  let shown = call.arguments;
  try {
    shown = JSON.stringify(JSON.parse(call.arguments), null, 2);
  } catch {
    // Still being written, or no JSON: shown as it came.
  }
  return el(
    "div",
    { class: "gw-play-call" },
    el("div", {}, icon("build"), el("strong", {}, call.name || texts.tool)),
    el("pre", { tabindex: "0" }, ...visible(shown)),
  );
}

function problemNodes(said, texts) {
  const nodes = [];
  if (said.stopped) nodes.push(el("p", { class: "gw-note" }, texts.stopped));
  if (said.finish === "length") nodes.push(el("p", { class: "gw-note gw-note-warn" }, texts.length));
  if (said.finish === "content_filter") nodes.push(el("p", { class: "gw-note gw-note-warn" }, texts.filtered));
  if (said.head?.notice) nodes.push(el("p", { class: "gw-note gw-note-warn" }, said.head.notice));
  if (said.error) nodes.push(errorNode(said.error, texts));
  return nodes;
}

function errorNode(error, texts) {
  const name = [error.status || "", error.code].filter(Boolean).join(" ");
  const hint = texts.hints[error.code] ?? texts.hints[String(error.status)] ?? "";
  const tries = error.attempts.map((one) =>
    el(
      "li",
      {},
      el("code", { class: "gw-code" }, one.route ?? `${one.provider_id}/${one.model_id}`),
      ` ${one.status ?? ""} ${one.code ?? one.reason ?? ""}`,
    ),
  );
  return el(
    "div",
    { class: "gw-note gw-note-bad", role: "alert" },
    el("p", {}, name && el("span", { class: "gw-pill gw-bad" }, name), " ", ...visible(error.message)),
    hint && el("p", { class: "gw-quiet" }, hint),
    error.retryAfter && el("p", { class: "gw-quiet" }, texts.retry_after.replace("%s", error.retryAfter)),
    tries.length > 0 && el("ul", {}, ...tries),
  );
}
