// Two planes through the scan, with boxes, attention, annotation and prediction on them.
"use strict";
var segdetLive = segdetLive || {};

{
  const COLOURS = { annotation: "#009E73", box: "#E69F00", prediction: "#D55E00", attention: "rgba(86, 180, 233, 0.3)" };

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

  function drawSlice(live) {
    const [, rows, columns] = live.grids.detector_shape, context = live.plane.getContext("2d");
    const [w, h] = [live.plane.width / columns, live.plane.height / rows], z = live.slice;
    const index = (u, v) => (z * rows + v) * columns + u;
    drawPicture(context, live.picture, index, columns, rows);
    const [depth, high, wide] = live.grids.segmenter_shape, near = Math.floor((z * depth) / live.grids.detector_shape[0]);
    context.fillStyle = COLOURS.attention;
    for (let v = 0; v < high; v++)
      for (let u = 0; u < wide; u++)
        if (live.attention[(near * high + v) * wide + u])
          context.fillRect((u * columns * w) / wide, (v * rows * h) / high, (columns * w) / wide, (rows * h) / high);
    context.lineWidth = 2;
    if (live.truth) outline(context, live.truth, index, columns, rows, COLOURS.annotation);
    if (live.mask) outline(context, live.mask, index, columns, rows, COLOURS.prediction);
    const entry = live.boxAt(z);
    if (entry) {
      const [x0, y0, x1, y1] = entry.box;
      context.strokeStyle = context.fillStyle = COLOURS.box;
      context.setLineDash(entry.by === "line" ? [6, 5] : []);
      context.strokeRect(x0 * w, y0 * h, (x1 - x0) * w, (y1 - y0) * h);
      context.setLineDash([]);
      for (const [x, y] of [[x0, y0], [x1, y0], [x0, y1], [x1, y1]]) context.fillRect(x * w - 4, y * h - 4, 8, 8);
    }
    context.fillStyle = "#fff";
    context.fillRect(10, live.plane.height - 12, (5 * w) / live.spacing[2], 3);
    context.font = "12px sans-serif";
    context.fillText("5 mm", 10, live.plane.height - 17);
    live.label.textContent = `slice ${z}`;
  }

  // The plane across all slices, through the middle of the box; a line a slice shows how high its box is.
  function drawSweep(live) {
    const [depth, rows, columns] = live.grids.detector_shape, context = live.sweep.getContext("2d");
    const [w, h] = [live.sweep.width / depth, live.sweep.height / rows];
    const box = live.boxAt(live.slice)?.box, x = box ? Math.min(Math.floor((box[0] + box[2]) / 2), columns - 1) : columns >> 1;
    const index = (u, v) => (u * rows + v) * columns + x;
    drawPicture(context, live.picture, index, depth, rows);
    context.lineWidth = 2;
    if (live.truth) outline(context, live.truth, index, depth, rows, COLOURS.annotation);
    if (live.mask) outline(context, live.mask, index, depth, rows, COLOURS.prediction);
    for (let z = 0; z < depth; z++) {
      const entry = live.boxAt(z);
      if (!entry) continue;
      context.fillStyle = COLOURS.box;
      context.globalAlpha = entry.by === "line" ? 0.4 : 1;
      context.fillRect((z + 0.4) * w, entry.box[1] * h, 0.2 * w, (entry.box[3] - entry.box[1]) * h);
    }
    context.globalAlpha = 1;
    context.strokeStyle = "#fff";
    context.strokeRect(live.slice * w, 1, w, live.sweep.height - 2);
  }

  Object.assign(segdetLive, { COLOURS, drawSlice, drawSweep });
}
