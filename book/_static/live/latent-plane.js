// The latent plane: a code that the reader moves, the path it took, and two ways from A to B.
vaebookLive.figure("latent-plane", (model) => {
  "use strict";
  const { LIMIT, SIDE, arrow, between, button, code, element, later, onceAFrame, plane, sigmoid } =
    vaebookLive;
  const STEPS = 10; // images in a strip
  const TILES = 15; // images along a side of the map
  const decode = (z) => sigmoid(model.decode(z));

  let z = [0.4, 0.6];
  let hovered = null; // a code that is looked at and not kept
  let path = [];
  const pins = { A: [-1.6, 0.4], B: [1.2, -0.8] };

  // --- the parts ------------------------------------------------------------------------------

  const image = vaebookLive.strip(1, "the image that the decoder draws from the code");
  const { nodes: words, say } = vaebookLive.speaker();
  const strips = Object.fromEntries(["path", "straight", "spherical"].map((name) =>
    [name, vaebookLive.strip(STEPS, `${STEPS} images along the ${name} walk`)]));

  const map = document.createElement("canvas"); // ink whose opacity is the decoded brightness
  map.width = map.height = TILES * SIDE;
  let mapDone = false;

  function drawMap(context, side, colours) {
    if (!mapDone) return;
    context.globalAlpha = colours.dark ? 0.4 : 0.3;
    context.fillStyle = colours.ink;
    context.fillRect(0, 0, side, side);
    context.globalCompositeOperation = "destination-in";
    context.globalAlpha = 1;
    context.drawImage(map, 0, 0, side, side);
    context.globalCompositeOperation = "source-over";
  }

  function mapTile(column, row) {
    const middle = (i) => LIMIT * ((2 * i + 1) / TILES - 1);
    const pixels = decode([middle(column), -middle(row)]);
    const context = map.getContext("2d");
    const picture = context.createImageData(SIDE, SIDE);
    pixels.forEach((value, i) => (picture.data[4 * i + 3] = 255 * value));
    context.putImageData(picture, column * SIDE, row * SIDE);
  }

  function line(context, codes, place, dashes = []) {
    context.setLineDash(dashes);
    context.beginPath();
    codes.forEach((point) => context.lineTo(...place(point)));
    context.stroke();
  }

  function mark(context, position, radius, text, fill, ink) {
    context.setLineDash([]);
    context.beginPath();
    context.arc(...position, radius, 0, 7);
    context.fillStyle = fill;
    context.fill();
    context.stroke();
    context.fillStyle = ink;
    context.fillText(text, ...position);
  }

  const walk = (way, count) => Array.from({ length: count }, (_, i) =>
    way(pins.A, pins.B, i / (count - 1)));

  function over(context, place, { ink, paper, accent }) {
    context.lineWidth = 2;
    context.strokeStyle = ink;
    line(context, [pins.A, pins.B], place);
    line(context, walk(vaebookLive.spherical, 40), place, [6, 4]);
    context.strokeStyle = accent;
    context.lineWidth = 3;
    line(context, path, place);
    context.font = "bold 13px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 2;
    context.strokeStyle = paper;
    for (const name of ["A", "B"]) mark(context, place(pins[name]), 10, name, ink, paper);
    mark(context, place(z), 8, "", accent, paper);
    const [x, y] = place(hovered ?? z);
    context.strokeStyle = accent;
    line(context, [[-15, 0], [15, 0]], ([dx, dy]) => [x + dx, y + dy]);
    line(context, [[0, -15], [0, 15]], ([dx, dy]) => [x + dx, y + dy]);
  }

  const label = "Latent plane. The arrow keys move the code, with Shift in small steps; " +
    "Home returns to the middle; A and B pin the code.";
  const field = plane(model, { role: "application", "aria-label": label }, over, drawMap);

  // --- what the reader does -------------------------------------------------------------------

  const show = onceAFrame(() => {
    image.show(decode(hovered ?? z));
    field.redraw();
    tell();
  });

  // The class of most of the nearest test images, in words for those who do not see the picture.
  function neighbours() {
    const distance = ([x, y]) => Math.hypot(x - (hovered ?? z)[0], y - (hovered ?? z)[1]);
    const votes = new Map();
    const near = [...model.codes].sort((a, b) => distance(a) - distance(b)).slice(0, 10);
    near.forEach(([, , label]) => votes.set(label, (votes.get(label) ?? 0) + 1));
    const [label, count] = [...votes].sort((a, b) => b[1] - a[1])[0];
    return `Of the 10 nearest test images, ${count} show “${model.classes[label]}”.`;
  }
  function tell() {
    const shown = hovered ?? z;
    const pinned = Object.keys(pins).filter((name) => `${pins[name]}` === `${shown}`);
    const here = pinned.length ? `, pinned as ${pinned.join(" and ")}` : "";
    say(`z = ${code(shown)}${here}. ${neighbours()}`);
  }

  const fill = (name, codes) => later(name, codes.map((point, i) =>
    () => strips[name].show(decode(point), i)));

  function walks() {
    fill("straight", walk(between, STEPS));
    fill("spherical", walk(vaebookLive.spherical, STEPS));
  }

  // Codes at equal distances along the path.
  function along(codes) {
    const lengths = [0];
    codes.slice(1).forEach((point, i) =>
      lengths.push(lengths[i] + Math.hypot(point[0] - codes[i][0], point[1] - codes[i][1])));
    return Array.from({ length: STEPS }, (_, i) => {
      const goal = (i / (STEPS - 1)) * lengths.at(-1);
      const next = Math.max(1, lengths.findIndex((length) => length >= goal));
      const share = (goal - lengths[next - 1]) / (lengths[next] - lengths[next - 1]);
      return between(codes[next - 1], codes[next], share);
    });
  }

  function clearPath() {
    path = [];
    later("path", []);
    strips.path.clear();
    show();
  }

  // Go to a code and keep the way there; `fresh` starts a new path.
  function go(to, fresh = false) {
    if (fresh) clearPath();
    const moved = to[0] !== z[0] || to[1] !== z[1];
    if (moved && !fresh) path.push(...(path.length ? [to] : [z, to]));
    [z, hovered] = [to, null];
    if (moved && !fresh) fill("path", along(path));
    show();
  }

  function pin(name) {
    pins[name] = [...(hovered ?? z)]; // the code that is shown
    walks();
    show();
  }

  const { canvas } = field;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    try {
      canvas.setPointerCapture(event.pointerId);
    } catch { /* a pointer that has gone already */ }
    go(field.at(event), true);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons) return go(field.at(event));
    if (event.pointerType === "touch") return undefined;
    hovered = field.at(event);
    return show();
  });
  canvas.addEventListener("pointerleave", () => {
    hovered = null;
    show();
  });
  canvas.addEventListener("keydown", (event) => {
    const step = arrow(event);
    const size = event.shiftKey ? 0.02 : 0.1;
    const inside = (value) => Math.min(LIMIT, Math.max(-LIMIT, value));
    if (step) go(z.map((value, i) => inside(value + size * step[i])));
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === "Home") {
      event.preventDefault();
      go([0, 0]);
    } else if (/^[ab]$/i.test(event.key)) pin(event.key.toUpperCase());
  });

  // --- the page -------------------------------------------------------------------------------

  const tiles = [];
  for (let i = 0; i < TILES ** 2; i++) tiles.push(() => mapTile(i % TILES, Math.floor(i / TILES)));
  tiles.push(() => { mapDone = true; field.renew(); });
  walks();
  later("map", tiles);
  show();

  const row = (name, text) => [element("span", {}, text), strips[name].canvas];
  return [
    element("div", { class: "live-row" }, canvas,
      element("div", { class: "live-side" }, image.canvas, ...words,
        element("div", { class: "live-buttons" }, button("Pin as A", () => pin("A")),
          button("Pin as B", () => pin("B")), button("Clear path", clearPath)))),
    element("div", { class: "live-strips" }, ...row("path", "your path: drag"),
      ...row("straight", "A to B, straight"), ...row("spherical", "A to B, spherical")),
  ];
});
