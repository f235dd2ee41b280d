// What the pages need beyond the theme so that everything can be reached and named.
(() => {
  // A box that scrolls sideways can be reached by keyboard, and has a name, while it scrolls.
  const BOXES = {
    ".table-scroll, .pst-scrollable-table-container": "Table",
    ".figure-scroll": "Figure",
    'mjx-container[display="true"]': "Formula",
  };
  const nameBoxes = () => {
    for (const [selector, name] of Object.entries(BOXES)) {
      document.querySelectorAll(selector).forEach((box, i) => {
        if (box.scrollWidth > box.clientWidth + 1) {
          box.tabIndex = 0;
          box.setAttribute("role", "region");
          box.setAttribute("aria-label", `${name} ${i + 1} of this page, scrolls sideways`);
        } else if (box.getAttribute("role") === "region") {
          ["tabindex", "role", "aria-label"].forEach(attribute => box.removeAttribute(attribute));
        }
      });
    }
  };
  // The theme names its search button other than what can be read on it, and its sidebar, which
  // also holds the logo, not at all.
  const nameParts = () => {
    document.querySelector(".search-button-field")?.removeAttribute("aria-label");
    const sidebar = document.querySelector(".bd-sidebar-primary");
    sidebar?.setAttribute("role", "region");
    sidebar?.setAttribute("aria-label", "The book");
    // Sphinx gives references a role that is no longer one; the items of a list they are.
    document.querySelectorAll('[role="doc-biblioentry"]').forEach(entry => {
      entry.setAttribute("role", "listitem");
    });
  };
  addEventListener("load", () => {
    nameParts();
    nameBoxes();
    window.MathJax?.startup?.promise?.then(nameBoxes);
  });
  addEventListener("resize", nameBoxes);
  document.addEventListener("toggle", nameBoxes, true);
})();
