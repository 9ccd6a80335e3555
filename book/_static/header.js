// The header tree of chapter 02: what book/_tools/header_tree.py wrote gets a voxel, its place in the patient and a drawing.
// The rules are those of segdet.io.dicom: PS3.3, C.7.6.2.1.1 for a frame, `stack_slices` for the grid of all.
const add3 = (a, b, factor = 1) => a.map((value, axis) => value + factor * b[axis]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [0, 1, 2].map((i) => a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3]);
const length = (a) => Math.sqrt(dot(a, a));

// Frames in the order of slices, and the affine or why there is none, of {spacing, across, down, positions}.
function gridOf({ spacing: [dy, dx], across, down, positions }) {
  const normal = cross(across, down), along = positions.map((place) => dot(place, normal));
  const order = positions.map((_, frame) => frame).sort((a, b) => along[a] - along[b]);
  const placed = order.map((frame) => positions[frame]), n = placed.length, first = placed[0];
  const step = add3(placed[n - 1], first, -1).map((value) => value / (n - 1)), distance = dot(step, normal);
  const off = Math.max(...placed.map((place, i) => length(add3(add3(place, first, -1), step, -i))));
  const units = Math.max(Math.abs(dot(across, across) - 1), Math.abs(dot(down, down) - 1), Math.abs(dot(across, down)));
  let refused = "";
  if (![dy, dx, ...across, ...down, ...positions.flat()].every(Number.isFinite)) refused = "a value is no number";
  else if (units > 1e-3) refused = "the image orientation is not two perpendicular units";
  else if (!(dy > 0 && dx > 0)) refused = "its pixel spacing is not usable";
  else if (new Set(placed.map((place) => place.map((value) => value.toFixed(3)).join())).size < n)
    refused = "some slice positions occur several times";
  else if (distance <= 0 || off > 0.02 * distance) refused = "the slices are not evenly spaced";
  else if (length(add3(step, normal, -distance)) > 0.01 * distance) refused = "the slices are not stacked along their normal";
  const affine = [0, 1, 2].map((axis) => [step[axis], down[axis] * dy, across[axis] * dx, first[axis]]);
  return { order, refused, affine: [...affine, [0, 0, 0, 1]] };
}

// Where a row and a column of a frame are, in mm.
function placeOf({ spacing: [dy, dx], across, down, positions }, frame, row, column) {
  return add3(add3(positions[frame], down, row * dy), across, column * dx);
}

// What the buttons change: tags by name, of positions those of a frame.
const PRESETS = {
  "Slices twice as far apart": (tags) => ({
    ...tags, positions: tags.positions.map((place) => add3(place, add3(place, tags.positions[0], -1))),
  }),
  "5 mm to the patient's left": (tags) => ({ ...tags, positions: tags.positions.map((place) => add3(place, [5, 0, 0])) }),
  "Swap the pixel spacing": (tags) => ({ ...tags, spacing: [...tags.spacing].reverse() }),
  "Move frame 2 alone": (tags) => ({
    ...tags, positions: tags.positions.map((place, frame) => (frame === 1 ? add3(place, [0, 0, 2]) : place)),
  }),
};

function make(parent, name, attributes = {}, text = "") {
  const svg = ["svg", "path", "circle", "text"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return parent.appendChild(made);
}

// From the front and a little from above: x, the patient's left, to the right, y to the back, z to the head.
const seen = ([x, y, z]) => [x + 0.5 * y, -z - 0.35 * y];
const path = (places, end = "") => `M${places.map((place) => seen(place).map((v) => v.toFixed(2)).join(" ")).join("L")}${end}`;

// The edges of a scan, each frame as wide as its pixels.
function outlineOf(tags, [, rows, columns]) {
  const corners = [[-0.5, -0.5], [-0.5, columns + 0.5], [rows + 0.5, columns + 0.5], [rows + 0.5, -0.5]];
  const planes = tags.positions.map((_, frame) => corners.map(([row, column]) => placeOf(tags, frame, row, column)));
  const edges = corners.map((_, i) => path(planes.map((plane) => plane[i])));
  return { planes, lines: [...planes.map((plane) => path(plane, "Z")), ...edges].join("") };
}

const AXES = { "x left": [10, 0, 0], "y back": [0, 10, 0], "z head": [0, 0, 10] };

function drawScan(svg, tags, file, last, frame, voxel) {
  svg.replaceChildren();
  const now = outlineOf(tags, last), before = outlineOf(file, last);
  const places = [...now.planes.flat(), ...before.planes.flat(), ...Object.values(AXES), [0, 0, 0], voxel].map(seen);
  const [low, high] = [Math.min, Math.max].map((end) => [0, 1].map((axis) => end(...places.map((place) => place[axis]))));
  svg.setAttribute("viewBox", `${low[0] - 3} ${low[1] - 3} ${high[0] - low[0] + 9} ${high[1] - low[1] + 6}`);
  const size = Math.max(high[0] - low[0], high[1] - low[1]) / 40; // of letters and the voxel, as wide as the view gets
  for (const [name, end] of Object.entries(AXES)) {
    make(svg, "path", { class: "axis", d: path([[0, 0, 0], end]) });
    const [x, y] = seen(end);
    make(svg, "text", { x: x + size / 3, y: y - size / 3, "font-size": 2.4 * size }, name);
  }
  make(svg, "path", { class: "file", d: before.lines });
  make(svg, "path", { class: "now", d: now.lines });
  make(svg, "path", { class: "slice", d: path(now.planes[frame], "Z") });
  const [cx, cy] = seen(voxel);
  make(svg, "circle", { cx, cy, r: size });
}

for (const holder of document.querySelectorAll(".segdet-header")) {
  const last = JSON.parse(holder.dataset.last);
  const stage = make(holder, "div", { class: "segdet-header-stage" });
  const view = make(stage, "div", { class: "segdet-header-view" });
  const svg = make(view, "svg", { role: "img", "aria-label": "The scan in the patient, from the front; dashed as the file has it" });
  const text = make(view, "output");
  const sliders = make(stage, "div", { class: "segdet-controls" });
  const matrix = make(stage, "pre", { tabindex: 0, role: "region", "aria-label": "Affine, mm" });
  const buttons = make(stage, "div", { class: "segdet-header-buttons" });
  const fields = (tag, frame = 0) => [...holder.querySelectorAll(`[data-tag="${tag}"][data-frame="${frame}"]`)];
  const values = (tag, frame) => fields(tag, frame).map((input) => input.valueAsNumber);
  const fill = (inputs, numbers) => inputs.forEach((input, i) => (input.value = Number(numbers[i].toFixed(4))));

  function tagsNow() {
    const orientation = values("ImageOrientationPatient");
    const positions = Array.from({ length: last[0] + 1 }, (_, frame) => values("ImagePositionPatient", frame));
    return { spacing: values("PixelSpacing"), across: orientation.slice(0, 3), down: orientation.slice(3), positions };
  }

  const voxel = ["slice", "row", "column"].map((name, axis) => {
    const label = make(sliders, "label");
    make(label, "span", {}, name);
    const input = make(label, "input", { type: "range", min: 0, max: last[axis], step: 1, value: Math.ceil(last[axis] / 2) });
    make(label, "b");
    return input;
  });
  const file = tagsNow();

  function show() {
    const tags = tagsNow(), { order, affine, refused } = gridOf(tags), [i, j, k] = voxel.map((input) => Number(input.value));
    voxel.forEach((input) => (input.nextSibling.textContent = input.value));
    for (const input of holder.querySelectorAll("input[type=number]"))
      input.classList.toggle("changed", input.value !== input.defaultValue);
    const place = placeOf(tags, order[i], j, k), mm = place.map((value) => value.toFixed(2)).join(", ");
    text.textContent = refused
      ? `segdet refuses this file: ${refused}.`
      : `Voxel (${i}, ${j}, ${k}), in frame ${order[i] + 1}, lies at (${mm}) mm.`;
    const rows = affine.map((row) => row.map((value) => value.toFixed(3).padStart(8)).join(" "));
    const titles = ["slice", "row", "column", "corner"].map((title) => title.padStart(8)).join(" ");
    matrix.textContent = refused ? "no affine" : [titles, ...rows].join("\n");
    if (place.every(Number.isFinite) && tags.positions.flat().every(Number.isFinite)) drawScan(svg, tags, file, last, order[i], place);
  }

  function setTags({ spacing, positions }) {
    fill(fields("PixelSpacing"), spacing);
    positions.forEach((place, frame) => fill(fields("ImagePositionPatient", frame), place));
    show();
  }

  for (const [name, change] of Object.entries(PRESETS))
    make(buttons, "button", { type: "button" }, name).addEventListener("click", () => setTags(change(tagsNow())));
  make(buttons, "button", { type: "button" }, "Back to the file").addEventListener("click", () => {
    for (const input of holder.querySelectorAll("input[type=number]")) input.value = input.defaultValue;
    show();
  });
  holder.addEventListener("input", show);
  show();
}
