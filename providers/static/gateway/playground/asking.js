// A question to the gateway: a permit for the chosen key, the request, and the answer with what it took.

import { Answer, events } from "./stream.js";

const EARLY_SECONDS = 30;
const LOOKS_MS = [250, 350, 500, 800, 1500, 3000, 5000, 8000, 15000];

/** What went wrong, in the words of the gateway where it said some. */
export class Refused extends Error {
  constructor(message, { status = 0, code = "", retryAfter = "", attempts = [], requestId = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfter, attempts, requestId });
  }
}

export class Gateway {
  constructor(config, csrf) {
    this.#config = config;
    this.#csrf = csrf;
  }

  #config;
  #csrf;
  #permits = new Map();

  async #permit(key) {
    const held = this.#permits.get(key);
    if (held && held.until - Date.now() / 1000 > EARLY_SECONDS) return held.permit;
    const response = await this.#fetch(this.#config.permit, {
      method: "POST",
      headers: { "X-CSRFToken": this.#csrf },
      body: new URLSearchParams({ key }),
    });
    const told = await response.json();
    this.#permits.set(key, told);
    return told.permit;
  }

  forgetPermits() {
    this.#permits.clear();
  }

  /** Of the control plane, which leads to the login where the session is over. */
  async #fetch(url, options = {}) {
    let response;
    try {
      response = await fetch(url, { ...options, redirect: "error", headers: { Accept: "application/json", ...options.headers } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(this.#config.texts.away, { code: "unreachable" });
    }
    if (response.ok) return response;
    const told = await response.json().catch(() => ({}));
    throw new Refused(told.error?.message ?? this.#config.texts.away, { status: response.status, code: told.error?.code ?? "" });
  }

  async names(key, words) {
    return (await this.#fetch(`${this.#config.names}?${new URLSearchParams({ key, q: words })}`)).json();
  }

  async named(key, name) {
    return (await (await this.#fetch(`${this.#config.names}?${new URLSearchParams({ key, name })}`)).json()).name;
  }

  async keys(words) {
    return (await (await this.#fetch(`${this.#config.keys}?${new URLSearchParams({ q: words })}`)).json()).keys;
  }

  /** What is recorded of a request, as soon as it is; null when it does not come. */
  async told(requestId) {
    for (const pause of LOOKS_MS) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      try {
        return await (await this.#fetch(`${this.#config.told}?${new URLSearchParams({ request: requestId })}`)).json();
      } catch (error) {
        if (error.status !== 404) return null;
      }
    }
    return null;
  }

  async decision(requestId) {
    return (await this.#fetch(`${this.#config.decision}?${new URLSearchParams({ request: requestId })}`)).text();
  }

  /**
   * Asks, and calls `heard(answer, times)` whenever there is more. `began(head)` hears of the reply's headers before its first byte.
   * Returns the answer with its times in seconds; raises `Refused`, or the browser's `AbortError` when `signal` stopped it.
   */
  async ask(key, body, { signal, began, heard }) {
    const permit = await this.#permit(key);
    const at = performance.now();
    const since = () => (performance.now() - at) / 1000;
    let response;
    try {
      response = await fetch(this.#config.chat, {
        method: "POST",
        signal,
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${permit}` },
        body: JSON.stringify(body),
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(this.#config.texts.away, { code: "unreachable" });
    }
    const head = headOf(response);
    began(head);
    if (response.status === 401) this.#permits.delete(key);
    if (!response.ok) throw await refusal(response, head, this.#config.texts);
    const answer = new Answer();
    const times = { first: null, total: null };
    if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
      answer.whole(await response.json());
      times.total = since();
      heard(answer, times);
      return { answer, times, head };
    }
    for await (const data of events(response.body)) {
      if (!answer.hear(data)) continue;
      if (times.first === null && answer.begun) times.first = since();
      times.total = since();
      heard(answer, times);
    }
    times.total = since();
    if (answer.error) {
      throw new Refused(answer.error.message ?? "", { status: response.status, code: answer.error.code ?? "", requestId: head.requestId });
    }
    if (!answer.ended)
      throw new Refused(this.#config.texts.cut, { status: response.status, code: "stream_cut", requestId: head.requestId });
    return { answer, times, head };
  }
}

function headOf(response) {
  const told = (name) => response.headers.get(name) ?? "";
  return {
    requestId: told("x-gateway-request-id"),
    route: decodeURIComponent(told("x-gateway-route")),
    attempts: Number(told("x-gateway-attempts")) || 0,
    fallback: told("x-gateway-fallback") === "1",
    notice: told("x-gateway-notice"),
  };
}

async function refusal(response, head, texts) {
  const told = await response.json().catch(() => ({}));
  const error = typeof told.error === "object" && told.error ? told.error : { message: typeof told.error === "string" ? told.error : "" };
  return new Refused(error.message || texts.away, {
    status: response.status,
    code: String(error.code ?? ""),
    retryAfter: response.headers.get("retry-after") ?? "",
    attempts: Array.isArray(error.attempts) ? error.attempts : [],
    requestId: head.requestId,
  });
}
