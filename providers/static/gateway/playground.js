// The playground's page: columns that ask the same, the composer under them, and what is remembered of both.

import { Gateway, Refused } from "./playground/asking.js";
import { showCode } from "./playground/code.js";
import { Combobox } from "./playground/combobox.js";
import { el, iconButton } from "./playground/dom.js";
import { rank } from "./playground/figures.js";
import { Parameters } from "./playground/parameters.js";
import { Pictures } from "./playground/pictures.js";
import * as state from "./playground/state.js";
import { AnswerNode, questionNode } from "./playground/turns.js";

const OWN = "own";
const NEAR_THE_END = 80;
const GROWS_BY_ITSELF = CSS.supports("field-sizing", "content");
const byId = (id) => document.getElementById(id);

class Playground {
  constructor(config) {
    this.config = config;
    this.texts = config.texts;
    this.gateway = new Gateway(config, document.querySelector("#gw-play-csrf input").value);
    this.columns = [];
    this.rounds = [];
    this.editing = null;
    this.running = new Map();
    this.nodes = new Map();
    this.answers = new WeakMap();
    this.parameters = new Parameters(byId("gw-play-form"), this.texts, () => this.changed());
    this.pictures = new Pictures(byId("gw-play-pictures"), this.texts, { told: (text) => this.tell(text), changed: () => this.changed() });
    this.recall();
    this.listen();
    this.drawKey();
    this.draw();
    this.changed();
    byId("gw-play").hidden = false;
    byId("gw-play-said").focus({ preventScroll: true });
  }

  // What stands there when the page opens

  recall() {
    const { prefill } = this.config;
    const address = state.fromAddress();
    const tab = prefill.messages.length ? null : state.remembered();
    this.key = address.key || this.config.key;
    this.keyNames = new Map(this.config.keyList.map((key) => [key.prefix, key.name]));
    if (tab) {
      this.rounds = tab.rounds;
      for (const said of this.rounds.flatMap((round) => Object.values(round.said))) Object.assign(said, { running: false, looked: true });
      this.parameters.put(tab.fields ?? {});
    }
    this.parameters.put({ ...address.parameters, stream: address.stream });
    const models = prefill.models.length ? prefill.models : (tab?.columns?.map((column) => column.model) ?? [this.config.first]);
    const before = tab?.columns ?? [];
    this.columns = models
      .slice(0, this.config.columns)
      .map((model, place) => ({ id: before[place]?.id ?? this.newId(place), model, sees: false }));
    this.take(prefill.messages);
    if (prefill.note) this.tell(prefill.note);
    this.columns.forEach((column) => this.look(column));
  }

  /** A conversation from elsewhere: its last question is to be asked, what was before it stands above. */
  take(messages) {
    if (!messages.length) return;
    const system = messages.filter((one) => one.role === "system").map((one) => one.content);
    if (system.length) this.parameters.put({ system: system.join("\n\n") });
    const said = messages.filter((one) => one.role !== "system");
    const last = said.at(-1)?.role === "user" ? said.pop() : null;
    for (const one of said) {
      if (one.role === "user") this.rounds.push({ text: one.content, pictures: [], said: {} });
      else if (this.rounds.length)
        for (const column of this.columns) this.rounds.at(-1).said[column.id] = fresh(column.model, { text: one.content, looked: true });
    }
    byId("gw-play-said").value = last?.content ?? "";
  }

  newId(place = 0) {
    return `c${Date.now().toString(36)}${place}`;
  }

  listen() {
    const said = byId("gw-play-said");
    said.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.send();
      }
    });
    said.addEventListener("input", () => this.changed());
    said.addEventListener("paste", (event) => this.takeFiles(event, [...(event.clipboardData?.files ?? [])]));
    const composer = byId("gw-play-composer");
    composer.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.running.size) this.stop();
      else this.send();
    });
    composer.addEventListener("dragover", (event) => event.preventDefault());
    composer.addEventListener("drop", (event) => this.takeFiles(event, [...(event.dataTransfer?.files ?? [])]));
    byId("gw-play-attach").addEventListener("click", () => this.pictures.choose());
    byId("gw-play-add").addEventListener("click", () => this.addColumn());
    byId("gw-play-clear").addEventListener("click", () => this.clear());
    byId("gw-play-code").addEventListener("click", () => this.showForm());
    byId("gw-play-settings").addEventListener("click", () => this.fold());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.running.size && !document.querySelector("dialog[open]")) this.stop();
    });
    window.addEventListener("pagehide", () => this.stop());
    if (matchMedia("(max-width: 1100px)").matches) this.fold();
  }

  takeFiles(event, files) {
    if (!files.length) return;
    event.preventDefault();
    if (this.sees()) this.pictures.take(files);
    else this.tell(this.texts.blind);
  }

  fold() {
    const closed = byId("gw-play").classList.toggle("gw-play-folded");
    byId("gw-play-settings").setAttribute("aria-expanded", String(!closed));
  }

  // Keys

  drawKey() {
    const name = (prefix) => (prefix === OWN ? this.texts.own : (this.keyNames.get(prefix) ?? prefix));
    const box = new Combobox({
      label: this.texts.key,
      value: this.key,
      texts: { none: this.texts.no_key, more: this.texts.more },
      shown: name,
      load: async (words) => {
        const keys = words ? await this.gateway.keys(words) : this.config.keyList;
        keys.forEach((key) => this.keyNames.set(key.prefix, key.name));
        const groups = [
          {
            title: this.texts.keys,
            names: keys.map((key) => ({ name: key.prefix, label: key.name, note: [key.team, key.prefix].filter(Boolean).join(" · ") })),
          },
        ];
        if (this.config.own && !words)
          groups.unshift({ title: this.texts.yours, names: [{ name: OWN, label: this.texts.own, note: this.texts.own_means }] });
        return { groups: groups.filter((group) => group.names.length), more: 0 };
      },
      chosen: (prefix) => {
        this.key = prefix;
        this.columns.forEach((column) => this.look(column));
        this.changed();
      },
    });
    byId("gw-play-key").replaceChildren(box.node);
  }

  // Columns

  addColumn() {
    if (this.columns.length >= this.config.columns) return;
    const column = { id: this.newId(this.columns.length), model: "", sees: false };
    this.columns.push(column);
    this.draw();
    this.changed();
    this.nodes.get(column.id).box.input.focus();
    this.nodes.get(column.id).box.input.click();
  }

  removeColumn(column) {
    this.running.get(column.id)?.abort();
    this.columns = this.columns.filter((one) => one !== column);
    for (const round of this.rounds) delete round.said[column.id];
    this.draw();
    this.changed();
  }

  /** What the name stands for with this key: whether one that may answer reads pictures. */
  async look(column) {
    const { model } = column;
    const found = model ? await this.gateway.named(this.key, model).catch(() => null) : null;
    if (column.model !== model) return;
    column.sees = Boolean(found?.sees);
    this.changed();
  }

  sees() {
    return this.columns.every((column) => column.sees);
  }

  draw() {
    const place = byId("gw-play-columns");
    this.nodes.clear();
    place.dataset.columns = this.columns.length;
    place.replaceChildren(...this.columns.map((column) => this.columnNode(column)));
    this.columns.forEach((column) => this.drawTurns(column));
    byId("gw-play-add").disabled = this.columns.length >= this.config.columns;
  }

  columnNode(column) {
    const box = new Combobox({
      label: this.texts.model,
      value: column.model,
      free: true,
      texts: { none: this.texts.no_name, more: this.texts.more },
      load: (words) => this.gateway.names(this.key, words),
      chosen: (name) => {
        column.model = name;
        this.look(column);
        this.changed();
      },
    });
    box.input.placeholder = this.texts.choose;
    const turns = el("div", { class: "gw-play-turns", role: "log", "aria-label": this.texts.conversation, tabindex: "0" });
    this.nodes.set(column.id, { box, turns });
    const head = el("header", { class: "gw-play-column-head" }, box.node);
    if (this.columns.length > 1) head.append(iconButton("close", this.texts.remove, () => this.removeColumn(column)));
    return el("section", { class: "gw-play-column" }, head, turns);
  }

  drawTurns(column) {
    const { turns } = this.nodes.get(column.id);
    if (!this.rounds.length) {
      turns.replaceChildren(this.emptyNode(column));
      return;
    }
    turns.replaceChildren(...this.rounds.flatMap((round, number) => this.roundNodes(column, round, number)));
    turns.scrollTop = turns.scrollHeight;
  }

  roundNodes(column, round, number) {
    const question = questionNode(round, number, { texts: this.texts, onEdit: (which) => this.edit(which) });
    const said = round.said[column.id];
    if (!said)
      return [
        question,
        el(
          "p",
          { class: "gw-play-unasked" },
          this.texts.unasked,
          " ",
          el("button", { type: "button", class: "gw-link", onclick: () => this.askNow(column, number) }, this.texts.ask_now),
        ),
      ];
    return [question, this.answerNode(column, said, number).node];
  }

  answerNode(column, said, number) {
    const node = new AnswerNode(said, {
      texts: this.texts,
      actions: {
        code: (one) => showCode(this.config.api, one.sent ?? this.body(column, number), this.texts),
        regenerate: () => this.regenerate(column, number),
        decision: (requestId) => this.gateway.decision(requestId),
      },
    });
    this.answers.set(said, node);
    const { turns } = this.nodes.get(column.id);
    node.onDrawn = () => {
      if (turns.scrollHeight - turns.scrollTop - turns.clientHeight < NEAR_THE_END || node.following) turns.scrollTop = turns.scrollHeight;
    };
    return node;
  }

  emptyNode(column) {
    const ideas = this.texts.ideas.map((idea) =>
      el("button", { type: "button", class: "gw-play-idea", onclick: () => this.use(idea) }, idea),
    );
    const first = this.columns[0] === column;
    return el("div", { class: "gw-play-empty" }, el("p", {}, first ? this.texts.empty : this.texts.empty_other), ...(first ? ideas : []));
  }

  use(idea) {
    const said = byId("gw-play-said");
    said.value = idea;
    said.focus();
    this.changed();
  }

  // Asking

  /** The messages of a column up to a round: the rounds that it answered, and the round itself. */
  messages(column, number) {
    const system = this.parameters.get("system");
    const messages = system.trim() ? [{ role: "system", content: system }] : [];
    for (const [place, round] of this.rounds.slice(0, number + 1).entries()) {
      const said = round.said[column.id];
      if (place < number && !(said && (said.text || said.calls.length))) continue;
      messages.push({ role: "user", content: content(round) });
      if (place < number)
        messages.push({ role: "assistant", content: said.text || said.calls.map((call) => `${call.name}(${call.arguments})`).join("\n") });
    }
    return messages;
  }

  body(column, number) {
    return this.parameters.body(column.model, this.messages(column, number));
  }

  send() {
    const said = byId("gw-play-said");
    const text = said.value.trim();
    const pictures = this.pictures.addresses;
    if (this.running.size || (!text && !pictures.length)) return;
    if (!this.ready()) return;
    if (this.editing !== null) this.rounds.length = this.editing;
    this.endEditing();
    this.rounds.push({ text, pictures, said: {} });
    said.value = "";
    this.pictures.put([]);
    const number = this.rounds.length - 1;
    this.columns.forEach((column) => this.answer(column, number));
  }

  /** Whether everything is there that a request needs; what is not is pointed at. */
  ready() {
    this.tell("");
    const problem = this.parameters.problem();
    if (problem) {
      if (byId("gw-play").classList.contains("gw-play-folded")) this.fold();
      problem.closest("details")?.setAttribute("open", "");
      problem.reportValidity();
      problem.focus();
      return false;
    }
    const nameless = this.columns.find((column) => !column.model);
    if (nameless) {
      this.tell(this.texts.choose_first);
      this.nodes.get(nameless.id).box.input.focus();
    }
    return !nameless;
  }

  askNow(column, number) {
    if (!this.running.has(column.id) && this.ready()) this.answer(column, number);
  }

  regenerate(column, number) {
    if (this.running.has(column.id) || !this.ready()) return;
    if (number < this.rounds.length - 1) {
      this.rounds.length = number + 1;
      this.draw();
    }
    this.answer(column, number);
  }

  async answer(column, number) {
    const round = this.rounds[number];
    const sent = this.body(column, number);
    const said = (round.said[column.id] = fresh(column.model, { running: true, sent }));
    const stop = new AbortController();
    this.running.set(column.id, stop);
    this.drawTurns(column);
    const node = this.answerNode(column, said, number);
    const { turns } = this.nodes.get(column.id);
    turns.lastElementChild.replaceWith(node.node);
    turns.scrollTop = turns.scrollHeight;
    this.changed();
    const heard = (answer, times) => {
      node.following = turns.scrollHeight - turns.scrollTop - turns.clientHeight < NEAR_THE_END;
      Object.assign(said, {
        text: answer.text,
        reasoning: answer.reasoning,
        calls: answer.calls,
        finish: answer.finish,
        usage: answer.usage,
        times: { ...times },
      });
      node.update();
    };
    const began = (head) => {
      Object.assign(said, { head, requestId: head.requestId });
      node.update();
    };
    try {
      await this.gateway.ask(this.key, sent, { signal: stop.signal, began, heard });
    } catch (error) {
      if (error.name === "AbortError") said.stopped = true;
      else said.error = problemOf(error, this.texts);
    } finally {
      said.running = false;
      if (this.running.get(column.id) === stop) this.running.delete(column.id);
      node.flush();
      this.changed();
    }
    if (said.requestId) said.told = await this.gateway.told(said.requestId);
    said.looked = true;
    this.rank(round);
    node.flush();
    this.changed();
  }

  /** Once all have answered, each shows where it leads. */
  rank(round) {
    const answers = this.columns.map((column) => round.said[column.id]).filter(Boolean);
    rank(answers);
    for (const said of answers) this.answers.get(said)?.flush();
  }

  stop() {
    for (const one of this.running.values()) one.abort();
  }

  edit(number) {
    if (this.running.size) return;
    const round = this.rounds[number];
    this.editing = number;
    byId("gw-play-said").value = round.text;
    this.pictures.put(round.pictures);
    byId("gw-play-editing").hidden = false;
    byId("gw-play-editing").replaceChildren(
      el("span", {}, this.texts.editing),
      el("button", { type: "button", class: "gw-link", onclick: () => this.endEditing(true) }, this.texts.cancel),
    );
    byId("gw-play-said").focus();
    this.changed();
  }

  endEditing(dropped = false) {
    this.editing = null;
    byId("gw-play-editing").hidden = true;
    if (dropped) {
      byId("gw-play-said").value = "";
      this.pictures.put([]);
    }
  }

  clear() {
    this.stop();
    this.rounds = [];
    this.endEditing(true);
    state.forget();
    this.draw();
    this.changed();
    byId("gw-play-said").focus();
  }

  showForm() {
    if (!this.ready()) return;
    const column = this.columns[0];
    const text = byId("gw-play-said").value.trim();
    const asked = { text, pictures: this.pictures.addresses };
    const number = this.rounds.length - 1;
    const before = number < 0 ? this.messages(column, -1) : this.messagesAfter(column);
    const messages =
      text || asked.pictures.length || number < 0 ? [...before, { role: "user", content: content(asked) }] : this.messages(column, number);
    showCode(this.config.api, this.parameters.body(column.model, messages), this.texts);
  }

  messagesAfter(column) {
    this.rounds.push({ text: "", pictures: [], said: {} });
    const messages = this.messages(column, this.rounds.length - 1).slice(0, -1);
    this.rounds.pop();
    return messages;
  }

  // What follows from a change

  changed() {
    this.grow(byId("gw-play-said"));
    const busy = this.running.size > 0;
    const send = byId("gw-play-send");
    send.classList.toggle("gw-danger", busy);
    send.classList.toggle("gw-primary", !busy);
    send.replaceChildren(
      el("span", { class: "material-symbols-outlined", "aria-hidden": "true" }, busy ? "stop" : "arrow_upward"),
      busy ? this.texts.stop : this.texts.send,
    );
    send.disabled = !busy && !byId("gw-play-said").value.trim() && !this.pictures.addresses.length;
    const attach = byId("gw-play-attach");
    attach.disabled = !this.sees();
    attach.title = this.sees() ? this.texts.attach : this.texts.blind;
    byId("gw-play-clear").disabled = !this.rounds.length;
    const said = this.parameters.said;
    byId("gw-play-said-count").textContent = said ? String(said) : "";
    byId("gw-play-said-count").hidden = !said;
    const { fields } = this.parameters;
    const key = this.key === this.config.key ? "" : this.key;
    state.toAddress({
      models: this.columns.map((column) => column.model),
      key,
      stream: this.parameters.stream,
      parameters: { ...fields, format: fields.format === "text" ? "" : fields.format },
    });
    if (!busy) state.remember({ columns: this.columns.map(({ id, model }) => ({ id, model })), rounds: this.rounds, fields });
  }

  /** As high as what is written, in browsers whose style sheets cannot say so. */
  grow(field) {
    if (GROWS_BY_ITSELF) return;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  }

  tell(text) {
    const place = byId("gw-play-note");
    place.textContent = text;
    place.hidden = !text;
  }
}

function fresh(model, more = {}) {
  return {
    model,
    text: "",
    reasoning: "",
    calls: [],
    finish: "",
    usage: null,
    times: { first: null, total: null },
    head: null,
    requestId: "",
    told: null,
    looked: false,
    error: null,
    stopped: false,
    running: false,
    ...more,
  };
}

function content({ text, pictures }) {
  if (!pictures.length) return text;
  return [...(text ? [{ type: "text", text }] : []), ...pictures.map((url) => ({ type: "image_url", image_url: { url } }))];
}

function problemOf(error, texts) {
  if (error instanceof Refused)
    return { message: error.message, status: error.status, code: error.code, retryAfter: error.retryAfter, attempts: error.attempts };
  return { message: texts.cut, status: 0, code: "stream_cut", retryAfter: "", attempts: [] };
}

const told = byId("gw-play-config");
if (told) new Playground(JSON.parse(told.textContent));
