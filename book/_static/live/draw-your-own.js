// Draw your own: what the encoder makes of a drawing, and what the drawing costs in nats.
vaebookLive.figure("draw-your-own", (model) => {
  "use strict";
  const { SIDE, arrow, button, code, element, number, onceAFrame, plane, sigmoid, square, strip, terms } =
    vaebookLive;
  const PEN = 0.085; // width of a line, as a share of the pad's side
  const ZOOM = 12; // of the inset, since a posterior is small

  let strokes = []; // lists of points [x, y] in the unit square, y downwards
  let example = 7; // the class of the test image that comes next
  let chosen = example++; // that of the one that is looked at instead of the drawing
  let noise = null; // of the last draw from the posterior
  let draws = [];
  let pen = { at: [0.5, 0.3], down: false, shown: false }; // for the keyboard

  // --- from lines to the pixels that a VAE of MNIST knows --------------------------------------

  function distance([x, y], [ax, ay], [bx, by]) {
    const [dx, dy] = [bx - ax, by - ay];
    const share = ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1);
    const near = Math.min(1, Math.max(0, share));
    return Math.hypot(x - ax - near * dx, y - ay - near * dy);
  }

  function render(lines, radius) {
    const pixels = new Float32Array(SIDE * SIDE);
    for (const points of lines) {
      points.forEach((end, i) => {
        const start = points[Math.max(0, i - 1)];
        const reach = radius + 1;
        const span = (k) => [Math.min(start[k], end[k]) - reach, Math.max(start[k], end[k]) + reach]
          .map((value) => Math.min(SIDE - 1, Math.max(0, Math.round(value))));
        const [[left, right], [top, bottom]] = [span(0), span(1)];
        for (let y = top; y <= bottom; y++) {
          for (let x = left; x <= right; x++) {
            const covered = radius + 0.5 - distance([x + 0.5, y + 0.5], start, end);
            const at = y * SIDE + x;
            pixels[at] = Math.max(pixels[at], Math.min(1, Math.max(0, covered)));
          }
        }
      });
    }
    return pixels;
  }

  // As the images of MNIST were made: 20 pixels high or wide, the centre of mass in the middle.
  // The result holds bytes, divided by 255.
  function raster(lines) {
    const points = lines.flat();
    if (!points.length) return null;
    const low = [0, 1].map((k) => Math.min(...points.map((point) => point[k])));
    const high = [0, 1].map((k) => Math.max(...points.map((point) => point[k])));
    const size = Math.max(high[0] - low[0], high[1] - low[1]);
    const radius = 1.2; // MNIST's strokes are two to three pixels wide
    const scale = (20 - 2 * radius) / Math.max(size, 0.3); // a dot stays a dot
    const place = (shift) => lines.map((line) => line.map((point) =>
      point.map((value, k) => (value - (low[k] + high[k]) / 2) * scale + SIDE / 2 + shift[k])));
    const first = render(place([0, 0]), radius);
    let [mass, x, y] = [0, 0, 0];
    first.forEach((value, i) => {
      mass += value;
      x += value * ((i % SIDE) + 0.5);
      y += value * (Math.floor(i / SIDE) + 0.5);
    });
    const pixels = render(place([SIDE / 2 - x / mass, SIDE / 2 - y / mass]), radius);
    return pixels.map((value) => Math.round(255 * value) / 255);
  }

  // --- from pixels to numbers -----------------------------------------------------------------

  // Of nothing, the encoder is not asked: the answer is the prior's.
  function answer() {
    const pixels = chosen === null ? raster(strokes) : model.images[chosen];
    const posterior = pixels ? model.encode(pixels) : { mean: [0, 0], logVar: [0, 0] };
    const std = posterior.logVar.map((value) => Math.exp(value / 2));
    const z = posterior.mean.map((value, i) => value + std[i] * (noise?.[i] ?? 0));
    const logits = model.decode(z);
    const cost = pixels ? terms(pixels, logits, posterior) : null;
    return { pixels, ...posterior, std, z, logits, cost };
  }

  // --- the parts ------------------------------------------------------------------------------

  let found = answer();
  const seen = strip(1, "what the encoder sees: the test image, or your drawing scaled and centred");
  const drawn = strip(1, "reconstruction");
  const { nodes: words, say } = vaebookLive.speaker();
  const cells = Object.fromEntries(["mean", "std", "reconstruction", "kl", "loss"].map((name) =>
    [name, element("td")]));

  const padLabel = "Pad to draw on. The arrow keys move a pen; Space puts it down and lifts it; " +
    "Backspace takes back a stroke.";
  const pad = square({ role: "application", "aria-label": padLabel }, (context, side) => {
    context.fillStyle = "#000";
    context.fillRect(0, 0, side, side);
    context.fillStyle = "#bbb";
    context.font = "1rem sans-serif";
    context.textAlign = "center";
    if (chosen !== null) {
      context.imageSmoothingEnabled = false;
      context.drawImage(seen.canvas, 0, 0, side, side);
      context.fillText("a test image: draw to replace it", side / 2, 0.08 * side);
    } else if (!found.pixels) context.fillText("draw a digit here", side / 2, side / 2);
    context.strokeStyle = "#fff";
    context.lineWidth = PEN * side;
    context.lineCap = context.lineJoin = "round";
    for (const points of chosen === null ? strokes : []) {
      context.beginPath();
      [points[0], ...points].forEach(([x, y]) => context.lineTo(x * side, y * side));
      context.stroke();
    }
    if (!pen.shown) return;
    context.beginPath();
    context.arc(pen.at[0] * side, pen.at[1] * side, (PEN * side) / 2, 0, 7);
    context.lineWidth = 2;
    context.strokeStyle = pen.down ? "#cc6677" : "#88ccee";
    context.stroke();
  });

  function ellipse(context, [x, y], [width, height]) {
    context.beginPath();
    context.ellipse(x, y, width, height, 0, 0, 7);
  }

  function over(context, place, { ink, paper, accent }, side) {
    const [x, y] = place(found.mean);
    const unit = place([1, 0])[0] - place([0, 0])[0];
    const region = (centre, scale) => {
      ellipse(context, centre, found.std.map((value) => value * unit * scale));
      context.fillStyle = accent;
      context.globalAlpha = 0.45;
      context.fill();
      context.globalAlpha = 1;
      context.stroke();
    };
    context.strokeStyle = accent;
    context.lineWidth = 2;
    region([x, y], 1);
    const spots = (centre, scale, radius) => draws.forEach((z) => {
      const at = z.map((value, k) => (value - found.mean[k]) * unit * scale * (k ? -1 : 1));
      ellipse(context, [centre[0] + at[0], centre[1] + at[1]], [radius, radius]);
      context.fillStyle = ink;
      context.fill();
    });
    if (!found.pixels) return spots([x, y], 1, 2.5);
    ellipse(context, [x, y], [12, 12]);
    context.stroke();
    // The neighbourhood of the mean, magnified, in the corner that is farthest from it.
    const half = side * 0.17;
    const centre = [x < side / 2 ? side - half - 4 : half + 4, y < side / 2 ? side - half - 4 : half + 4];
    context.save();
    ellipse(context, centre, [half, half]);
    context.fillStyle = paper;
    context.fill();
    context.stroke();
    context.clip();
    region(centre, ZOOM);
    spots(centre, ZOOM, 2.5);
    context.fillStyle = ink;
    ellipse(context, centre, [2, 2]);
    context.fill();
    context.restore();
    context.fillStyle = ink;
    context.font = "12px sans-serif";
    context.textAlign = "center";
    context.fillText(`× ${ZOOM}`, centre[0] + (x < side / 2 ? -1 : 1) * (half + 16), centre[1]);
    return undefined;
  }
  const field = plane(model, {
    role: "img", "aria-label": "Latent plane with the posterior of the image", tabindex: -1,
  }, over);

  const update = onceAFrame(() => {
    found = answer();
    const { pixels, mean, std, z, logits, cost } = found;
    seen.clear();
    if (pixels) seen.show(pixels);
    drawn.show(sigmoid(logits));
    if (noise) draws.push(z);
    pad.redraw();
    field.redraw();
    cells.mean.textContent = code(mean);
    cells.std.textContent = code(std);
    cells.reconstruction.textContent = cost ? number(cost.reconstruction, 1) : "–";
    cells.kl.textContent = cost ? number(cost.kl, 1) : number(0, 1);
    cells.loss.textContent = cost ? number(cost.reconstruction + cost.kl, 1) : "–";
    const where = noise ? `Decoded at a draw, z = ${code(z)}.` : "Decoded at the mean.";
    if (!pixels) say(`Nothing is drawn yet, so the prior is shown. ${where}`);
    else {
      const { reconstruction, kl } = cost;
      const sum = `${number(reconstruction, 1)} + ${number(kl, 1)} = ${number(reconstruction + kl, 1)}`;
      say(`${where} Loss: ${sum} nats.`);
    }
  });

  // --- what the reader does -------------------------------------------------------------------

  // Another drawing has another posterior: forget the draws.
  function change() {
    [noise, draws] = [null, []];
    update();
  }

  function begin(point) {
    if (chosen !== null) [chosen, strokes] = [null, []];
    strokes.push([point]);
    change();
  }

  function extend(point) {
    strokes.at(-1).push(point);
    change();
  }

  function clear() {
    [strokes, chosen, pen.down] = [[], null, false];
    change();
  }

  function undo() {
    if (chosen === null) strokes.pop();
    [chosen, pen.down] = [null, false];
    change();
  }

  function showExample() {
    [chosen, pen.down] = [example, false];
    example = (example + 1) % model.images.length;
    change();
  }

  // Two normal numbers from two uniform ones (Box and Muller).
  function draw() {
    const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
    const angle = 2 * Math.PI * Math.random();
    noise = [radius * Math.cos(angle), radius * Math.sin(angle)];
    update();
  }

  const { canvas } = pad;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  let drawing = null; // the pointer that draws: a second finger does not
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || drawing !== null) return;
    drawing = event.pointerId;
    try {
      canvas.setPointerCapture(event.pointerId);
    } catch { /* a pointer that has gone already */ }
    [pen.shown, pen.down] = [false, false];
    begin(at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== drawing || !strokes.length) return;
    const fine = event.getCoalescedEvents?.() ?? [];
    (fine.length ? fine : [event]).forEach((each) => extend(at(each)));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      if (event.pointerId === drawing) drawing = null;
    });
  }
  canvas.addEventListener("keydown", (event) => {
    const step = arrow(event);
    if (step) {
      const move = ([dx, dy]) => [0.04 * dx, -0.04 * dy];
      pen.at = pen.at.map((value, k) => Math.min(0.96, Math.max(0.04, value + move(step)[k])));
      if (pen.down) extend(pen.at);
    } else if (event.key === " ") {
      event.preventDefault();
      pen.down = !pen.down;
      if (pen.down) begin(pen.at);
    } else if (event.key === "Backspace") {
      event.preventDefault();
      undo();
    } else return;
    pen.shown = true;
    pad.redraw();
  });
  canvas.addEventListener("blur", () => {
    [pen.shown, pen.down] = [false, false];
    pad.redraw();
  });

  // --- the page -------------------------------------------------------------------------------

  update();
  const labelled = (text, part) => element("div", { class: "live-part" }, part, element("span", {}, text));
  const { reconstruction, kl, loss } = model.card;
  const row = (name, cell, average) => element("tr", {}, element("th", { scope: "row" }, name), cell,
    element("td", {}, average === undefined ? "" : number(average, 1)));
  const head = element("tr", {}, ...["", "this image", "MNIST, average"].map((text) =>
    element("th", { scope: "col" }, text)));
  vaebookLive.raster = raster; // for the tests
  return [
    element("div", { class: "live-row" },
      element("div", { class: "live-side live-wide" }, canvas,
        element("div", { class: "live-buttons" }, button("Undo", undo), button("Clear", clear),
          button("A test image", showExample), button("Draw a code from the posterior", draw))),
      field.canvas),
    element("div", { class: "live-row" },
      labelled("what the encoder sees", seen.canvas), labelled("reconstruction", drawn.canvas),
      element("table", { class: "live-numbers" }, head,
        row("mean", cells.mean), row("standard deviation", cells.std),
        row("reconstruction, nats", cells.reconstruction, reconstruction),
        row("KL, nats", cells.kl, kl), row("loss, nats", cells.loss, loss))),
    ...words,
  ];
});
