// Names for what the admin's libraries draw without one, so that screen readers have something to say.
"use strict";
(() => {
  function name(root) {
    root.querySelectorAll(".select2-container").forEach((drawn) => {
      const select = drawn.previousElementSibling;
      const label = select?.labels?.[0]?.textContent.trim().replace(/\s*\*$/, "") || select?.getAttribute("aria-label");
      if (!label) return;
      drawn.querySelectorAll(".select2-selection, .select2-selection__rendered").forEach((part) => {
        part.removeAttribute("aria-labelledby");
        part.setAttribute("aria-label", label);
      });
    });
    root.querySelectorAll(".help-tooltip[aria-label]:not([role])").forEach((hint) => hint.setAttribute("role", "img"));
  }
  // After the libraries, which also wait for these.
  window.addEventListener("load", () => setTimeout(() => name(document)));
  document.addEventListener("formset:added", (event) => setTimeout(() => name(event.target)));
})();
