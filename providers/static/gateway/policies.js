// The targets of a policy: sorted by dragging, by buttons or by arrow keys, with the sum of their shares as it is typed.
// Without this the numbers say the order, and the server says the sum.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const card = document.querySelector("[data-targets]");
  if (!card || card.querySelector(".gw-targets input:disabled")) return;
  const body = card.querySelector(".gw-targets tbody");
  const sum = card.querySelector("[data-sum]");
  const even = card.querySelector("[data-even]");
  const strategy = document.querySelector("[name=strategy]");
  const rows = () => [...body.querySelectorAll("[data-target]")];
  const field = (row, name) => row.querySelector(`[name$="-${name}"]`);
  const names = (row) => field(row, "model").value.trim() || field(row, "kind").value;
  const counts = (row) => names(row) && !field(row, "DELETE")?.checked;

  card.classList.add("gw-sortable");
  for (const part of card.querySelectorAll(".gw-movers, [data-add-target]")) part.hidden = false;

  function changed() {
    field(rows()[0], "order").dispatchEvent(new Event("input", { bubbles: true }));
  }

  function number() {
    rows().forEach((row, place) => { field(row, "order").value = names(row) ? place + 1 : ""; });
  }

  function add() {
    const weighted = strategy.value === "weighted";
    card.classList.toggle("gw-unweighted", !weighted);
    const weights = rows().filter(counts).map((row) => field(row, "weight").value.trim());
    const total = weights.reduce((so_far, weight) => so_far + (Number(weight) || 0), 0);
    const none = weights.every((weight) => weight === "");
    const missing = !none && weights.includes("");
    const right = (total === 100 && !missing) || none;
    sum.hidden = !weighted || weights.length < 2;
    even.hidden = sum.hidden || right;
    sum.className = `gw-sum gw-pill ${right ? "gw-good" : "gw-bad"}`;
    sum.textContent = none ? sum.dataset.none : missing ? sum.dataset.missing : right ? sum.dataset.good : sum.dataset.bad.replace("NUMBER", total);
    for (const row of rows()) row.classList.toggle("gw-leaving", Boolean(field(row, "DELETE")?.checked));
  }

  function step(row, by) {
    const other = by < 0 ? row.previousElementSibling : row.nextElementSibling;
    if (!other) return;
    if (by < 0) other.before(row);
    else other.after(row);
    number();
    changed();
  }

  body.addEventListener("click", (event) => {
    const button = event.target.closest("[data-step]");
    if (!button) return;
    step(button.closest("tr"), Number(button.dataset.step));
    button.focus();
  });
  body.addEventListener("keydown", (event) => {
    if (!event.target.matches("[data-handle]") || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault();
    step(event.target.closest("tr"), event.key === "ArrowUp" ? -1 : 1);
    event.target.focus();
  });

  let dragged = null;
  body.addEventListener("mousedown", (event) => {
    const handle = event.target.closest("[data-handle]");
    if (handle) handle.closest("tr").draggable = true;
  });
  body.addEventListener("dragstart", (event) => {
    dragged = event.target.closest("tr");
    dragged.classList.add("gw-dragged");
    event.dataTransfer.effectAllowed = "move";
  });
  body.addEventListener("dragover", (event) => {
    const over = event.target.closest("[data-target]");
    if (!dragged || !over || over === dragged) return;
    event.preventDefault();
    const box = over.getBoundingClientRect();
    if (event.clientY < box.top + box.height / 2) over.before(dragged);
    else over.after(dragged);
  });
  body.addEventListener("dragend", () => {
    dragged.classList.remove("gw-dragged");
    dragged.draggable = false;
    dragged = null;
    number();
    changed();
  });

  card.querySelector("[data-add-target]")?.addEventListener("click", () => {
    const total = document.querySelector("[name=targets-TOTAL_FORMS]");
    const copy = rows().at(-1).cloneNode(true);
    for (const part of copy.querySelectorAll("[name]")) {
      part.name = part.name.replace(/-\d+-/, `-${total.value}-`);
      part.id = part.id.replace(/-\d+-/, `-${total.value}-`);
      part.value = "";
    }
    copy.querySelector(".gw-remove").replaceChildren();
    total.value = Number(total.value) + 1;
    body.append(copy);
    field(copy, "model").focus();
  });

  even?.addEventListener("click", () => {
    const weighed = rows().filter(counts).map((row) => field(row, "weight"));
    const before = weighed.map((input) => Number(input.value) || 0);
    const total = before.reduce((so_far, weight) => so_far + weight, 0);
    const exact = before.map((weight) => (total ? (100 * weight) / total : 100 / before.length));
    const found = exact.map(Math.floor);
    const ahead = exact.map((share, place) => place).sort((one, other) => found[one] - exact[one] - (found[other] - exact[other]));
    let rest = 100 - found.reduce((so_far, share) => so_far + share, 0);
    for (const place of ahead.slice(0, rest)) found[place] += 1;
    weighed.forEach((input, place) => { input.value = found[place]; });
    changed();
  });

  card.addEventListener("input", add);
  card.addEventListener("change", add);
  add();
});
