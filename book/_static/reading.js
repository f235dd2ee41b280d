// What the pages need beyond the theme so that everything can be reached and named.
(() => {
  // A box that scrolls sideways can be reached by keyboard, and has a name, while it scrolls.
  const BOXES = {".table-scroll": "Table", ".figure-scroll": "Figure", ".pst-scrollable-table-container": "Table",
                 'mjx-container[display="true"]': "Formula"};
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
  // The theme gives these names that differ from what can be read on them, or none.
  const NAMES = {
    ".search-button-field": ["aria-label", "Search Ctrl + K"],
    ".bd-sidebar-primary": ["aria-label", "Book"],
  };
  const nameParts = () => {
    for (const [selector, [attribute, value]] of Object.entries(NAMES)) {
      document.querySelectorAll(selector).forEach(part => part.setAttribute(attribute, value));
    }
    document.querySelector(".bd-sidebar-primary")?.setAttribute("role", "region");
  };
  addEventListener("load", () => {
    nameParts();
    nameBoxes();
    window.MathJax?.startup?.promise?.then(nameBoxes);
  });
  addEventListener("resize", nameBoxes);
  document.addEventListener("toggle", nameBoxes, true);
})();
