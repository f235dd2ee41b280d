/* The search page: ranks the sections of SEARCH_INDEX (made by _ext/search.py) by the words of ?q=.
   Each page there is [address, title, [[anchor, title, prose, code, keywords], …]]. */
"use strict";

const Search = {
  SHOWN: 40,
  EXCERPT: 220,

  /* Sections with their words counted, and in how many sections each word stands. */
  build(pages) {
    const sections = [], frequency = new Map();
    for (const [address, chapter, entries] of pages) {
      entries.forEach(([anchor, title, prose, code, keywords], position) => {
        const counts = new Map();
        const count = (text, weight) => {
          for (const stem of Words.stems(text)) {
            counts.set(stem, (counts.get(stem) ?? 0) + weight);
            /* vb.fit is found by "fit" as well, but less. */
            for (const part of Search.parts(stem)) {
              counts.set(part, (counts.get(part) ?? 0) + weight / 4);
            }
          }
        };
        count(title, 1);
        count(prose, 1);
        count(code, 0.5);
        let length = 0;
        for (const [stem, weight] of counts) {
          frequency.set(stem, (frequency.get(stem) ?? 0) + 1);
          length += weight;
        }
        sections.push({
          address, chapter, anchor, title, prose, code, counts, length,
          opens: position === 0,
          heading: new Set(Words.stems(title)),
          chapterHeading: new Set(Words.stems(chapter)),
          keywords: keywords.map((keyword) => Words.stems(keyword).join(" ")),
        });
      });
    }
    const mean = sections.reduce((sum, { length }) => sum + length, 0) / (sections.length || 1);
    return { sections, frequency, mean };
  },

  parts(stem) {
    return /[._]/.test(stem) ? stem.split(/[._]+/).filter(Boolean).map(Words.stem) : [];
  },

  /* The words to look for: a word that stands nowhere gives way to longer ones, or to similar ones. */
  expand(index, stem) {
    if (index.frequency.has(stem)) return [stem];
    const known = [...index.frequency.keys()];
    const longer = stem.length > 2 ? known.filter((word) => word.startsWith(stem)) : [];
    if (longer.length) return longer.slice(0, 20);
    const parts = Search.parts(stem).filter((part) => index.frequency.has(part));
    if (parts.length) return parts;
    const allowed = stem.length > 7 ? 2 : stem.length > 4 ? 1 : 0;
    return known.filter((word) => allowed && Search.distance(stem, word, allowed) <= allowed);
  },

  /* Levenshtein's distance, or more than `most`. */
  distance(a, b, most) {
    if (Math.abs(a.length - b.length) > most) return most + 1;
    let row = Array.from({ length: b.length + 1 }, (_, i) => i);
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++) {
        next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] !== b[j - 1])));
      }
      row = next;
    }
    return row[b.length];
  },

  /* BM25 over words, with more for headings, and most for the section that teaches the word. */
  score(index, section, groups, query) {
    let score = 0, found = 0;
    for (const group of groups) {
      let best = 0;
      for (const stem of group) {
        const count = section.counts.get(stem) ?? 0;
        const inChapter = section.chapterHeading.has(stem);
        if (!count && !(inChapter && section.opens)) continue;
        const n = index.frequency.get(stem) ?? 0;
        const idf = Math.log(1 + (index.sections.length - n + 0.5) / (n + 0.5));
        const saturated = (count * 2.2) / (count + 1.2 * (0.4 + (0.6 * section.length) / index.mean));
        const heading = section.heading.has(stem) ? 1.5 : 0;
        best = Math.max(best, idf * (saturated + heading + (inChapter ? 0.6 : 0)));
      }
      found += best > 0;
      score += best;
    }
    const asked = groups.length === 1 ? [query, ...groups[0]] : [query];
    if (!section.keywords.some((keyword) => asked.includes(keyword))) return { score, found };
    return { score: 3 * score + 10, found: groups.length };
  },

  find(index, text) {
    const stems = [...new Set(Words.stems(text))];
    const groups = stems.map((stem) => Search.expand(index, stem)).filter((group) => group.length);
    if (!groups.length) return { results: [], wanted: new Set() };
    const query = Words.stems(text).join(" ");
    const scored = index.sections
      .map((section) => ({ section, ...Search.score(index, section, groups, query) }))
      .filter(({ found }) => found > 0);
    /* Sections with all words, if there are any. */
    const most = Math.max(...scored.map(({ found }) => found));
    const results = scored.filter(({ found }) => found === most).sort((a, b) => b.score - a.score);
    return { results: results.map(({ section }) => section), wanted: new Set(groups.flat()) };
  },

  /* The stretch of a text with the most different words that were looked for. */
  excerpt(section, wanted) {
    const hits = (text) => Words.find(text).filter(({ stem }) => wanted.has(stem));
    const prose = hits(section.prose), code = hits(section.code);
    const isCode = !prose.length && code.length > 0;
    const [text, places] = isCode ? [section.code, code] : [section.prose, prose];
    let start = 0, best = 0;
    for (const place of places) {
      const near = places.filter((p) => p.start >= place.start && p.end < place.start + Search.EXCERPT - 60);
      const different = new Set(near.map(({ stem }) => stem)).size;
      if (different > best) [best, start] = [different, place.start];
    }
    let from = Math.max(0, start - 60);
    if (from > 0) from = text.indexOf(" ", from) + 1;
    let to = Math.min(text.length, from + Search.EXCERPT);
    if (to < text.length) to = Math.max(text.lastIndexOf(" ", to), start + 1);
    return { text: (from ? "… " : "") + text.slice(from, to) + (to < text.length ? " …" : ""), isCode };
  },

  /* A text as nodes, with <mark> around the words that were looked for. */
  marked(element, text, wanted) {
    let end = 0;
    for (const word of Words.find(text).filter(({ stem }) => wanted.has(stem))) {
      const mark = document.createElement("mark");
      mark.textContent = text.slice(word.start, word.end);
      element.append(text.slice(end, word.start), mark);
      end = word.end;
    }
    element.append(text.slice(end));
    return element;
  },

  item(section, wanted, query) {
    const make = (tag, name) => Object.assign(document.createElement(tag), { className: name });
    const link = make("a", "search-title");
    const anchor = section.opens ? "" : `#${section.anchor}`;
    link.href = `${section.address}?highlight=${encodeURIComponent(query)}${anchor}`;
    Search.marked(link, section.opens ? section.chapter : section.title, wanted);
    const item = make("li", "");
    item.append(link);
    if (!section.opens) {
      const chapter = make("span", "search-chapter");
      chapter.textContent = section.chapter;
      item.append(chapter);
    }
    const { text, isCode } = Search.excerpt(section, wanted);
    const excerpt = make("p", "search-excerpt");
    item.append(excerpt);
    Search.marked(isCode ? excerpt.appendChild(make("code", "")) : excerpt, text, wanted);
    return item;
  },

  /* ↓ and ↑ go from the field to the results and between them. */
  onArrow(event) {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const input = document.querySelector(".bd-search-container input");
    const stops = [input, ...document.querySelectorAll("#search-results a")];
    const position = stops.indexOf(document.activeElement);
    const next = stops[position + (event.key === "ArrowDown" ? 1 : -1)];
    if (position < 0 || !next) return;
    next.focus();
    event.preventDefault();
  },

  show(index, query) {
    const count = document.getElementById("search-count");
    const list = document.getElementById("search-results");
    if (!query.trim()) {
      list.replaceChildren();
      count.textContent = "";
      return;
    }
    const { results, wanted } = Search.find(index, query);
    const shown = results.slice(0, Search.SHOWN);
    list.replaceChildren(...shown.map((section) => Search.item(section, wanted, query)));
    const sections = results.length === 1 ? "1 section" : `${results.length} sections`;
    const part = shown.length < results.length ? `; the first ${shown.length} are listed` : "";
    count.textContent = results.length
      ? `${sections} found${part}.`
      : `Nothing found for “${query.trim()}”. Try another word, or look into the index.`;
  },

  start() {
    const index = Search.build(window.SEARCH_INDEX ?? []);
    const input = document.querySelector(".bd-search-container input");
    const asked = new URLSearchParams(location.search).get("q") ?? "";
    document.querySelectorAll("input[name=q]").forEach((field) => (field.value = asked));
    Search.show(index, asked);
    let timer;
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        history.replaceState(null, "", `?${new URLSearchParams({ q: input.value })}`);
        Search.show(index, input.value);
      }, 150);
    });
    document.addEventListener("keydown", Search.onArrow);
  },
};

if (typeof document !== "undefined") Search.start(); /* deferred: the page is there */
