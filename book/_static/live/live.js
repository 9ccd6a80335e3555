// The network in the page (book/_tools/live.py writes what is loaded on the click): boxes in, a mask out.
"use strict";
var segdetLive = segdetLive || {};
segdetLive.data = {}; // what the loaded scripts leave here, by name

{
  const HERE = document.currentScript.src.replace(/[^/]*$/, "");
  const COLOURS = { annotation: "#009E73", box: "#E69F00", prediction: "#D55E00", attention: "rgba(86, 180, 233, 0.3)" };
  const RGB = { annotation: [0, 158, 115], prediction: [213, 94, 0] };
  const HEIGHT = 380; // of a slice, in pixels of the page
  const PAUSE = 120; // between the last change and the answer, in ms
  const GRIP = 14; // how near to a corner a pointer takes hold of it, in pixels of the page

  function element(parent, name, attributes = {}, text = "") {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return parent.appendChild(made);
  }

  // A page on a disk may fetch nothing, but it may load scripts.
  const load = (name) =>
    new Promise((resolve, reject) => {
      if (name in segdetLive.data) return resolve(segdetLive.data[name]);
      const script = element(document.head, "script", { src: `${HERE}${name}.js` });
      script.onload = () => resolve(segdetLive.data[name]);
      script.onerror = () => reject(new Error(`${name}.js is not there: this copy of the book was built without npm`));
    });

  async function unpacked(text) {
    const zipped = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // ONNX Runtime in one thread of WebAssembly: a function from image and attention to probability.
  async function openNetwork() {
    const [runtime, network] = await Promise.all([load("runtime"), load("network")]);
    const ort = await import(URL.createObjectURL(new Blob([runtime.module], { type: "text/javascript" })));
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await unpacked(runtime.wasm);
    const session = await ort.InferenceSession.create(await unpacked(network.model));
    return async (image, attention) => {
      const input = new Float32Array([...image, ...attention]);
      const { logits } = await session.run({ image: new ort.Tensor("float32", input, [1, 2, ...network.grids.segmenter_shape]) });
      return segdetLive.probability(logits.data);
    };
  }

  // The edges between voxels that are 1 and voxels that are 0, of a plane whose voxel (u, v) is mask[index(u, v)].
  function outline(context, mask, index, columns, rows, colour) {
    const [w, h] = [context.canvas.width / columns, context.canvas.height / rows];
    const at = (u, v) => u >= 0 && v >= 0 && u < columns && v < rows && mask[index(u, v)] === 1;
    context.beginPath();
    for (let v = 0; v <= rows; v++)
      for (let u = 0; u <= columns; u++) {
        if (at(u, v) !== at(u - 1, v)) (context.moveTo(u * w, v * h), context.lineTo(u * w, (v + 1) * h));
        if (at(u, v) !== at(u, v - 1)) (context.moveTo(u * w, v * h), context.lineTo((u + 1) * w, v * h));
      }
    context.strokeStyle = colour;
    context.stroke();
  }

  function drawPicture(context, picture, index, columns, rows) {
    const image = new ImageData(columns, rows), small = new OffscreenCanvas(columns, rows);
    for (let v = 0; v < rows; v++)
      for (let u = 0; u < columns; u++) {
        const value = picture[index(u, v)];
        image.data.set([value, value, value, 255], 4 * (v * columns + u));
      }
    small.getContext("2d").putImageData(image, 0, 0);
    context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
  }

  class Live {
    constructor(holder, network, grids) {
      Object.assign(this, { holder, network, grids, attended: "on", level: 0.5, turn: 0.6, tilt: 0.4 });
      this.clear();
      this.spacing = segdetLive.spacingOf(grids, grids.detector_shape);
      this.slice = grids.detector_shape[0] >> 1;
      this.build();
    }

    // --- the boxes

    // Boxes by hand: {slice: box}, null where the detector's was taken away.
    clear() {
      Object.assign(this, { painted: new Map(), useDetector: false });
    }

    // The box of a slice, {box, by}: painted by hand, the detector's, or on a straight line between two painted ones.
    boxAt(z) {
      const own = this.painted.get(z), detected = this.useDetector && this.scan.detected?.[z];
      if (own) return { box: own, by: "hand" };
      if (own === null) return null;
      if (detected) return { box: detected, by: "detector" };
      const slices = [...this.painted.keys()].filter((number) => this.painted.get(number));
      const below = Math.max(...slices.filter((number) => number < z));
      const above = Math.min(...slices.filter((number) => number > z));
      if (!Number.isFinite(below) || !Number.isFinite(above)) return null;
      const share = (z - below) / (above - below), [a, b] = [this.painted.get(below), this.painted.get(above)];
      return { box: a.map((edge, i) => edge * (1 - share) + b[i] * share), by: "line" };
    }

    entries() {
      return Array.from({ length: this.grids.detector_shape[0] }, (_, z) => this.boxAt(z));
    }

    // Paint a box on the slice that is shown, kept inside the picture.
    paint([x0, y0, x1, y1]) {
      const [, rows, columns] = this.grids.detector_shape, clip = (value, most) => Math.min(Math.max(value, 0), most);
      const box = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
      this.painted.set(this.slice, box.map((edge, i) => clip(edge, i % 2 ? rows : columns)));
    }

    remove() {
      if (this.boxAt(this.slice)?.by === "detector") this.painted.set(this.slice, null);
      else this.painted.delete(this.slice);
      this.changed();
    }

    // --- scans

    async showHip() {
      const hip = await load(`hip-${this.contrast.value}-${this.lookAlikes.value}`);
      const scan = { voxels: await unpacked(hip.voxels), shape: hip.shape, spacing: hip.spacing, detected: hip.detected };
      await this.show(scan, await unpacked(hip.mask));
    }

    async showFile(file) {
      try {
        const scan = await segdetLive.readNifti(file, this.grids.orientation);
        this.clear();
        await this.show(scan, null);
      } catch (error) {
        this.say(error.message);
      }
    }

    show(scan, truth) {
      Object.assign(this, { scan, truth, ...segdetLive.inputs(scan, this.grids), soFar: new Map() });
      this.detected.disabled = !scan.detected;
      return this.answer();
    }

    // --- the answer

    // Show a change at once, and run the network when no other follows for a moment: a key may be held.
    changed() {
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => ((this.waiting = null), this.answer()), PAUSE);
      this.drawSlice();
      this.drawSweep();
    }

    // Run the network on what is painted now. Called while it runs, it runs once more afterwards.
    async answer() {
      if (this.running) return void (this.again = true);
      this.running = true;
      do {
        this.again = false;
        const boxes = this.entries().map((entry) => entry?.box), painted = segdetLive.attention(boxes, this.grids);
        const moved = segdetLive.misplaced(painted, this.grids.segmenter_shape);
        this.attention = { on: painted, off: painted.map(() => 0), misplaced: moved }[this.attended];
        this.draw();
        const started = performance.now();
        this.probability = await this.network(this.image, this.attention);
        this.seconds = (performance.now() - started) / 1000;
      } while (this.again);
      this.running = false;
      this.enlarged = segdetLive.enlarged(this.probability, this.grids);
      this.report();
    }

    report() {
      this.mask = Uint8Array.from(this.enlarged, (value) => value >= this.level);
      const result = (this.result = segdetLive.scores(this.mask, this.truth ?? this.mask, this.spacing));
      const entries = this.entries(), count = (by) => entries.filter((entry) => entry?.by === by).length;
      const [painted, detected, reach] = [count("hand"), count("detector"), entries.filter(Boolean).length];
      let text = `${painted} slice${painted === 1 ? "" : "s"} painted${detected ? `, ${detected} with a box of the detector` : ""}; ` +
        `boxes reach over ${reach} of ${entries.length} slices. `;
      if (this.truth) {
        if (this.attended === "on" && !detected) this.soFar.set(painted, result.iou.toFixed(2));
        const soFar = [...this.soFar].sort((a, b) => a[0] - b[0]).map(([number, iou]) => `${number}: ${iou}`).join(", ");
        text += `IoU ${result.iou.toFixed(3)}, Dice ${result.dice.toFixed(3)}; ` +
          `${result.millilitres.toFixed(2)} ml, annotated ${result.annotated.toFixed(2)} ml. ` +
          (this.soFar.size > 1 ? `IoU by painted slices so far: ${soFar}. ` : "");
      } else text += `Mask ${result.millilitres.toFixed(2)} ml; no annotation to compare with. `;
      this.say(`${text}Answered in ${this.seconds.toFixed(2)} s.`);
      this.draw();
    }

    say(text) {
      this.text.textContent = text;
    }

    // --- pictures

    draw() {
      this.drawSlice();
      this.drawSweep();
      this.drawSurface();
    }

    drawSlice() {
      const [, rows, columns] = this.grids.detector_shape, context = this.plane.getContext("2d");
      const [w, h] = [this.plane.width / columns, this.plane.height / rows], z = this.slice;
      const index = (u, v) => (z * rows + v) * columns + u;
      drawPicture(context, this.picture, index, columns, rows);
      const [depth, high, wide] = this.grids.segmenter_shape, near = Math.floor((z * depth) / this.grids.detector_shape[0]);
      context.fillStyle = COLOURS.attention;
      for (let v = 0; v < high; v++)
        for (let u = 0; u < wide; u++)
          if (this.attention[(near * high + v) * wide + u])
            context.fillRect((u * columns * w) / wide, (v * rows * h) / high, (columns * w) / wide, (rows * h) / high);
      context.lineWidth = 2;
      if (this.truth) outline(context, this.truth, index, columns, rows, COLOURS.annotation);
      if (this.mask) outline(context, this.mask, index, columns, rows, COLOURS.prediction);
      const entry = this.boxAt(z);
      if (entry) {
        const [x0, y0, x1, y1] = entry.box;
        context.strokeStyle = context.fillStyle = COLOURS.box;
        context.setLineDash(entry.by === "line" ? [6, 5] : []);
        context.strokeRect(x0 * w, y0 * h, (x1 - x0) * w, (y1 - y0) * h);
        context.setLineDash([]);
        for (const [x, y] of [[x0, y0], [x1, y0], [x0, y1], [x1, y1]]) context.fillRect(x * w - 4, y * h - 4, 8, 8);
      }
      context.fillStyle = "#fff";
      context.fillRect(10, this.plane.height - 12, (5 * w) / this.spacing[2], 3);
      context.font = "12px sans-serif";
      context.fillText("5 mm", 10, this.plane.height - 17);
      this.label.textContent = `slice ${z}`;
    }

    // The plane across all slices, through the middle of the box; a line a slice shows how high its box is.
    drawSweep() {
      const [depth, rows, columns] = this.grids.detector_shape, context = this.sweep.getContext("2d");
      const [w, h] = [this.sweep.width / depth, this.sweep.height / rows];
      const box = this.boxAt(this.slice)?.box, x = box ? Math.min(Math.floor((box[0] + box[2]) / 2), columns - 1) : columns >> 1;
      const index = (u, v) => (u * rows + v) * columns + x;
      drawPicture(context, this.picture, index, depth, rows);
      context.lineWidth = 2;
      if (this.truth) outline(context, this.truth, index, depth, rows, COLOURS.annotation);
      if (this.mask) outline(context, this.mask, index, depth, rows, COLOURS.prediction);
      for (let z = 0; z < depth; z++) {
        const entry = this.boxAt(z);
        if (!entry) continue;
        context.fillStyle = COLOURS.box;
        context.globalAlpha = entry.by === "line" ? 0.4 : 1;
        context.fillRect((z + 0.4) * w, entry.box[1] * h, 0.2 * w, (entry.box[3] - entry.box[1]) * h);
      }
      context.globalAlpha = 1;
      context.strokeStyle = "#fff";
      context.strokeRect(this.slice * w, 1, w, this.sweep.height - 2);
    }

    drawSurface() {
      if (!this.mask) return;
      const shape = this.grids.segmenter_shape, spacing = segdetLive.spacingOf(this.grids, shape), surfaces = [];
      if (this.truth && this.truth !== this.shared?.truth) {
        const scale = shape.map((count, axis) => this.grids.detector_shape[axis] / count);
        this.shared = { truth: this.truth, volume: segdetLive.resample(this.truth, this.grids.detector_shape, shape, scale) };
      }
      if (this.truth) surfaces.push(segdetLive.surface(this.shared.volume, shape, 0.5, RGB.annotation));
      surfaces.push(segdetLive.surface(this.probability, shape, this.level, RGB.prediction));
      segdetLive.drawSurfaces(this.space, surfaces, shape, spacing, this.turn, this.tilt);
    }

    // --- what the reader does

    build() {
      const [depth, rows, columns] = this.grids.detector_shape, [dz, dy, dx] = this.spacing;
      const form = element(this.holder, "div", { class: "segdet-live-controls" });
      this.contrast = this.select(form, "contrast of the head", [["9", "9 dB"], ["6", "6 dB, as trained"], ["3", "3 dB"]], "6", () => this.showHip());
      this.lookAlikes = this.select(form, "look-alikes", [["0", "none"], ["16", "16"]], "16", () => this.showHip());
      const ways = [["on", "the boxes"], ["off", "none"], ["misplaced", "in the wrong place"]];
      this.select(form, "attention", ways, "on", (value) => ((this.attended = value), this.answer()));
      this.range(form, "threshold", 0.05, 0.95, 0.05, 0.5, (value) => ((this.level = value), this.soFar.clear(), this.report()));
      this.position = this.range(form, "slice", 0, depth - 1, 1, this.slice, (value) => this.goTo(value));
      const buttons = element(this.holder, "div", { class: "segdet-live-buttons" });
      this.detected = this.button(buttons, "The detector's boxes", () => ((this.useDetector = true), this.answer()));
      this.button(buttons, "Remove this box", () => this.remove());
      this.button(buttons, "Remove all boxes", () => (this.clear(), this.answer()));
      this.button(buttons, "The simulated hip", () => this.showHip());
      const own = element(element(buttons, "label", {}, "Your own scan (NIfTI): "), "input", { type: "file", accept: ".nii,.gz" });
      own.addEventListener("change", () => own.files[0] && this.showFile(own.files[0]));
      const stage = element(this.holder, "div", { class: "segdet-live-stage" });
      const help = "Drag to paint a box, drag it to move it or a corner to resize it. Keys: Enter paints, arrows move, with Shift they resize, Page Up and Page Down change the slice, Delete removes.";
      [this.plane, this.label] = this.figure(stage, HEIGHT * ((columns * dx) / (rows * dy)), HEIGHT, `The slice. ${help}`);
      const side = element(stage, "div", { class: "segdet-live-side" });
      [this.sweep] = this.figure(side, 0.6 * HEIGHT * ((depth * dz) / (rows * dy)), 0.6 * HEIGHT, "All slices from the side. Click to go to a slice.", "along the sweep");
      [this.space] = this.figure(side, 0.4 * HEIGHT, 0.4 * HEIGHT, "The surface. Drag or use the arrow keys to turn it.", "in space");
      this.space.classList.add("segdet-live-space"); // drawn with fewer pixels than it is shown with
      this.text = element(this.holder, "output", { "aria-live": "polite" });
      const legend = element(this.holder, "p", { class: "segdet-live-legend" });
      for (const [name, text] of [["box", "boxes"], ["prediction", "prediction"], ["annotation", "annotation"], ["attention", "attention"]])
        element(legend, "span", { style: `--mark: ${COLOURS[name]}` }, text);
      element(this.holder, "p", { class: "segdet-live-help" }, help);
      this.listen();
    }

    select(form, title, options, chosen, changed) {
      const input = element(element(form, "label", {}, title), "select");
      for (const [value, text] of options) element(input, "option", { value }, text).selected = value === chosen;
      input.addEventListener("change", () => changed(input.value));
      return input;
    }

    range(form, title, min, max, step, value, changed) {
      const input = element(element(form, "label", {}, title), "input", { type: "range", min, max, step, value });
      input.addEventListener("input", () => changed(Number(input.value)));
      return input;
    }

    button(parent, title, pressed) {
      const button = element(parent, "button", { type: "button" }, title);
      button.addEventListener("click", pressed);
      return button;
    }

    figure(stage, width, height, title, text = "") {
      const figure = element(stage, "figure");
      const attributes = { width: Math.round(width), height: Math.round(height), tabindex: 0, role: "application", "aria-label": title };
      return [element(figure, "canvas", attributes), element(figure, "figcaption", {}, text)];
    }

    goTo(slice) {
      this.slice = Math.min(Math.max(slice, 0), this.grids.detector_shape[0] - 1);
      this.position.value = this.slice;
      this.drawSlice();
      this.drawSweep();
    }

    listen() {
      this.plane.addEventListener("keydown", (event) => this.key(event));
      const [depth, rows, columns] = this.grids.detector_shape;
      dragging(this.plane, (start, point, far, done) => {
        const at = ([u, v]) => [u * columns, v * rows];
        if (!far) return;
        this.hold ??= this.grip(start);
        (this.hold(at(start), at(point)), this.drawSlice());
        if (done) ((this.hold = null), this.changed());
      });
      dragging(this.sweep, (start, point) => this.goTo(Math.floor(point[0] * depth)));
      let from = null;
      dragging(this.space, (start, point, far, done) => {
        from ??= [this.turn, this.tilt];
        [this.turn, this.tilt] = [from[0] + 4 * (point[0] - start[0]), from[1] + 4 * (point[1] - start[1])];
        if (done) from = null;
        this.drawSurface();
      });
      this.space.addEventListener("keydown", (event) => {
        const by = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, -0.2], ArrowDown: [0, 0.2] }[event.key];
        if (!by) return;
        event.preventDefault();
        ((this.turn += by[0]), (this.tilt += by[1]), this.drawSurface());
      });
    }

    // What a pointer at this place takes hold of: a corner of the box, the box, or the first corner of a new one.
    grip([u, v]) {
      const [, rows, columns] = this.grids.detector_shape, found = this.boxAt(this.slice)?.box;
      const { width, height } = this.plane.getBoundingClientRect();
      const near = (edge, place, size) => Math.abs(edge - place) * size < GRIP;
      if (found) {
        const [x0, y0, x1, y1] = [found[0] / columns, found[1] / rows, found[2] / columns, found[3] / rows];
        const side = near(x0, u, width) ? 0 : near(x1, u, width) ? 2 : null, end = near(y0, v, height) ? 1 : near(y1, v, height) ? 3 : null;
        if (side !== null && end !== null)
          return (_, [x, y]) => this.paint(found.map((edge, i) => (i === side ? x : i === end ? y : edge)));
        if (u > x0 && u < x1 && v > y0 && v < y1)
          return (from, [x, y]) => this.paint(this.inside(found, x - from[0], y - from[1]));
      }
      return (from, [x, y]) => Math.hypot(x - from[0], y - from[1]) > 2 && this.paint([...from, x, y]);
    }

    // A box moved, but not out of the picture.
    inside([x0, y0, x1, y1], x, y) {
      const [, rows, columns] = this.grids.detector_shape, most = (move, low, high, size) => Math.min(Math.max(move, -low), size - high);
      const [dx, dy] = [most(x, x0, x1, columns), most(y, y0, y1, rows)];
      return [x0 + dx, y0 + dy, x1 + dx, y1 + dy];
    }

    key(event) {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -2], ArrowDown: [0, 2] }[event.key];
      const [, rows, columns] = this.grids.detector_shape, box = this.boxAt(this.slice)?.box;
      if (event.key === "PageUp" || event.key === "PageDown") this.goTo(this.slice + (event.key === "PageUp" ? -1 : 1));
      else if (event.key === "Delete" || event.key === "Backspace") this.remove();
      else if (event.key === "Enter") {
        const last = [...this.painted.values()].filter(Boolean).at(-1); // else a third of the picture, in its middle
        (this.paint(box ?? last ?? [columns / 3, rows / 3, (2 * columns) / 3, (2 * rows) / 3]), this.changed());
      } else if (by && box) {
        const [x0, y0, x1, y1] = box, [dx, dy] = by;
        const sized = [x0, y0, Math.max(x1 + dx, x0 + 1), Math.max(y1 + dy, y0 + 1)];
        (this.paint(event.shiftKey ? sized : this.inside(box, dx, dy)), this.changed());
      } else if (!by) return;
      event.preventDefault();
    }
  }

  // Call moved(start, point, far, done) while a pointer drags, places as shares of the canvas; far: it left its place.
  function dragging(canvas, moved) {
    let start = null, far = false;
    const place = (event) => {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      return [(event.clientX - left) / width, (event.clientY - top) / height];
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      ((start = place(event)), (far = false), canvas.focus({ preventScroll: true }));
      moved(start, start, far, false);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (start) ((far = true), moved(start, place(event), far, false));
    });
    for (const end of ["pointerup", "pointercancel"])
      canvas.addEventListener(end, (event) => {
        if (start) (moved(start, place(event), far, true), (start = null));
      });
  }

  async function begin(holder, button) {
    button.disabled = true;
    button.textContent = "Loading …";
    try {
      const network = await openNetwork();
      const live = new Live(holder, network, segdetLive.data.network.grids);
      await live.showHip();
      holder.live = live;
      button.remove();
    } catch (error) {
      button.replaceWith(Object.assign(document.createElement("p"), { textContent: error.message }));
    }
  }

  for (const holder of document.querySelectorAll(".segdet-live")) {
    const button = element(holder, "button", { type: "button", class: "segdet-live-start" }, "Load the network and a hip (7 MB)");
    button.addEventListener("click", () => begin(holder, button));
  }
}
