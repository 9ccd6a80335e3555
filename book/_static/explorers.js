// Explorers of the built pages: what `segdet.figures.explorers.page_explorer` left in a page becomes sliders and a picture.
// Boxes are (x0, y0, x1, y1) in pixels, half-open; every rule below is the one of segdet.boxes, anchors, matching, rpn.
// As in segdet.figures.plots: the annotation green, a box orange.
const COLOURS = { annotation: "#009E73", good: "#E69F00", best: "#0072B2", ignored: "#CC79A7", negative: "#56B4E9" };

const area = ([x0, y0, x1, y1]) => Math.max(x1 - x0, 0) * Math.max(y1 - y0, 0);

function iou(a, b) {
  const shared = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  return shared > 0 ? shared / (area(a) + area(b) - shared) : 0;
}

function anchorGrid(rows, columns, stride, shapes) {
  const found = [];
  for (let row = 0; row < Math.floor(rows / stride); row++)
    for (let column = 0; column < Math.floor(columns / stride); column++)
      for (const [w, h] of shapes) {
        const x = (column + 0.5) * stride, y = (row + 0.5) * stride;
        found.push([x - w / 2, y - h / 2, x + w / 2, y + h / 2]);
      }
  return found;
}

// Numbers in [0, 1) that depend on the seed alone (mulberry32), so that a page shows the same at every visit.
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const EXPLORERS = {
  // Anchors of one shape at every cell, beside one annotated box and against all of the training set.
  anchors: {
    controls: (f) => [
      ["size", "size (px)", 8, 96, 2, f.size],
      ["ratio", "height / width", 0.5, 4, 0.1, f.ratio],
      ["stride", "stride (px)", 4, 32, 4, 16],
      ["threshold", "positive above", 0.3, 0.9, 0.05, 0.7],
    ],
    draw(f, v) {
      const side = Math.sqrt(v.ratio);
      const anchors = anchorGrid(f.rows, f.columns, v.stride, [[v.size / side, v.size * side]]);
      const overlaps = anchors.map((anchor) => iou(anchor, f.box));
      const top = overlaps.indexOf(Math.max(...overlaps));
      const good = anchors.filter((_, i) => overlaps[i] > v.threshold);
      const reached = f.boxes.filter((box) => anchors.some((anchor) => iou(anchor, box) > v.threshold)).length;
      return {
        boxes: [...good.map((b) => [b, "good"]), [anchors[top], "best"], [f.box, "annotation"]],
        text: `${good.length} of ${anchors.length} anchors above ${v.threshold}; the best has ${overlaps[top].toFixed(2)}. ` +
          `${reached} of the ${f.boxes.length} training boxes have an anchor above ${v.threshold}.`,
      };
    },
  },
  // Which anchors of a slice count in the loss.
  sampler: {
    controls: (f) => [
      ["positive", "positive above", 0.3, 0.9, 0.05, 0.7],
      ["negative", "negative below", 0.05, 0.5, 0.05, 0.3],
      ["count", "anchors a slice", 2, 256, 2, 32],
      ["best", "best anchor", 0, 1, 1, 1],
      ["seed", "draw", 0, 20, 1, 0],
    ],
    draw(f, v) {
      const anchors = anchorGrid(f.rows, f.columns, f.stride, f.shapes);
      const overlaps = anchors.map((anchor) => iou(anchor, f.box));
      const top = Math.max(...overlaps);
      const kind = overlaps.map((o) =>
        o > v.positive || (v.best && o === top) ? "good" : o < v.negative ? "negative" : "ignored");
      const next = random(v.seed);
      const order = anchors.map((_, i) => [next(), i]).sort((a, b) => a[0] - b[0]).map((pair) => pair[1]);
      const positives = order.filter((i) => kind[i] === "good").slice(0, v.count / 2);
      const negatives = order.filter((i) => kind[i] === "negative").slice(0, v.count - positives.length);
      const all = (name) => kind.filter((k) => k === name).length;
      return {
        boxes: [...negatives, ...positives].map((i) => [anchors[i], kind[i]]).concat([[f.box, "annotation"]]),
        text: `Of ${anchors.length} anchors ${all("good")} are positive, ${all("ignored")} ignored, ` +
          `${all("negative")} negative. In the loss: ${positives.length} positive, ${negatives.length} negative.`,
      };
    },
  },
  // What the detector reports on one scan, slice by slice, and the attention that grows with it.
  proposals: {
    controls: (f) => [
      ["slice", "slice", 0, f.found.length - 1, 1, f.slice],
      ["threshold", "score at least", 0, 1, 0.01, f.threshold],
      ["count", "boxes a slice", 1, 5, 1, 1],
      ["nms", "suppress above", 0.1, 0.9, 0.05, 0.5],
    ],
    draw(f, v) {
      const kept = f.found.map((candidates) => {
        const chosen = [];
        for (const [score, ...box] of candidates)
          if (chosen.length < v.count && score >= v.threshold && area(box) > 0 && chosen.every((c) => iou(c, box) <= v.nms))
            chosen.push(box);
        return chosen;
      });
      const holds = f.truth.map((box) => box && area(box) > 0);
      const fit = kept.map((boxes, i) => (holds[i] && boxes.length ? iou(boxes[0], f.truth[i]) : 0));
      const heads = holds.filter(Boolean).length;
      const found = fit.filter((value, i) => holds[i] && value >= 0.5).length;
      const wrong = kept.filter((boxes, i) => !holds[i] && boxes.length).length;
      const here = kept[v.slice];
      const iouHere = holds[v.slice] ? `, IoU ${fit[v.slice].toFixed(2)}` : ", no head here";
      return {
        slice: v.slice,
        boxes: [...here.map((b) => [b, "good"]), ...(holds[v.slice] ? [[f.truth[v.slice], "annotation"]] : [])],
        side: kept.map((boxes, i) => [i <= v.slice ? boxes : [], holds[i] ? f.truth[i] : null]),
        text: `Slice ${v.slice}: ${here.length} box${here.length === 1 ? "" : "es"}${iouHere}. ` +
          `The whole scan: ${found} of ${heads} slices with a head found at IoU 0.5, ` +
          `boxes on ${wrong} of ${f.found.length - heads} empty slices.`,
      };
    },
  },
};

function element(parent, name, attributes, namespace) {
  const made = namespace ? document.createElementNS(namespace, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return parent.appendChild(made);
}

const SVG = "http://www.w3.org/2000/svg";

function drawing(parent, width, height) {
  return element(parent, "svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" }, SVG);
}

function outline(svg, [x0, y0, x1, y1], colour, fill = "none") {
  const place = { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
  element(svg, "rect", { ...place, stroke: colour, fill, "vector-effect": "non-scaling-stroke" }, SVG);
}

for (const holder of document.querySelectorAll(".segdet-explorer")) {
  const facts = JSON.parse(holder.querySelector("script").textContent);
  const explorer = EXPLORERS[facts.kind];
  const form = element(holder, "div", { class: "segdet-controls" });
  const stage = element(holder, "div", { class: "segdet-stage" });
  const text = element(holder, "output", { "aria-live": "polite" });
  const [dy, dx] = facts.spacing; // pixels are not square: a picture is as wide and high as its millimetres
  const room = Math.max(holder.clientWidth - 32, 160); // a telephone is narrower than the picture would be
  const scale = Math.min(380 / (facts.rows * dy), room / (facts.columns * dx));
  const plane = drawing(stage, facts.columns, facts.rows);
  plane.style.width = `${facts.columns * dx * scale}px`;
  plane.style.height = `${facts.rows * dy * scale}px`;
  const image = element(plane, "image", { width: facts.columns, preserveAspectRatio: "none", href: facts.picture }, SVG);
  image.setAttribute("height", facts.rows * facts.planes); // all slices one below the other; the view shows one
  const marks = element(plane, "g", {}, SVG);
  const values = {};
  let side = null;

  function redraw() {
    const shown = explorer.draw(facts, values);
    image.setAttribute("y", -facts.rows * (shown.slice ?? 0));
    marks.replaceChildren();
    for (const [box, kind] of shown.boxes) outline(marks, box, COLOURS[kind]);
    text.textContent = shown.text;
    if (!shown.side) return;
    side ??= drawing(stage, shown.side.length, facts.rows);
    side.style.width = `${shown.side.length * 5}px`;
    side.style.height = plane.style.height;
    side.replaceChildren();
    shown.side.forEach(([boxes, truth], z) => {
      for (const [, y0, , y1] of boxes) outline(side, [z, y0, z + 1, y1], "none", COLOURS.good);
      if (truth) outline(side, [z, truth[1], z + 1, truth[3]], COLOURS.annotation);
    });
    outline(side, [shown.slice, 0, shown.slice + 1, facts.rows], COLOURS.best);
  }

  for (const [name, title, low, high, step, start] of explorer.controls(facts)) {
    const label = element(form, "label", {});
    element(label, "span", {}).textContent = title;
    const input = element(label, "input", { type: "range", min: low, max: high, step, value: start });
    const number = element(label, "b", {});
    input.addEventListener("input", () => {
      values[name] = number.textContent = Number(input.value);
      redraw();
    });
    values[name] = number.textContent = Number(input.value);
  }
  redraw();
  holder.querySelector(".segdet-fallback").remove();
}
