// Nodes out of code: everything is set as text, so that nothing which a model says is ever read as HTML.

/** An element: `class`, `dataset`, `on…` and plain attributes in `properties`; children are nodes or texts, empty ones are left out. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "dataset") Object.assign(node.dataset, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== "" && child !== false));
  return node;
}

export function icon(name) {
  return el("span", { class: "material-symbols-outlined", "aria-hidden": "true" }, name);
}

/** A button of an icon with a name for those who do not see it. */
export function iconButton(name, label, onclick, extra = "") {
  return el("button", { type: "button", class: `gw-play-icon ${extra}`, "aria-label": label, title: label, onclick }, icon(name));
}

/** Copies a text and says so on the button for a moment. */
export async function copy(button, text, done) {
  await navigator.clipboard.writeText(text);
  if (button.dataset.copied) return;
  const before = [...button.childNodes];
  const label = button.getAttribute("aria-label");
  button.dataset.copied = "1";
  button.replaceChildren(button.matches(".gw-play-icon") ? icon("check") : done);
  button.setAttribute("aria-label", done);
  setTimeout(() => {
    delete button.dataset.copied;
    button.replaceChildren(...before);
    if (label === null) button.removeAttribute("aria-label");
    else button.setAttribute("aria-label", label);
  }, 1500);
}
