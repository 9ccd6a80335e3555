// The network in the page (book/_tools/live.py writes what is loaded on the click): boxes in, a mask out.
"use strict";
var segdetLive = segdetLive || {};

{
  const { element, select, range, button, figure, dragging, load, unpacked, COLOURS } = segdetLive;
  const RGB = { annotation: [0, 158, 115], prediction: [213, 94, 0] };
  const HEIGHT = 380; // of a slice, in pixels of the page
  const PAUSE = 120; // between the last change and the answer, in ms
  const GRIP = 14; // how near to a corner a pointer takes hold of it, in pixels of the page

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
      Object.assign(this, { scan, truth, mask: null, ...segdetLive.inputs(scan, this.grids), soFar: new Map() });
      this.detected.disabled = !scan.detected;
      return this.answer();
    }

    // --- the answer

    // Show a change at once, and run the network when no other follows for a moment: a key may be held.
    changed() {
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => ((this.waiting = null), this.answer()), PAUSE);
      segdetLive.drawSlice(this);
      segdetLive.drawSweep(this);
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
      segdetLive.drawSlice(this);
      segdetLive.drawSweep(this);
      this.drawSurface();
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
      this.contrast = select(form, "contrast of the head", [["9", "9 dB"], ["6", "6 dB, as trained"], ["3", "3 dB"]], "6", () => this.showHip());
      this.lookAlikes = select(form, "look-alikes", [["0", "none"], ["16", "16"]], "16", () => this.showHip());
      const ways = [["on", "the boxes"], ["off", "none"], ["misplaced", "in the wrong place"]];
      select(form, "attention", ways, "on", (value) => ((this.attended = value), this.answer()));
      range(form, "threshold", 0.05, 0.95, 0.05, 0.5, (value) => ((this.level = value), this.soFar.clear(), this.report()));
      this.position = range(form, "slice", 0, depth - 1, 1, this.slice, (value) => this.goTo(value));
      const buttons = element(this.holder, "div", { class: "segdet-live-buttons" });
      this.detected = button(buttons, "The detector's boxes", () => ((this.useDetector = true), this.answer()));
      button(buttons, "Remove this box", () => this.remove());
      button(buttons, "Remove all boxes", () => (this.clear(), this.answer()));
      button(buttons, "The simulated hip", () => this.showHip());
      const own = element(element(buttons, "label", {}, "Your own scan (NIfTI): "), "input", { type: "file", accept: ".nii,.gz" });
      own.addEventListener("change", () => own.files[0] && this.showFile(own.files[0]));
      const stage = element(this.holder, "div", { class: "segdet-live-stage" });
      const help = "Drag to paint a box, drag it to move it or a corner to resize it. Keys: Enter paints, arrows move, with Shift they resize, Page Up and Page Down change the slice, Delete removes.";
      [this.plane, this.label] = figure(stage, HEIGHT * ((columns * dx) / (rows * dy)), HEIGHT, `The slice. ${help}`);
      const side = element(stage, "div", { class: "segdet-live-side" });
      [this.sweep] = figure(side, 0.6 * HEIGHT * ((depth * dz) / (rows * dy)), 0.6 * HEIGHT, "All slices from the side. Click to go to a slice.", "along the sweep");
      [this.space] = figure(side, 0.4 * HEIGHT, 0.4 * HEIGHT, "The surface. Drag or use the arrow keys to turn it.", "in space");
      this.space.classList.add("segdet-live-space"); // drawn with fewer pixels than it is shown with
      this.text = element(this.holder, "output", { "aria-live": "polite" });
      const legend = element(this.holder, "p", { class: "segdet-live-legend" });
      for (const [name, text] of [["box", "boxes"], ["prediction", "prediction"], ["annotation", "annotation"], ["attention", "attention"]])
        element(legend, "span", { style: `--mark: ${COLOURS[name]}` }, text);
      element(this.holder, "p", { class: "segdet-live-help" }, help);
      this.listen();
    }

    goTo(slice) {
      this.slice = Math.min(Math.max(slice, 0), this.grids.detector_shape[0] - 1);
      this.position.value = this.slice;
      segdetLive.drawSlice(this);
      segdetLive.drawSweep(this);
    }

    listen() {
      this.plane.addEventListener("keydown", (event) => this.key(event));
      const [depth, rows, columns] = this.grids.detector_shape;
      dragging(this.plane, (start, point, far, done) => {
        const at = ([u, v]) => [u * columns, v * rows];
        if (!far) return;
        this.hold ??= this.grip(start);
        (this.hold(at(start), at(point)), segdetLive.drawSlice(this));
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

  async function begin(holder, button) {
    button.disabled = true;
    button.textContent = "Loading …";
    try {
      const network = await segdetLive.openNetwork();
      const live = new Live(holder, network, segdetLive.data.network.grids);
      await live.showHip();
      holder.live = live;
      button.remove();
      holder.querySelector(".segdet-live-poster")?.remove();
    } catch (error) {
      button.replaceWith(Object.assign(document.createElement("p"), { textContent: error.message }));
    }
  }

  for (const holder of document.querySelectorAll(".segdet-live")) {
    const button = element(holder, "button", { type: "button", class: "segdet-live-start" }, "Load the network and a hip (7 MB)");
    button.addEventListener("click", () => begin(holder, button));
  }
}
