// What the live figures share: the model in plain JavaScript, and the plane on which both show codes.
// Classic scripts, because browsers refuse modules from file://. Nothing moves by itself, so there
// is no motion to reduce.
(() => {
  "use strict";
  const SIDE = 28;
  const LIMIT = 3.2; // the plane shows codes from -LIMIT to LIMIT

  // --- the model ------------------------------------------------------------------------------

  const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

  function adler32(data) {
    let [a, b] = [1, 0];
    for (const byte of data) {
      a = (a + byte) % 65521;
      b = (b + a) % 65521;
    }
    return b * 65536 + a;
  }

  function fromHalf(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = (bits & 1023) / 1024;
    return sign * (exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14);
  }

  function dot(weights, start, vector) {
    let sum = 0;
    for (let i = 0; i < vector.length; i++) sum += weights[start + i] * vector[i];
    return sum;
  }

  // Gather the patch under each output pixel and multiply it by every filter. A dense layer is the
  // convolution of a single pixel.
  function convolve({ into, out, kernel, stride, padding, weights, bias }, input) {
    const [[channels, height, width], [filters, rows, columns]] = [into, out];
    const patch = new Float32Array(channels * kernel * kernel);
    const output = new Float32Array(filters * rows * columns);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        let i = 0;
        for (let c = 0; c < channels; c++) {
          for (let row = y * stride - padding, ky = 0; ky < kernel; ky++, row++) {
            for (let column = x * stride - padding, kx = 0; kx < kernel; kx++, column++) {
              const inside = row >= 0 && row < height && column >= 0 && column < width;
              patch[i++] = inside ? input[(c * height + row) * width + column] : 0;
            }
          }
        }
        for (let f = 0; f < filters; f++) {
          output[(f * rows + y) * columns + x] = bias[f] + dot(weights, f * patch.length, patch);
        }
      }
    }
    return output;
  }

  // The transpose: multiply the channels of each input pixel by every filter, add where it reaches.
  function transposed({ into, out, kernel, stride, padding, weights, bias }, input) {
    const [[channels, height, width], [filters, rows, columns]] = [into, out];
    const vector = new Float32Array(channels);
    const output = new Float32Array(filters * rows * columns);
    for (let f = 0; f < filters; f++) output.fill(bias[f], f * rows * columns, (f + 1) * rows * columns);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < channels; c++) vector[c] = input[(c * height + y) * width + x];
        for (let ky = 0; ky < kernel; ky++) {
          const row = y * stride - padding + ky;
          if (row < 0 || row >= rows) continue;
          for (let kx = 0; kx < kernel; kx++) {
            const column = x * stride - padding + kx;
            if (column < 0 || column >= columns) continue;
            for (let f = 0; f < filters; f++) {
              const start = ((f * kernel + ky) * kernel + kx) * channels;
              output[(f * rows + row) * columns + column] += dot(weights, start, vector);
            }
          }
        }
      }
    }
    return output;
  }

  function run(layers, input) {
    for (const layer of layers) {
      input = layer.transposed ? transposed(layer, input) : convolve(layer, input);
      for (let i = 0; i < input.length; i++) if (input[i] < 0) input[i] *= layer.leak;
    }
    return input;
  }

  let loaded; // both figures of a page would share one model

  // Return the model that the weights' script has left, or throw one sentence.
  function load() {
    if (loaded) return loaded;
    const data = window.vaebookLiveData;
    if (!data) throw new Error("the weights of the model did not load.");
    try {
      const raw = bytes(data.weights);
      if (adler32(raw) !== data.adler32) throw new Error("checksum");
      const view = new DataView(raw.buffer);
      const numbers = Float32Array.from({ length: raw.length / 2 }, (_, i) =>
        fromHalf(view.getUint16(2 * i, true)));
      let position = 0;
      const take = (count) => numbers.subarray(position, (position += count));
      const network = (layers) => layers.map((layer) => ({
        ...layer,
        weights: take(layer.into[0] * layer.out[0] * layer.kernel ** 2),
        bias: take(layer.out[0]),
      }));
      const [encoder, decoder] = [network(data.encoder), network(data.decoder)];
      const images = bytes(data.images);
      loaded = {
        ...data,
        images: Array.from({ length: images.length / SIDE ** 2 }, (_, i) =>
          Float32Array.from(images.subarray(i * SIDE ** 2, (i + 1) * SIDE ** 2), (v) => v / 255)),
        encode(pixels) {
          const out = run(encoder, pixels);
          return { mean: [out[0], out[1]], logVar: [out[2], out[3]] };
        },
        decode: (z) => run(decoder, Float32Array.from(z)), // to logits
      };
    } catch {
      throw new Error("the weights of the model are damaged.");
    }
    return loaded;
  }

  const sigmoid = (logits) => logits.map((logit) => 1 / (1 + Math.exp(-logit)));

  // Both terms of the loss, in nats per image.
  function terms(pixels, logits, { mean, logVar }) {
    let reconstruction = 0;
    for (let i = 0; i < pixels.length; i++) {
      const l = logits[i];
      reconstruction += Math.max(l, 0) - l * pixels[i] + Math.log1p(Math.exp(-Math.abs(l)));
    }
    const kls = mean.map((m, i) => 0.5 * (m * m + Math.exp(logVar[i]) - 1 - logVar[i]));
    return { reconstruction, kl: kls[0] + kls[1] };
  }

  // --- paths ----------------------------------------------------------------------------------

  const between = (a, b, share) => a.map((value, i) => value + share * (b[i] - value));

  // Direction and length change evenly; as in the package, without an arc it is a straight walk.
  function spherical(a, b, share) {
    const [first, last] = [Math.hypot(...a), Math.hypot(...b)];
    const cosine = (a[0] * b[0] + a[1] * b[1]) / (first * last);
    const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
    if (!(Math.sin(angle) >= 1e-4)) return between(a, b, share); // NaN from the origin, too
    const [from, to] = [Math.sin((1 - share) * angle), Math.sin(share * angle)];
    const length = (first + share * (last - first)) / Math.sin(angle);
    return a.map((value, i) => length * (from * value / first + to * b[i] / last));
  }

  // --- drawing --------------------------------------------------------------------------------

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  const button = (text, onclick) => element("button", { type: "button", onclick }, text);

  // A row of images, white on black, each put in its place by the returned `show`.
  function strip(count, label) {
    const canvas = element("canvas", { class: "live-pixels", role: "img", "aria-label": label });
    [canvas.width, canvas.height] = [count * SIDE, SIDE];
    const context = canvas.getContext("2d");
    const picture = context.createImageData(SIDE, SIDE);
    const show = (pixels, place = 0) => {
      for (let i = 0; i < pixels.length; i++) {
        picture.data.fill(255 * pixels[i], 4 * i, 4 * i + 3);
        picture.data[4 * i + 3] = 255;
      }
      context.putImageData(picture, place * SIDE, 0);
    };
    const clear = () => context.clearRect(0, 0, canvas.width, SIDE);
    return { canvas, show, clear };
  }

  const number = (value, digits = 2) =>
    value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");
  const code = (z) => `(${number(z[0])}, ${number(z[1])})`;

  // A line of text that is read out once it has stood still for a moment.
  function speaker() {
    const shown = element("p", { class: "live-shown", "aria-hidden": "true" });
    const read = element("p", { class: "live-read", "aria-live": "polite" });
    let timer;
    const say = (text) => {
      shown.textContent = text;
      clearTimeout(timer);
      timer = setTimeout(() => (read.textContent = text), 400);
    };
    return { nodes: [shown, read], say };
  }

  // Call `draw` once before the next frame, however often it is asked for.
  function onceAFrame(draw) {
    let waiting = false;
    return () => {
      if (!waiting) requestAnimationFrame(() => { waiting = false; draw(); });
      waiting = true;
    };
  }

  // Work that may wait: a few milliseconds of it in each frame, what was asked for last at first. A
  // new list replaces the older one of its name.
  const jobs = new Map();
  const work = onceAFrame(() => {
    const end = performance.now() + 5;
    for (const [name, list] of [...jobs].reverse()) {
      while (list.length && performance.now() < end) list.shift()();
      if (!list.length) jobs.delete(name);
    }
    if (jobs.size) work();
  });
  function later(name, list) {
    jobs.delete(name);
    jobs.set(name, list);
    work();
  }

  // Lighter on a dark page, where the palette's indigo could not be seen.
  function lighter(colour) {
    const parts = [0, 2, 4].map((i) => parseInt(colour.slice(i + 1, i + 3), 16));
    return `rgb(${parts.map((part) => Math.round(part + 0.45 * (255 - part))).join()})`;
  }

  // A canvas that is redrawn when its size or the page's theme changes. `draw` is called with a
  // context in CSS pixels, the side of the square and the colours.
  function square(attributes, draw, prepare = () => {}) {
    const canvas = element("canvas", { tabindex: 0, class: "live-square", ...attributes });
    const context = canvas.getContext("2d");
    let colours;
    const redraw = () => {
      const side = canvas.clientWidth;
      if (!side || !colours) return; // before the canvas has a size
      context.setTransform(canvas.width / side, 0, 0, canvas.width / side, 0, 0);
      context.clearRect(0, 0, side, side);
      draw(context, side, colours);
    };
    const renew = () => {
      canvas.width = canvas.height = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
      const style = getComputedStyle(canvas);
      const value = (name) => style.getPropertyValue(`--live-${name}`).trim();
      const dark = document.documentElement.dataset.theme === "dark";
      colours = { paper: value("paper"), ink: value("ink"), accent: value("accent"), dark };
      if (canvas.width) prepare(canvas.width, colours);
      redraw();
    };
    new ResizeObserver(renew).observe(canvas);
    new MutationObserver(renew).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return { canvas, redraw, renew };
  }

  // The latent plane with the codes of test images; `over` draws on top of them.
  function plane(model, attributes, over, under = () => {}) {
    const ground = document.createElement("canvas"); // what stays the same from frame to frame
    const palette = (dark) => (dark ? model.palette.map(lighter) : model.palette);
    const place = (z, side) => [(z[0] / LIMIT + 1) * side / 2, (1 - z[1] / LIMIT) * side / 2];

    function prepare(side, colours) {
      ground.width = ground.height = side;
      const context = ground.getContext("2d");
      const scale = side / 400;
      under(context, side, colours);
      const shades = palette(colours.dark);
      model.codes.forEach(([x, y, label]) => {
        context.beginPath();
        context.arc(...place([x, y], side), 2.6 * scale, 0, 7);
        context.fillStyle = shades[label % shades.length];
        context.fill();
      });
      // The 95 % circle of the prior.
      context.beginPath();
      context.arc(side / 2, side / 2, (Math.sqrt(-2 * Math.log(0.05)) / LIMIT) * side / 2, 0, 7);
      context.setLineDash([2 * scale, 4 * scale]);
      context.strokeStyle = colours.ink;
      context.stroke();
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.font = `bold ${12 * scale}px sans-serif`;
      model.badges.forEach(([x, y, label]) => {
        context.beginPath();
        context.arc(...place([x, y], side), 8.5 * scale, 0, 7);
        context.fillStyle = colours.paper;
        context.fill();
        context.setLineDash([]);
        context.lineWidth = 2 * scale;
        context.strokeStyle = shades[label % shades.length];
        context.stroke();
        context.fillStyle = colours.ink;
        context.fillText(model.classes[label], ...place([x, y], side));
      });
    }

    const made = square(attributes, (context, side, colours) => {
      context.drawImage(ground, 0, 0, side, side);
      over(context, (z) => place(z, side), colours, side);
    }, prepare);
    const at = (event) => {
      const box = made.canvas.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width;
      const y = (event.clientY - box.top) / box.height;
      return [x, 1 - y].map((share) => LIMIT * (2 * Math.min(1, Math.max(0, share)) - 1));
    };
    return { ...made, at };
  }

  // The step of an arrow key in units of the screen, or undefined for another key.
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  function arrow(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return undefined;
    const step = ARROWS[event.key];
    if (step) {
      event.preventDefault(); // no scrolling
      event.stopPropagation(); // no turning of pages
    }
    return step;
  }

  // Bring every figure of a kind to life; one that cannot be stays a picture with a sentence.
  function figure(kind, build) {
    for (const found of document.querySelectorAll(`[data-live="${kind}"]`)) {
      const stage = found.querySelector(".live-stage");
      try {
        if (!document.createElement("canvas").getContext?.("2d")) {
          throw new Error("this browser has no canvas to draw on.");
        }
        const model = load();
        stage.append(...build(model));
        found.querySelector(".live-help").append(` Data: ${model.source}.`);
        stage.hidden = false;
        found.classList.add("live-on");
      } catch (error) {
        stage.replaceChildren();
        found.querySelector(".live-still-note").textContent = `This picture is still: ${error.message}`;
      }
    }
  }

  window.vaebookLive = {
    LIMIT, SIDE, arrow, between, button, code, element, figure, later, load, number, onceAFrame,
    plane, sigmoid, spherical, speaker, square, strip, terms, pending: () => jobs.size,
  };
})();
