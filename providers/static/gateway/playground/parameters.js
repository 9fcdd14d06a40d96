// The fields beside the conversation, and the request that they make of it.

const NUMBERS = {
  temperature: Number,
  max_tokens: (text) => Number.parseInt(text, 10),
  top_p: Number,
  seed: (text) => Number.parseInt(text, 10),
};
const JSON_FIELDS = ["schema", "tools", "extra"];

export class Parameters {
  constructor(form, texts, changed) {
    this.#form = form;
    this.#texts = texts;
    form.addEventListener("input", () => {
      this.#show();
      changed();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    this.#show();
  }

  #form;
  #texts;

  get(name) {
    return this.#form.elements[name].value;
  }

  get stream() {
    return this.#form.elements.stream.checked;
  }

  /** What stands in the fields, to be kept and put back. */
  get fields() {
    return Object.fromEntries(
      [...this.#form.elements].filter((field) => field.name && field.type !== "checkbox").map((field) => [field.name, field.value]),
    );
  }

  put(fields) {
    for (const [name, value] of Object.entries(fields)) {
      const field = this.#form.elements[name];
      if (field && field.type !== "checkbox") field.value = value;
      if (field?.type === "checkbox") field.checked = value;
    }
    this.#show();
  }

  /** How many of them say something. */
  get said() {
    return Object.entries(this.fields).filter(
      ([name, value]) => value && !(name === "format" && value === "text") && !(name === "schema" && this.get("format") !== "json_schema"),
    ).length;
  }

  /** The first field that cannot be read, or null; it is marked, and says why. */
  problem() {
    return [...this.#form.elements].find((field) => !field.checkValidity()) ?? null;
  }

  #show() {
    this.#form.querySelector("[data-for-format]").hidden = this.get("format") !== "json_schema";
    for (const name of JSON_FIELDS) {
      const field = this.#form.elements[name];
      const why = name === "schema" && this.get("format") !== "json_schema" ? "" : this.#why(name, field.value);
      field.setCustomValidity(why);
      field.setAttribute("aria-invalid", String(Boolean(why)));
      document.getElementById(`gw-play-why-${name}`).textContent = why;
    }
  }

  #why(name, text) {
    if (!text.trim()) return "";
    try {
      const told = JSON.parse(text);
      const fits = name === "tools" ? Array.isArray(told) : typeof told === "object" && told !== null && !Array.isArray(told);
      return fits ? "" : name === "tools" ? this.#texts.no_list : this.#texts.no_object;
    } catch (error) {
      return `${this.#texts.no_json} ${error.message}`;
    }
  }

  /** The body of a request for these messages. */
  body(model, messages) {
    const body = { model, messages };
    for (const [name, read] of Object.entries(NUMBERS)) if (this.get(name) !== "") body[name] = read(this.get(name));
    const stop = this.get("stop").split("\n").filter(Boolean);
    if (stop.length) body.stop = stop.length === 1 ? stop[0] : stop;
    const format = this.#format();
    if (format) body.response_format = format;
    if (this.get("tools").trim()) body.tools = JSON.parse(this.get("tools"));
    if (this.stream) Object.assign(body, { stream: true, stream_options: { include_usage: true } });
    if (this.get("extra").trim()) Object.assign(body, JSON.parse(this.get("extra")));
    return body;
  }

  #format() {
    const format = this.get("format");
    if (format === "json_object") return { type: "json_object" };
    if (format !== "json_schema") return null;
    const schema = JSON.parse(this.get("schema").trim() || "{}");
    return { type: "json_schema", json_schema: "schema" in schema && "name" in schema ? schema : { name: "answer", schema } };
  }
}
