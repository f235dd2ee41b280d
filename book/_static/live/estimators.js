/* The live figure of the chapter on two gradients: estimates of the gradient of E f(z) with
   respect to the mean μ and the standard deviation σ of a normal distribution.

   The arithmetic stands first; the rest draws it. Nothing on the figure moves by itself. */
(function () {
  "use strict";

  const REPETITIONS = 200;
  const DRAWS = [1, 4, 16, 64];
  const FLOOR = 1.2; // f(z) is a bell on a floor
  const BELL = { height: 2, centre: 1.8, width: 1.1 };

  const bell = (z) => BELL.height * Math.exp(-0.5 * ((z - BELL.centre) / BELL.width) ** 2);
  const hill = (z) => FLOOR + bell(z);
  const slope = (z) => (-bell(z) * (z - BELL.centre)) / BELL.width ** 2;

  // Each estimator makes of one draw z = μ + σε the gradients with respect to μ and to σ.
  const ESTIMATORS = {
    pathwise(noise, { mean, std }) {
      const steep = slope(mean + std * noise);
      return [steep, steep * noise];
    },
    score(noise, { mean, std, level }) {
      const weight = (hill(mean + std * noise) - level) / std;
      return [weight * noise, weight * (noise ** 2 - 1)];
    },
  };

  /* Return the expectation of a function of a standard normal ε, by the trapezoidal rule. */
  function expectation(f) {
    const step = 0.05;
    let sum = 0;
    for (let noise = -9; noise <= 9; noise += step) {
      sum += f(noise) * Math.exp(-0.5 * noise ** 2);
    }
    return (sum * step) / Math.sqrt(2 * Math.PI);
  }

  /* Return standard normal draws, the same for the same seed (xorshift, Box and Muller). */
  function normals(seed, count) {
    let bits = Math.imul(seed, 0x9e3779b1) | 1;
    function uniform() {
      bits ^= bits << 13;
      bits ^= bits >>> 17;
      bits ^= bits << 5;
      return ((bits >>> 0) + 0.5) / 2 ** 32;
    }
    for (let i = 0; i < 20; i++) uniform(); // neighbouring seeds begin alike
    const noise = new Float64Array(count);
    for (let i = 0; i < count; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(uniform()));
      const angle = 2 * Math.PI * uniform();
      noise[i] = radius * Math.cos(angle);
      noise[i + 1] = radius * Math.sin(angle);
    }
    return noise;
  }

  /* Return all that the figure shows: for each estimator and parameter the estimate of every
     repetition, and beside it the exact gradient and the exact variance of such an estimate. */
  function compute({ mean, std, draws, baseline, seed }) {
    const noise = normals(seed, REPETITIONS * draws);
    const level = baseline ? expectation((e) => hill(mean + std * e)) : 0;
    const setting = { mean, std, level };
    const found = { level, noise };
    for (const [name, estimator] of Object.entries(ESTIMATORS)) {
      const estimates = [[], []];
      for (let r = 0; r < REPETITIONS; r++) {
        const sum = [0, 0];
        for (let i = r * draws; i < (r + 1) * draws; i++) {
          const [forMean, forStd] = estimator(noise[i], setting);
          sum[0] += forMean;
          sum[1] += forStd;
        }
        estimates[0].push(sum[0] / draws);
        estimates[1].push(sum[1] / draws);
      }
      found[name] = estimates.map((values, parameter) => {
        const one = (e) => estimator(e, setting)[parameter];
        const exact = expectation(one);
        const exactVariance = expectation((e) => (one(e) - exact) ** 2) / draws;
        const average = values.reduce((a, b) => a + b) / REPETITIONS;
        const squares = values.reduce((sum, x) => sum + (x - average) ** 2, 0);
        const variance = squares / (REPETITIONS - 1);
        return { estimates: values, average, variance, exact, exactVariance };
      });
    }
    return found;
  }

  /* --- drawing ----------------------------------------------------------------------------- */

  const SCENE = { left: -4, right: 6, top: 3.45, bottom: -0.35, height: 250 };
  const BELOW = 0.8; // the height of q on the picture, whatever its width
  const SLIDERS = {
    mean: { symbol: "μ", name: "mean μ", min: -1.5, max: 4 },
    std: { symbol: "σ", name: "standard deviation σ", min: 0.1, max: 1.5 },
  };
  const PARAMETERS = ["μ", "σ"];

  const number = (x) => String(Number(x.toPrecision(3))).replace("-", "−");
  const fixed = (x) => x.toFixed(2).replace("-", "−");
  const line = (x1, y1, x2, y2, kind) =>
    `<line class="${kind}" x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}"/>`;
  const dot = (x, y, r, kind) => `<circle class="${kind}" cx="${x}" cy="${y}" r="${r}"/>`;
  const text = (x, y, anchor, kind, words) =>
    `<text class="${kind}" x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`;

  function arrow(from, to, y, kind) {
    const head = Math.sign(to - from) * Math.min(9, Math.abs(to - from));
    return (
      line(from, y, to - head / 2, y, `arrow ${kind}`) +
      `<path class="head ${kind}" d="M${to} ${y}l${-head} -5v10z"/>`
    );
  }

  const scoreName = (baseline) => `score function${baseline ? ", baseline" : ""}`;
  const scoreKind = (baseline) => (baseline ? "baseline" : "score");

  /* Draw hill, density and draws, with a slope and a height at each draw. */
  function scene(state, found, toX, toY) {
    const curve = (f) => {
      const points = [];
      for (let z = SCENE.left; z <= SCENE.right + 1e-9; z += 0.02) {
        points.push(`${toX(z).toFixed(1)} ${toY(f(z)).toFixed(1)}`);
      }
      return points.join("L");
    };
    const density = (z) => BELOW * Math.exp(-0.5 * ((z - state.mean) / state.std) ** 2);
    const axis = toY(0);
    const faint = state.draws > 4 ? " faint" : "";
    const parts = [
      `<path class="density" d="M${curve(density)}L${toX(SCENE.right)} ${axis}H${toX(SCENE.left)}z"/>`,
      line(toX(SCENE.left), axis, toX(SCENE.right), axis, "axis"),
      `<path class="hill" d="M${curve(hill)}"/>`,
      text(toX(SCENE.right) - 4, toY(hill(SCENE.right)) - 8, "end", "muted", "f(z)"),
    ];
    const kind = scoreKind(state.baseline);
    if (state.baseline) {
      const level = toY(found.level);
      parts.push(line(toX(SCENE.left), level, toX(SCENE.right), level, "level"));
      parts.push(text(toX(SCENE.left) + 4, level - 5, "start", "muted", "b = E[f(z)]"));
    }
    for (let i = 0; i < state.draws; i++) {
      const z = state.mean + state.std * found.noise[i];
      const reach = 0.35; // how far a slope is drawn to either side
      parts.push(line(toX(z), toY(found.level), toX(z), toY(hill(z)), kind + faint));
      parts.push(
        line(
          toX(z - reach), toY(hill(z) - reach * slope(z)),
          toX(z + reach), toY(hill(z) + reach * slope(z)), "pathwise" + faint,
        ),
      );
      parts.push(dot(toX(z), toY(hill(z)), 3, "muted"), dot(toX(z), axis, 3, "draw"));
    }
    const flank = toY(BELOW * Math.exp(-0.5));
    parts.push(line(toX(state.mean), flank, toX(state.mean + state.std), flank, "width"));
    return parts.join("");
  }

  /* Draw both estimates of one gradient as arrows, above the spread of all repetitions. */
  function panel(state, found, parameter, width) {
    const rows = [
      ["pathwise", "pathwise", found.pathwise[parameter]],
      [scoreKind(state.baseline), scoreName(state.baseline), found.score[parameter]],
    ];
    const exact = found.pathwise[parameter].exact;
    const farthest = Math.max(
      Math.abs(exact), ...rows.flatMap((row) => row[2].estimates.map(Math.abs)),
    );
    const power = 10 ** Math.floor(Math.log10(farthest));
    const limit = [1, 1.5, 2, 3, 5, 7, 10].find((x) => x * power >= farthest) * power;
    const toX = (g) => 10 + ((g / limit + 1) / 2) * (width - 20);
    const parts = [line(toX(0), 22, toX(0), 148, "axis")];
    rows.forEach(([kind, name, { estimates, average, exactVariance }], row) => {
      const y = 52 + 62 * row;
      const spread = Math.sqrt(exactVariance);
      const [low, high] = [toX(exact - spread), toX(exact + spread)];
      parts.push(text(10, y - 17, "start", `${kind} label`, name));
      estimates.forEach((g, i) => {
        parts.push(dot(toX(g).toFixed(1), y + 9 + 12 * ((i * 0.618) % 1), 1.5, kind));
      });
      parts.push(`<rect class="${kind}" x="${low}" y="${y + 5}" width="${high - low}" height="20"/>`);
      parts.push(line(toX(average), y + 3, toX(average), y + 27, `average ${kind}`));
      parts.push(arrow(toX(0), toX(estimates[0]), y - 5, kind));
    });
    parts.push(line(toX(exact), 22, toX(exact), 148, "exact"));
    for (const [g, anchor] of [[-limit, "start"], [0, "middle"], [limit, "end"]]) {
      parts.push(text(toX(g), 163, anchor, "muted", number(g)));
    }
    const right = toX(exact) > width - 80;
    parts.push(text(toX(exact) + (right ? -4 : 4), 14, right ? "end" : "start", "muted", "exact"));
    return parts.join("");
  }

  function rows(state, found) {
    const names = { pathwise: "pathwise", score: scoreName(state.baseline) };
    const row = (name, parameter) => {
      const g = found[name][parameter];
      const cells = [g.exact, g.estimates[0], g.average, g.variance, g.exactVariance];
      const head = `<th scope="row">${PARAMETERS[parameter]}, ${names[name]}</th>`;
      return `<tr>${head}${cells.map((x) => `<td>${number(x)}</td>`).join("")}</tr>`;
    };
    return [0, 1].flatMap((p) => [row("pathwise", p), row("score", p)]).join("");
  }

  function sentence(state, found) {
    const times = [0, 1].map((p) =>
      Number((found.score[p].exactVariance / found.pathwise[p].exactVariance).toPrecision(2)),
    );
    const gradients = [0, 1].map(
      (p) =>
        `Gradient for ${PARAMETERS[p]}: exact ${number(found.pathwise[p].exact)}, pathwise ` +
        `${number(found.pathwise[p].estimates[0])}, score function ` +
        `${number(found.score[p].estimates[0])}.`,
    );
    return (
      `μ = ${fixed(state.mean)}, σ = ${fixed(state.std)}. ${gradients.join(" ")} To be as exact ` +
      `as the path, the score function ${state.baseline ? "with the baseline " : ""}needs ` +
      `${times[0].toLocaleString("en")} times as many draws for μ and ` +
      `${times[1].toLocaleString("en")} times as many for σ.`
    );
  }

  /* --- the figure on the page -------------------------------------------------------------- */

  const slider = (key) => `
    <g class="handle ${key}" role="slider" tabindex="0" aria-label="${SLIDERS[key].name}"
       aria-orientation="horizontal" aria-valuemin="${SLIDERS[key].min}"
       aria-valuemax="${SLIDERS[key].max}">
      <circle class="reach" r="18"/><circle class="knob" r="8"/>
      <text text-anchor="middle" dy="-13">${SLIDERS[key].symbol}</text>
    </g>`;

  const SKELETON = `
    <p class="how">Drag the dots μ and σ, or select one with Tab and move it with the arrow keys;
      the arrows below are the gradients that these draws estimate.</p>
    <div class="controls">
      <label>Draws <select name="draws">
        ${DRAWS.map((n) => `<option>${n}</option>`).join("")}</select></label>
      <label><input type="checkbox" name="baseline"> subtract the baseline b = E[f(z)]</label>
      <button type="button">New draws</button>
    </div>
    <svg class="scene" role="group" aria-label="Hill f(z), density q and its draws">
      <g class="drawing" aria-hidden="true"></g>${slider("mean")}${slider("std")}
    </svg>
    <div class="panels">
      ${PARAMETERS.map((p) => `<div><p>Gradient with respect to ${p}</p>
        <svg role="img" aria-label="Estimates of the gradient for ${p}; the table has the numbers"
        ></svg></div>`).join("")}
    </div>
    <div class="numbers"><table>
      <thead><tr><th></th><th>exact</th><th>these draws</th><th>mean of ${REPETITIONS}</th>
        <th>variance, measured</th><th>variance, exact</th></tr></thead>
      <tbody></tbody>
    </table></div>
    <p class="said" role="status" aria-live="polite"></p>`;

  function show(figure) {
    const state = { mean: 0.3, std: 0.8, draws: 4, baseline: false, seed: 5 };
    const root = document.createElement("div");
    root.className = "live";
    root.innerHTML = SKELETON;
    figure.prepend(root);
    figure.classList.add("is-live");

    const one = (selector) => root.querySelector(selector);
    const drawing = one(".scene");
    const panels = root.querySelectorAll(".panels svg");
    const handles = { mean: one(".handle.mean"), std: one(".handle.std") };
    let width = 0;
    let waiting;
    const toX = (z) => ((z - SCENE.left) / (SCENE.right - SCENE.left)) * width;
    const toY = (y) => ((SCENE.top - y) / (SCENE.top - SCENE.bottom)) * SCENE.height;

    function render() {
      width = drawing.clientWidth;
      if (!width) return; // not on the screen, or printed
      const found = compute(state);
      one(".drawing").innerHTML = scene(state, found, toX, toY);
      panels.forEach((svg, parameter) => {
        svg.innerHTML = panel(state, found, parameter, svg.clientWidth);
      });
      one("tbody").innerHTML = rows(state, found);
      const places = {
        mean: [toX(state.mean), toY(0)],
        std: [toX(state.mean + state.std), toY(BELOW * Math.exp(-0.5))],
      };
      for (const [key, handle] of Object.entries(handles)) {
        handle.setAttribute("transform", `translate(${places[key]})`);
        handle.setAttribute("aria-valuenow", state[key].toFixed(2));
        handle.setAttribute("aria-valuetext", `${SLIDERS[key].symbol} = ${fixed(state[key])}`);
      }
      // Read out once the reader pauses, not at every step of a key that is held.
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        one(".said").textContent = sentence(state, found);
      }, 300);
    }

    function set(key, value) {
      const { min, max } = SLIDERS[key];
      state[key] = Math.min(max, Math.max(min, Math.round(value * 100) / 100));
      render();
    }

    for (const [key, handle] of Object.entries(handles)) {
      const { min, max } = SLIDERS[key];
      handle.addEventListener("keydown", (event) => {
        const step = event.shiftKey ? 0.01 : 0.05;
        const target = {
          ArrowRight: state[key] + step, ArrowUp: state[key] + step,
          ArrowLeft: state[key] - step, ArrowDown: state[key] - step,
          PageUp: state[key] + 0.25, PageDown: state[key] - 0.25,
          Home: min, End: max,
        }[event.key];
        if (target === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        event.stopPropagation();
        set(key, target);
      });
      handle.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        handle.setPointerCapture(event.pointerId);
        handle.focus();
      });
      handle.addEventListener("pointermove", (event) => {
        if (!handle.hasPointerCapture(event.pointerId)) return;
        const x = (event.clientX - drawing.getBoundingClientRect().left) / width;
        const z = SCENE.left + x * (SCENE.right - SCENE.left);
        set(key, key === "mean" ? z : z - state.mean);
      });
    }
    const draws = one("select");
    draws.value = state.draws;
    draws.addEventListener("change", () => {
      state.draws = Number(draws.value);
      render();
    });
    one("input").addEventListener("change", (event) => {
      state.baseline = event.target.checked;
      render();
    });
    one("button").addEventListener("click", () => {
      state.seed += 1;
      render();
    });
    new ResizeObserver(render).observe(drawing);
    render();
  }

  window.vaebookEstimators = { compute, show };
  document.querySelectorAll("figure.live-estimators").forEach(show);
})();
