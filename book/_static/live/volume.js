// What surrounds the network, as segdet.pipeline does it in Python: grids, normalisation, boxes, metrics.
// A volume is a typed array with its shape [slices, rows, columns]; boxes are (x0, y0, x1, y1) in pixels, half-open.
"use strict";
var segdetLive = segdetLive || {};

{
  const product = (sides) => sides.reduce((a, b) => a * b, 1);

  // Where a new voxel's centre lies in units of the old ones; the middles of both lines are aligned.
  const centre = (i, count, old, step) => (i - (count - 1) / 2) * step + (old - 1) / 2;

  // The old voxels that a new one is made of, as [first, weights]: segdet.resampling's trapezoid.
  function kernel(i, count, old, step) {
    const middle = centre(i, count, old, step), reach = (1 + Math.max(1, step)) / 2;
    const first = Math.max(Math.ceil(middle - reach), 0), last = Math.min(Math.floor(middle + reach), old - 1);
    const weights = [];
    for (let j = first; j <= last; j++) weights.push(Math.min(Math.max(reach - Math.abs(middle - j), 0), 1));
    const total = Math.max(weights.reduce((a, b) => a + b, 0), 1e-12);
    return [first, weights.map((weight) => weight / total)];
  }

  // segdet.resampling.covered, axis by axis: which new voxels have their centre in the old grid.
  const covered = (shape, target, scale) =>
    target.map((count, axis) =>
      Array.from({ length: count }, (_, i) => {
        const middle = centre(i, count, shape[axis], scale[axis]);
        return middle > -0.5 - 1e-6 && middle < shape[axis] - 0.5 + 1e-6;
      }));

  // Call visit(index, inside) for every voxel of the new grid.
  function eachVoxel(inside, visit) {
    let index = 0;
    for (const z of inside[0]) for (const y of inside[1]) for (const x of inside[2]) visit(index++, z && y && x);
  }

  // segdet.resampling.resample_array: scale is new / old spacing of every axis.
  function resample(array, shape, target, scale, fill = 0) {
    let result = Float32Array.from(array);
    const sides = [...shape];
    target.forEach((count, axis) => {
      const old = sides[axis], outer = product(sides.slice(0, axis)), inner = product(sides.slice(axis + 1));
      const next = new Float32Array(outer * count * inner);
      for (let i = 0; i < count; i++) {
        const [first, weights] = kernel(i, count, old, scale[axis]);
        for (let o = 0; o < outer; o++)
          weights.forEach((weight, k) => {
            const from = (o * old + first + k) * inner, to = (o * count + i) * inner;
            for (let j = 0; j < inner; j++) next[to + j] += weight * result[from + j];
          });
      }
      result = next;
      sides[axis] = count;
    });
    eachVoxel(covered(shape, target, scale), (index, inside) => {
      if (!inside) result[index] = fill;
    });
    return result;
  }

  // What the network sees of a scan: mean 0 and deviation 1 over the voxels inside the scan (segdet.intensities).
  function zscore(array, inside) {
    let count = 0, sum = 0, squares = 0;
    eachVoxel(inside, (index, yes) => {
      if (yes) (count++, (sum += array[index]));
    });
    const mean = sum / count;
    eachVoxel(inside, (index, yes) => {
      if (yes) squares += (array[index] - mean) ** 2;
    });
    const deviation = Math.sqrt(squares / count);
    return array.map((value) => (deviation > 0 ? (value - mean) / deviation : 0));
  }

  // What a person sees of a scan: its 0.5 and 99.5 percentiles are black and white.
  function grey(array) {
    const sorted = Float32Array.from(array).sort(), at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    const low = at(0.005), range = at(0.995) - low || 1;
    return Uint8ClampedArray.from(array, (value) => (255 * (value - low)) / range);
  }

  const spacingOf = (grids, shape) => shape.map((count, axis) => grids.extent[axis] / count);
  const ratio = (a, b) => a.map((value, axis) => value / b[axis]);

  // A scan {voxels, shape, spacing} on both grids: {picture, image}.
  function inputs(scan, grids) {
    const fill = scan.voxels.reduce((a, b) => Math.min(a, b));
    const on = (shape) => resample(scan.voxels, scan.shape, shape, ratio(spacingOf(grids, shape), scan.spacing), fill);
    const coarse = ratio(spacingOf(grids, grids.segmenter_shape), scan.spacing);
    const inside = covered(scan.shape, grids.segmenter_shape, coarse);
    return { picture: grey(on(grids.detector_shape)), image: zscore(on(grids.segmenter_shape), inside) };
  }

  // segdet.attention.painted, then Grids.attention_to_segmenter: a box or null a slice -> 0 and 1, on the coarse grid.
  function attention(boxes, grids) {
    const [, rows, columns] = grids.detector_shape;
    const mask = new Uint8Array(product(grids.detector_shape));
    boxes.forEach((box, z) => {
      if (!box) return;
      const [x0, y0, x1, y1] = box.map((edge) => Math.ceil(edge - 0.5)); // a pixel is inside when its centre is
      for (let y = Math.max(y0, 0); y < Math.min(y1, rows); y++)
        for (let x = Math.max(x0, 0); x < Math.min(x1, columns); x++) mask[(z * rows + y) * columns + x] = 1;
    });
    const scale = ratio(grids.detector_shape, grids.segmenter_shape);
    return resample(mask, grids.detector_shape, grids.segmenter_shape, scale).map((share) => (share >= 0.5 ? 1 : 0));
  }

  // The attention in a wrong place: moved by a third of every axis, around the edges.
  function misplaced(mask, [depth, rows, columns]) {
    const moved = new Float32Array(mask.length), by = [depth, rows, columns].map((side) => Math.floor(side / 3));
    for (let z = 0; z < depth; z++)
      for (let y = 0; y < rows; y++)
        for (let x = 0; x < columns; x++) {
          const to = [(z + by[0]) % depth, (y + by[1]) % rows, (x + by[2]) % columns];
          moved[(to[0] * rows + to[1]) * columns + to[2]] = mask[(z * rows + y) * columns + x];
        }
    return moved;
  }

  // Logits (2, d, h, w) -> the probability of the object, on the coarse grid.
  function probability(logits) {
    const count = logits.length / 2;
    return Float32Array.from({ length: count }, (_, i) => 1 / (1 + Math.exp(logits[i] - logits[count + i])));
  }

  // From the coarse grid to that of the pictures.
  const enlarged = (array, grids) =>
    resample(array, grids.segmenter_shape, grids.detector_shape, ratio(grids.segmenter_shape, grids.detector_shape));

  // segdet.metrics: how two masks overlap, and the volume of the first.
  function scores(mask, truth, spacing) {
    let both = 0, found = 0, held = 0;
    mask.forEach((inside, i) => {
      found += inside;
      held += truth[i];
      both += inside & truth[i];
    });
    const voxel = product(spacing) / 1000, union = found + held - both;
    const iou = union ? both / union : 1, dice = found + held ? (2 * both) / (found + held) : 1;
    return { iou, dice, millilitres: found * voxel, annotated: held * voxel };
  }

  Object.assign(segdetLive, { resample, inputs, attention, misplaced, probability, enlarged, scores, spacingOf });
}
