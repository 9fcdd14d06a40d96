// What the gateway's own admin pages do beyond links and forms; every page works without it.
"use strict";
(() => {
  const fragment = { "X-Fragment": "1" };

  // A place shows the answer to what was asked for it last, whichever comes last.
  const lastAsked = new WeakMap();
  async function load(place, url, options = {}) {
    lastAsked.get(place)?.abort();
    const asking = new AbortController();
    lastAsked.set(place, asking);
    place.classList.add("gw-busy");
    try {
      const response = await fetch(url, { ...options, headers: fragment, redirect: "error", signal: asking.signal });
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const text = await response.text();
      if (!asking.signal.aborted) place.innerHTML = text;
    } catch (error) {
      if (!asking.signal.aborted) place.textContent = `The gateway did not answer: ${error.message}`;
    } finally {
      if (!asking.signal.aborted) place.classList.remove("gw-busy");
    }
  }

  function openDialog(url) {
    const dialog = document.createElement("dialog");
    dialog.className = "gw-dialog";
    const close = document.createElement("button");
    close.type = "button";
    close.className = "gw-close";
    close.setAttribute("aria-label", "Close");
    close.textContent = "×";
    close.addEventListener("click", () => dialog.close());
    const place = document.createElement("div");
    place.textContent = "…";
    dialog.append(close, place);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    document.body.append(dialog);
    dialog.showModal();
    load(place, url).then(() => place.querySelector("form[data-at-once]")?.requestSubmit());
  }

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("a[data-dialog]");
    if (opener && !event.ctrlKey && !event.metaKey && event.button === 0) {
      event.preventDefault();
      openDialog(opener.href);
    }
    const copier = event.target.closest("[data-copy]");
    if (copier) {
      const text = document.getElementById(copier.dataset.copy).textContent;
      navigator.clipboard.writeText(text).then(() => { copier.textContent = "Copied"; });
    }
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[data-fragment]")) return;
    const place = form.closest("[data-fragment-root]");
    if (!place) return;
    event.preventDefault();
    const body = new FormData(form);
    form.querySelectorAll("button").forEach((button) => { button.disabled = true; button.textContent = "Testing…"; });
    load(place.parentElement, form.action, { method: "POST", body });
  });

  // A slider and a number that say the same.
  document.addEventListener("input", (event) => {
    const { twin, twinOf } = event.target.dataset;
    if (twin) document.getElementById(twin).value = event.target.value;
    if (twinOf) event.target.form.elements[twinOf].value = event.target.value;
  });

  // A form that is explained while it is written: a moment after the last key, what would come of it.
  const explainers = new WeakMap();
  document.addEventListener("input", (event) => {
    const form = event.target.form;
    if (!form || !form.dataset.explain) return;
    clearTimeout(explainers.get(form));
    explainers.set(form, setTimeout(() => {
      load(document.getElementById("gw-explained"), form.dataset.explain, { method: "POST", body: new FormData(form) });
    }, 350));
  });

  // What a column of a chart says, beside the pointer; without scripts its title says it, with a tab before each amount.
  function tipOf(column) {
    column.dataset.tip ??= column.querySelector("title").textContent;
    column.querySelector("title")?.remove();
    const box = document.createElement("div");
    box.className = "gw-tip";
    box.setAttribute("aria-hidden", "true");
    for (const [number, text] of column.dataset.tip.split("\n").entries()) {
      const line = document.createElement(number ? "span" : "strong");
      for (const part of text.split("\t")) line.append(Object.assign(document.createElement("b"), { textContent: part }));
      box.append(line);
    }
    return box;
  }

  let tip = null;
  document.addEventListener("pointerover", (event) => {
    const column = event.target.closest?.(".gw-col");
    if (tip && tip.column === column) return;
    tip?.box.remove();
    tip = null;
    if (!column) return;
    const plot = column.closest(".gw-plot-box");
    tip = { column, box: tipOf(column) };
    plot.append(tip.box);
    const frame = plot.getBoundingClientRect();
    const hit = column.querySelector(".gw-col-hit").getBoundingClientRect();
    const right = hit.right - frame.left + 8;
    const fits = right + tip.box.offsetWidth <= frame.width;
    tip.box.style.left = `${Math.max(0, fits ? right : hit.left - frame.left - tip.box.offsetWidth - 8)}px`;
  });

  document.addEventListener("change", (event) => {
    const all = event.target.closest("[data-check-all]");
    if (!all) return;
    document.querySelectorAll(`input[name="${all.dataset.checkAll}"]`).forEach((box) => { box.checked = all.checked; });
  });

  // What a row shows when it is opened is asked for then, once.
  document.addEventListener("toggle", (event) => {
    const { load: url, loadInto } = event.target.dataset || {};
    if (!url || !event.target.open) return;
    delete event.target.dataset.load;
    load(document.getElementById(loadInto), url);
  }, true);

  // A part of a page that moves, until the server says that it is over: then the whole page has more to show.
  async function follow(place) {
    const usual = 1000 * (place.dataset.liveSeconds || 1);
    let pause = usual;
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (document.hidden || ("liveRests" in place.dataset && place.querySelector("details[open]"))) continue;
      try {
        const response = await fetch(place.dataset.live, { headers: fragment, redirect: "error" });
        if (!response.ok) throw new Error(`HTTP ${response.status}`);
        if (response.headers.get("X-Live") === "over") return location.reload();
        const open = [...place.querySelectorAll("details")].map((part) => part.open);
        place.innerHTML = await response.text();
        place.querySelectorAll("details").forEach((part, n) => { part.open = open[n] || part.open; });
        pause = usual;
      } catch {
        pause = Math.min(pause * 2, 15000);
      }
    }
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-live]").forEach(follow));

  document.addEventListener("DOMContentLoaded", async () => {
    const csrf = document.querySelector("#gw-csrf input");
    for (const place of document.querySelectorAll("[data-test-one]")) {
      const body = new FormData();
      body.set("csrfmiddlewaretoken", csrf.value);
      await load(place, place.dataset.testOne, { method: "POST", body });
    }
  });
})();
