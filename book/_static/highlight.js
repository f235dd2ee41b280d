/* Marks on a page the words that were searched for (?highlight=), and goes to the first of them.
   Words are compared whole and without their endings; the search page uses the same functions. */
"use strict";

const Words = {
  /* A name such as nn_conv2d or vb.fit is one word. */
  PATTERN: /[\p{L}\p{N}_]+(?:\.[\p{L}\p{N}_]+)*/gu,

  known: new Map(),

  stem(word) {
    if (!Words.known.has(word)) Words.known.set(word, Words.cut(word));
    return Words.known.get(word);
  },

  cut(word) {
    let w = word.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "");
    if (w.length < 5 || /[._\d]/.test(w)) return w === "kls" ? "kl" : w;
    w = w.replace(/sses$/, "ss").replace(/ies$/, "y").replace(/([^su])s$/, "$1");
    w = w.replace(/(?:isation|ization|ise|ize|ised|ized|ising|izing)$/, "iz");
    w = w.replace(/(?:ational|ation|ations)$/, "ate").replace(/(..[^aeiou])(?:ing|ed)$/, "$1");
    return w.replace(/([^aeiouls])\1$/, "$1").replace(/(...)e$/, "$1");
  },

  /* The words of a text, each with its place. */
  find(text) {
    return Array.from(text.matchAll(Words.PATTERN), (match) => ({
      stem: Words.stem(match[0]), start: match.index, end: match.index + match[0].length,
    }));
  },

  stems(text) {
    return Words.find(text).map((word) => word.stem);
  },
};

const Marks = {
  SKIP: ".math, mjx-container, script, style, button, select, textarea, svg, .headerlink",
  BLOCK: "p, pre, li, dd, dt, td, th, h1, h2, h3, h4, h5, h6, figcaption, summary, div",

  /* Code is coloured in many small pieces, so words are looked for in whole paragraphs. */
  paragraphs(root) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    const found = [];
    let block = null;
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (!node.parentElement.closest(Marks.SKIP)) {
        const here = node.parentElement.closest(Marks.BLOCK);
        if (here !== block) found.push({ text: "", nodes: [] });
        block = here;
        const last = found.at(-1);
        last.nodes.push({ node, start: last.text.length });
        last.text += node.data;
      }
    }
    return found;
  },

  wrap(node, start, end) {
    const range = document.createRange();
    range.setStart(node, start);
    range.setEnd(node, end);
    const span = document.createElement("span");
    span.className = "highlighted";
    range.surroundContents(span);
  },

  mark(root, wanted) {
    for (const { text, nodes } of Marks.paragraphs(root)) {
      /* From the end, because each mark shortens the text node before it. */
      const places = Words.find(text).filter((word) => wanted.has(word.stem)).reverse();
      for (const { start, end } of places) {
        for (const piece of [...nodes].reverse()) {
          const from = Math.max(start - piece.start, 0);
          const to = Math.min(end - piece.start, piece.node.length);
          if (from < to) Marks.wrap(piece.node, from, to);
        }
      }
    }
  },

  /* The first mark of the section that the address names, or of the page. */
  show(article) {
    const anchor = decodeURIComponent(location.hash.slice(1));
    const place = (anchor && document.getElementById(anchor)) || article;
    const scope = place.matches("dt") ? place.parentElement : place;
    const marks = [...scope.querySelectorAll(".highlighted")];
    const mark = marks.find((m) => m.checkVisibility?.() ?? m.offsetParent) ?? marks[0];
    if (!mark) return;
    mark.closest("details")?.setAttribute("open", "");
    mark.scrollIntoView({ block: "center", behavior: "instant" });
  },

  hide() {
    document.querySelectorAll(".highlighted").forEach((mark) => mark.replaceWith(...mark.childNodes));
    document.getElementById("searchbox")?.replaceChildren();
    const url = new URL(location);
    url.searchParams.delete("highlight");
    history.replaceState(null, "", url);
  },

  start() {
    const query = new URLSearchParams(location.search).get("highlight");
    const article = document.querySelector(".bd-article");
    if (!query || !article) return;
    Marks.mark(article, new Set(Words.stems(query)));
    Marks.show(article);
    /* Formulas are set after that and move what stands below them. */
    let moved = false;
    addEventListener("wheel", () => (moved = true), { once: true, passive: true });
    addEventListener("keydown", () => (moved = true), { once: true });
    window.MathJax?.startup?.promise?.then(() => moved || Marks.show(article));
    const button = document.createElement("button");
    button.className = "btn btn-sm highlight-link";
    button.textContent = "Hide search matches";
    button.addEventListener("click", Marks.hide);
    document.getElementById("searchbox")?.replaceChildren(button);
    addEventListener("keydown", (event) => event.key === "Escape" && Marks.hide());
  },
};

if (typeof document !== "undefined") Marks.start(); /* deferred: the page is there */
