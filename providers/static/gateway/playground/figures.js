// The figures under an answer: first what this browser measured, then what the gateway recorded.

import { el, icon } from "./dom.js";

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  return value < 1 ? `${Math.round(value * 1000)}\u202fms` : `${value.toFixed(value < 10 ? 2 : 1)}\u202fs`;
}

export function count(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** Tokens a second while it was being written: the wait for the first is not counted. */
export function pace(tokens, times) {
  const writing = times.total - (times.first ?? 0);
  return times.first === null || !tokens || writing < 0.005 ? "–" : (tokens / writing).toFixed(tokens / writing < 10 ? 1 : 0);
}

/** `said` is an answer as the page keeps it. */
export function figures(said, texts) {
  const told = said.told;
  const used = told ?? fromUsage(said.usage);
  if (said.error && !used?.output_tokens) return refused(said, texts);
  const tokens = used && el("span", {}, count(used.input_tokens), " → ", count(used.output_tokens));
  const rows = [
    ["first", texts.first_token, seconds(said.times.first)],
    ["total", texts.total, seconds(said.times.total)],
    ["pace", texts.pace, pace(used?.output_tokens, said.times)],
    ["", texts.tokens, tokens ?? "–"],
  ];
  if (used?.cached_tokens) rows.push(["", texts.cached, count(used.cached_tokens)]);
  if (used?.reasoning_tokens) rows.push(["", texts.reasoning, count(used.reasoning_tokens)]);
  rows.push(["cost", texts.cost, told ? told.cost || texts.unpriced : said.requestId && !said.looked ? "…" : "–"]);
  return el("dl", { class: "gw-play-figures" }, ...rows.map((row) => figure(row, said.best?.[row[0]], texts)));
}

/** Of a request that nobody answered: how long that took, as soon as it is known. */
function refused({ told }, texts) {
  return told && el("dl", { class: "gw-play-figures" }, figure(["", texts.total, seconds(told.duration_ms / 1000)], false, texts));
}

function figure([, name, value], best, texts) {
  const mark =
    best && el("span", { class: "gw-play-best", title: texts.best }, "★", el("span", { class: "gw-play-hidden" }, ` ${texts.best}`));
  return el("div", { class: best ? "gw-play-leads" : "" }, el("dt", {}, name), el("dd", {}, value, mark));
}

const RANKED = {
  first: (said) => said.times.first,
  total: (said) => said.times.total,
  pace: (said) => -Number(pace(said.told?.output_tokens, said.times)),
  cost: (said) => said.told?.cost_usd ?? null,
};

/** Which of the answers to one question lead in what; nobody does where all are equal, or one is missing. */
export function rank(answers) {
  const whole = answers.length > 1 && answers.every((said) => said.told && !said.error && !said.stopped);
  for (const said of answers) said.best = {};
  if (!whole) return;
  for (const [name, value] of Object.entries(RANKED)) {
    const values = answers.map(value);
    if (values.some((one) => one === null || Number.isNaN(one))) continue;
    const least = Math.min(...values);
    if (values.every((one) => one === least)) continue;
    answers.forEach((said, place) => (said.best[name] = values[place] === least));
  }
}

function fromUsage(usage) {
  if (!usage) return null;
  return {
    input_tokens: usage.prompt_tokens ?? 0,
    output_tokens: usage.completion_tokens ?? 0,
    cached_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    reasoning_tokens: usage.completion_tokens_details?.reasoning_tokens ?? 0,
  };
}

/** Who served it, in how many tries, and the request's own page. */
export function served(said, texts) {
  const told = said.told;
  const route = told?.served_by || said.head?.route;
  const attempts = told?.attempts ?? said.head?.attempts ?? 0;
  const parts = [];
  if (route) parts.push(el("span", { class: "gw-play-route", title: texts.served_by }, icon("hub"), el("span", {}, route)));
  if (told?.policy) parts.push(el("span", { class: "gw-pill" }, `${told.policy}@${told.policy_version}`));
  if (told?.fallback ?? said.head?.fallback)
    parts.push(el("span", { class: "gw-pill gw-warn", title: texts.fallback_means }, texts.fallback));
  if (attempts > 1) parts.push(el("span", { class: "gw-pill gw-warn" }, texts.tries.replace("%s", attempts)));
  if (told?.estimated) parts.push(el("span", { class: "gw-pill", title: texts.estimated_means }, texts.estimated));
  if (said.requestId) {
    const id = el("code", { class: "gw-code" }, said.requestId);
    parts.push(told?.address ? el("a", { href: told.address, class: "gw-play-request", title: texts.open_request }, id) : id);
  }
  return el("div", { class: "gw-play-served" }, ...parts);
}
