// What the page remembers: names and parameters in its address, the conversation in this tab alone, for this person alone.

const PLACE = `gw-playground-${JSON.parse(document.getElementById("gw-play-config")?.textContent ?? "{}").person}`;
const MOST_KEPT = 3_500_000;
export const PARAMETERS = ["temperature", "max_tokens", "top_p", "seed", "stop", "format"];

export function fromAddress() {
  const told = new URLSearchParams(location.search);
  return {
    models: told.getAll("model"),
    key: told.get("key") ?? "",
    stream: told.get("stream") !== "0",
    parameters: Object.fromEntries(PARAMETERS.filter((name) => told.has(name)).map((name) => [name, told.get(name)])),
  };
}

export function toAddress({ models, key, stream, parameters }) {
  const told = new URLSearchParams();
  models.filter(Boolean).forEach((name) => told.append("model", name));
  if (key) told.set("key", key);
  if (!stream) told.set("stream", "0");
  for (const name of PARAMETERS) if (parameters[name]) told.set(name, parameters[name]);
  history.replaceState(null, "", `${location.pathname}${told.size ? `?${told}` : ""}`);
}

/** `{rounds, fields}` of this tab, or nothing. */
export function remembered() {
  try {
    const told = JSON.parse(sessionStorage.getItem(PLACE) ?? "null");
    return told && Array.isArray(told.rounds) ? told : null;
  } catch {
    return null;
  }
}

/** What is too large to be kept is forgotten with the tab's page: pictures first, then all. */
export function remember(told) {
  try {
    let text = JSON.stringify(told, (name, value) => (name === "sent" ? undefined : value));
    if (text.length > MOST_KEPT)
      text = JSON.stringify(told, (name, value) => (name === "sent" ? undefined : name === "pictures" ? [] : value));
    if (text.length > MOST_KEPT) sessionStorage.removeItem(PLACE);
    else sessionStorage.setItem(PLACE, text);
  } catch {
    // The browser keeps nothing for us: then the conversation lasts as long as the page.
  }
}

export function forget() {
  sessionStorage.removeItem(PLACE);
}
