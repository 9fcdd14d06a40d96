// What models write, as nodes: a subset of Markdown, and nothing but it.
//
// Text becomes text nodes only. HTML is shown as it was written. Links lead to http and https, say which host, and hand nothing on;
// images are named and never loaded, because loading one tells its host whatever stands in the address. Characters that turn the
// direction of writing are made visible.

import { el } from "./dom.js";

const LONGEST_RENDERED = 120_000;
const LONGEST_INLINE = 20_000;
const LONGEST_LINE = 4000;
const DEEPEST = 6;
const TURNING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(\S.*)$/;
const TABLE_RULE = /^\|? ?:?-+:? ?(?:\| ?:?-+:? ?)*\|?$/;
const ADDRESS = /https?:\/\/[^\s<>"'`)\]]+/y;

/** The nodes of a text. `labels` are `copy` and `copied`; `onCopy(button, text)` is what its code blocks do. */
export function render(text, labels = {}, onCopy = () => {}) {
  const place = document.createDocumentFragment();
  if (text.length > LONGEST_RENDERED) {
    place.append(el("pre", { class: "gw-md-plain", dir: "auto" }, ...visible(text)));
    return place;
  }
  place.append(...blocks(text.split(/\r\n?|[\n\u2028\u2029]/), 0, { labels, onCopy }));
  return place;
}

function blocks(lines, depth, how) {
  const nodes = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const taken = line.trim() === "" ? [1] : one(lines, at, depth, how);
    at += taken[0];
    if (taken[1]) nodes.push(taken[1]);
  }
  return nodes;
}

/** How many lines the block that begins here has, and its node. */
function one(lines, at, depth, how) {
  const line = lines[at];
  if (line.length > LONGEST_LINE) return paragraph(lines, at, depth);
  const fence = FENCE.exec(line);
  if (fence) return fenced(lines, at, fence, how);
  const heading = HEADING.exec(line);
  if (heading)
    return [1, el(`h${Math.min(6, heading[1].length + 2)}`, { class: "gw-md-heading", dir: "auto" }, ...inline(untrailed(heading[2])))];
  if (RULE.test(line)) return [1, el("hr")];
  if (depth < DEEPEST && /^ {0,3}>/.test(line)) return quoted(lines, at, depth, how);
  if (depth < DEEPEST && ITEM.test(line)) return listed(lines, at, depth, how);
  if (line.includes("|") && rules(lines[at + 1] ?? "")) return table(lines, at);
  return paragraph(lines, at, depth);
}

/** A heading's words without the signs that may close it. */
function untrailed(words) {
  let end = words.length;
  while (words[end - 1] === "#") end -= 1;
  return words.slice(0, end).trimEnd();
}

/** Whether a line stands between the head of a table and its rows. */
function rules(line) {
  return line.length <= LONGEST_LINE && line.includes("-") && TABLE_RULE.test(line.trim().replace(/\s+/g, " "));
}

/** What a line is an item of, or null. */
function itemOf(line) {
  return line.length > LONGEST_LINE ? null : ITEM.exec(line);
}

function fenced(lines, at, [, marks, language], how) {
  let end = at + 1;
  const closing = new RegExp(`^ {0,3}${marks[0] === "`" ? "`" : "~"}{${marks.length},}\\s*$`);
  while (end < lines.length && !closing.test(lines[end])) end += 1;
  const code = lines.slice(at + 1, end).join("\n");
  const head = el("div", { class: "gw-md-code-head" }, el("span", {}, language.trim().slice(0, 40) || "text"));
  if (how.labels.copy) {
    const button = el("button", { type: "button", class: "gw-md-copy", onclick: () => how.onCopy(button, code) }, how.labels.copy);
    head.append(button);
  }
  const body = el("pre", { tabindex: "0" }, el("code", { dir: "ltr" }, ...visible(code)));
  return [end - at + 1, el("div", { class: "gw-md-code" }, head, body)];
}

function quoted(lines, at, depth, how) {
  let end = at;
  while (end < lines.length && /^ {0,3}>/.test(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(/^ {0,3}> ?/, ""));
  return [end - at, el("blockquote", {}, ...blocks(inner, depth + 1, how))];
}

function listed(lines, at, depth, how) {
  const [, margin, mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const first = ordered ? Number.parseInt(mark, 10) : 1;
  const node = el(ordered ? "ol" : "ul", first !== 1 && { start: String(first) });
  let end = at;
  while (end < lines.length) {
    const item = itemOf(lines[end]);
    if (!item || item[1].length !== margin.length || /\d/.test(item[2]) !== ordered || RULE.test(lines[end])) break;
    const indent = margin.length + 2;
    const inner = [item[3]];
    end += 1;
    while (end < lines.length && belongs(lines, end, indent)) {
      inner.push(lines[end].slice(Math.min(indent, lines[end].search(/\S|$/))));
      end += 1;
    }
    node.append(el("li", { dir: "auto" }, ...tight(blocks(inner, depth + 1, how))));
    while (end + 1 < lines.length && lines[end].trim() === "" && itemOf(lines[end + 1])?.[1].length === margin.length) end += 1;
  }
  return [end - at, node];
}

/** Whether a line goes on with the item above it: it is indented, or empty before one that is, or plain text under it. */
function belongs(lines, at, indent) {
  const line = lines[at];
  if (line.trim() === "") return at + 1 < lines.length && lines[at + 1].search(/\S/) >= indent;
  if (line.search(/\S/) >= indent) return true;
  if (line.length > LONGEST_LINE) return false;
  return (
    lines[at - 1].trim() !== "" &&
    !ITEM.test(line) &&
    !FENCE.test(line) &&
    !HEADING.test(line) &&
    !RULE.test(line) &&
    !/^ {0,3}>/.test(line)
  );
}

/** An item of one paragraph needs no space around it. */
function tight(nodes) {
  return nodes[0]?.tagName === "P" ? [...nodes[0].childNodes, ...nodes.slice(1)] : nodes;
}

function table(lines, at) {
  const names = cells(lines[at]);
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|") && lines[end].trim() !== "") end += 1;
  const head = el("tr", {}, ...names.map((text) => el("th", { scope: "col" }, ...inline(text))));
  const rows = lines.slice(at + 2, end).map((line) => {
    const texts = cells(line);
    return el("tr", {}, ...names.map((_, number) => el("td", { dir: "auto" }, ...inline(texts[number] ?? ""))));
  });
  return [end - at, el("div", { class: "gw-md-table", tabindex: "0" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)))];
}

function cells(line) {
  return line
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|")
    .map((text) => text.trim());
}

function paragraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== "" && !begins(lines[end], depth)) end += 1;
  const node = el("p", { dir: "auto" });
  lines.slice(at, end).forEach((line, number) => {
    if (number) node.append(el("br"));
    node.append(...inline(line));
  });
  return [end - at, node];
}

function begins(line, depth) {
  if (line.length > LONGEST_LINE) return false;
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line)) return true;
  return depth < DEEPEST && (/^ {0,3}>/.test(line) || ITEM.test(line));
}

// Within a line

/** The nodes of a line. */
export function inline(text, depth = 0) {
  if (text.length > LONGEST_INLINE || depth > DEEPEST) return visible(text);
  const nodes = [];
  let plain = 0;
  let at = 0;
  while (at < text.length) {
    const found = special(text, at, depth);
    if (!found) {
      at += 1;
      continue;
    }
    if (at > plain) nodes.push(...visible(text.slice(plain, at)));
    nodes.push(...[found.node].flat());
    at = plain = found.end;
  }
  if (plain < text.length) nodes.push(...visible(text.slice(plain)));
  return nodes;
}

function special(text, at, depth) {
  const sign = text[at];
  if (sign === "\\" && /[\\`*_~[\]()#+\-.!|>]/.test(text[at + 1] ?? ""))
    return { node: document.createTextNode(text[at + 1]), end: at + 2 };
  if (sign === "`") return code(text, at);
  if (sign === "*" || sign === "_" || sign === "~") return stressed(text, at, depth);
  if (sign === "!" && text[at + 1] === "[") return picture(text, at);
  if (sign === "[") return link(text, at, depth);
  if (sign === "h" && !/\w/.test(text[at - 1] ?? "")) return bare(text, at);
  return null;
}

function code(text, at) {
  const marks = /^`+/.exec(text.slice(at, at + 16))[0];
  const end = text.indexOf(marks, at + marks.length);
  if (end < 0 || text[end + marks.length] === "`") return { node: document.createTextNode(marks), end: at + marks.length };
  return { node: el("code", {}, ...visible(text.slice(at + marks.length, end).replace(/^ (.*) $/, "$1"))), end: end + marks.length };
}

const STRESS = [
  ["**", "strong"],
  ["__", "strong"],
  ["~~", "s"],
  ["*", "em"],
  ["_", "em"],
];

function stressed(text, at, depth) {
  for (const [marks, tag] of STRESS) {
    if (!text.startsWith(marks, at)) continue;
    const from = at + marks.length;
    const end = text.indexOf(marks, from + 1);
    const within = marks[0] === "_" && (/\w/.test(text[at - 1] ?? "") || /\w/.test(text[end + marks.length] ?? ""));
    if (end < 0 || within || /\s/.test(text[from] ?? " ") || /\s/.test(text[end - 1])) continue;
    return { node: el(tag, {}, ...inline(text.slice(from, end), depth + 1)), end: end + marks.length };
  }
  return null;
}

/** `[words](address)`: where both end. */
function bracketed(text, at) {
  const close = text.indexOf("](", at);
  if (close < 0) return null;
  const end = text.indexOf(")", close);
  if (end < 0 || text.slice(at, close).includes("\n")) return null;
  const address = text
    .slice(close + 2, end)
    .trim()
    .split(/\s/)[0];
  return { words: text.slice(at + 1, close), address, end: end + 1 };
}

function picture(text, at) {
  const found = bracketed(text, at + 1);
  if (!found) return null;
  const host = web(found.address)?.host ?? "";
  const words = found.words || "picture";
  return { node: el("span", { class: "gw-md-picture" }, "🖼 ", ...visible(words), host && ` (${host})`), end: found.end };
}

function link(text, at, depth) {
  const found = bracketed(text, at);
  if (!found) return null;
  const target = web(found.address);
  if (!target) return { node: visible(text.slice(at, found.end)), end: found.end };
  const says = found.words === target.host || web(found.words)?.host === target.host;
  return {
    node: [anchor(target, inline(found.words, depth + 1)), ...(says ? [] : [el("span", { class: "gw-md-host" }, ` (${target.host})`)])],
    end: found.end,
  };
}

function bare(text, at) {
  ADDRESS.lastIndex = at;
  const found = ADDRESS.exec(text);
  const address = found?.[0].replace(/[.,;:!?]+$/, "");
  const target = address && web(address);
  return target ? { node: anchor(target, visible(address)), end: at + address.length } : null;
}

/** The address, if it is one of the web without somebody's name in it; else null. */
export function web(address) {
  try {
    const target = new URL(address);
    return /^https?:$/.test(target.protocol) && !target.username && !target.password ? target : null;
  } catch {
    return null;
  }
}

function anchor(target, nodes) {
  return el(
    "a",
    { href: target.href, target: "_blank", rel: "noopener noreferrer nofollow", referrerpolicy: "no-referrer" },
    el("bdi", {}, ...nodes),
  );
}

/** A text with the characters in sight that would turn the direction of what follows. */
export function visible(text) {
  const nodes = [];
  let plain = 0;
  for (const found of text.matchAll(TURNING)) {
    if (found.index > plain) nodes.push(document.createTextNode(text.slice(plain, found.index)));
    const name = `U+${found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    nodes.push(el("span", { class: "gw-md-turning", title: name }, name));
    plain = found.index + 1;
  }
  if (plain < text.length || nodes.length === 0) nodes.push(document.createTextNode(text.slice(plain)));
  return nodes;
}
