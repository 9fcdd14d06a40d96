// The list of providers: cells that move are replaced alone, so that ticks, focus and open menus stay; nothing runs while hidden.
"use strict";
(() => {
  const EVERY = 5000;

  function countDown() {
    for (const place of document.querySelectorAll(".gw-countdown[data-seconds]")) {
      const left = Number(place.dataset.seconds) - 1;
      if (left < 0) continue;
      place.dataset.seconds = String(left);
      if (left < 60) place.textContent = place.textContent.replace(/[\d.]+\s?(s|min)/u, `${left}\u202fs`);
    }
  }

  async function refresh(url) {
    const cells = [...document.querySelectorAll(".gw-live[data-cell]")];
    const ids = [...new Set(cells.map((cell) => cell.dataset.cell.split("-")[0]))];
    if (!ids.length) return;
    const response = await fetch(`${url}?ids=${ids.join(",")}`, { headers: { "X-Fragment": "1" }, redirect: "error" });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    const found = document.createElement("template");
    found.innerHTML = await response.text();
    for (const fresh of found.content.querySelectorAll("[data-cell]")) {
      const shown = document.querySelector(`.gw-live[data-cell="${fresh.dataset.cell}"]`);
      if (shown && shown.innerHTML !== fresh.innerHTML) shown.innerHTML = fresh.innerHTML;
    }
  }

  async function follow(url) {
    let pause = EVERY;
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (document.hidden) continue;
      try {
        await refresh(url);
        pause = EVERY;
      } catch {
        pause = Math.min(pause * 2, 60000);
      }
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    const live = document.querySelector("[data-live-cells]");
    if (live) follow(live.dataset.liveCells);
    setInterval(() => {
      if (!document.hidden) countDown();
    }, 1000);
  });
})();
