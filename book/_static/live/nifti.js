// A NIfTI-1 file of one volume as {voxels, shape, spacing} with its axes as the hips of the book have them.
// segdet.io.nifti reads more kinds of files, and says in notes what in a header disagrees.
"use strict";
var segdetLive = segdetLive || {};

{
  const TYPES = {
    2: ["getUint8", 1], 256: ["getInt8", 1], 4: ["getInt16", 2], 512: ["getUint16", 2], 8: ["getInt32", 4],
    768: ["getUint32", 4], 16: ["getFloat32", 4], 64: ["getFloat64", 8],
  };
  const MILLIMETRES = [1, 1000, 1, 0.001]; // unknown, m, mm, um
  const AXES = "LPSRAI"; // towards left, posterior, superior, and their opposites

  async function inflated(buffer) {
    const start = new Uint8Array(buffer);
    if (start[0] !== 0x1f || start[1] !== 0x8b) return buffer;
    const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  // The columns of index (column, row, slice) -> LPS, in the file's unit; null where the header gives no directions.
  function directions(view, little, pixdim) {
    const float = (offset) => view.getFloat32(offset, little);
    const toLps = (rows) => [0, 1, 2].map((column) => rows.map((row, axis) => (axis < 2 ? -1 : 1) * row[column]));
    if (view.getInt16(254, little) > 0)
      return toLps([280, 296, 312].map((row) => [0, 4, 8].map((column) => float(row + column))));
    if (view.getInt16(252, little) <= 0) return null;
    const [b, c, d] = [256, 260, 264].map(float), a = Math.sqrt(Math.max(1 - b * b - c * c - d * d, 0));
    const [x, y, z] = pixdim, turned = float(76) < 0 ? -z : z;
    return toLps([
      [(a * a + b * b - c * c - d * d) * x, 2 * (b * c - a * d) * y, 2 * (b * d + a * c) * turned],
      [2 * (b * c + a * d) * x, (a * a + c * c - b * b - d * d) * y, 2 * (c * d - a * b) * turned],
      [2 * (b * d - a * c) * x, 2 * (c * d + a * b) * y, (a * a + d * d - b * b - c * c) * turned],
    ]);
  }

  // Where slices, rows and columns run: of all ways to pair axes the one with the largest cosines.
  function orientation(columns) {
    const [x, y, z] = columns.map((column) => column.map((value) => value / Math.hypot(...column)));
    const axes = [z, y, x], orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    const fit = (order) => order.reduce((sum, axis, i) => sum + Math.abs(axes[i][axis]), 0);
    const best = orders.reduce((a, b) => (fit(b) > fit(a) ? b : a));
    return best.map((axis, i) => AXES[axis + 3 * (axes[i][axis] < 0)]);
  }

  // The same scan with its axes exchanged and turned round until they run as asked.
  function reoriented(scan, own, asked) {
    const axis = (letter) => AXES.indexOf(letter) % 3;
    const order = asked.map((letter) => own.findIndex((other) => axis(other) === axis(letter)));
    const steps = [scan.shape[1] * scan.shape[2], scan.shape[2], 1], shape = order.map((i) => scan.shape[i]);
    const turned = asked.map((letter, i) => own[order[i]] !== letter);
    const offsets = shape.map((count, i) =>
      Array.from({ length: count }, (_, k) => (turned[i] ? count - 1 - k : k) * steps[order[i]]));
    const voxels = new Float32Array(scan.voxels.length);
    let index = 0;
    for (const z of offsets[0])
      for (const y of offsets[1]) for (const x of offsets[2]) voxels[index++] = scan.voxels[z + y + x];
    return { voxels, shape, spacing: order.map((i) => scan.spacing[i]) };
  }

  async function readNifti(file, asked) {
    const refuse = (found) => {
      throw new Error(`${file.name}: ${found}`);
    };
    const buffer = await inflated(await file.arrayBuffer()).catch(() => refuse("its gzip stream is damaged"));
    const view = new DataView(buffer);
    const little = buffer.byteLength > 352 && view.getInt32(0, true) === 348;
    if (!little && !(buffer.byteLength > 352 && view.getInt32(0) === 348))
      refuse("not a NIfTI-1 file; convert it, or use segdet predict, which reads DICOM, NRRD and MetaImage too");
    const sizes = [1, 2, 3, 4, 5, 6, 7].map((i) => view.getInt16(40 + 2 * i, little)).slice(0, view.getInt16(40, little));
    if (sizes.length < 3 || Math.min(...sizes) < 1 || sizes.slice(3).some((count) => count > 1))
      refuse(`holds ${sizes.join(" x ")} voxels; expected one 3D scan`);
    const type = TYPES[view.getInt16(70, little)] ?? refuse("its voxels are neither integers nor floats");
    const [get, bytes] = type, shape = [sizes[2], sizes[1], sizes[0]], count = shape[0] * shape[1] * shape[2];
    const start = view.getFloat32(108, little);
    if (!(start >= 348) || start + count * bytes > buffer.byteLength) refuse("is cut off; copy it again");
    const slope = view.getFloat32(112, little), shift = view.getFloat32(116, little);
    const scaled = Number.isFinite(slope) && slope !== 0;
    const voxels = Float32Array.from({ length: count }, (_, i) => {
      const value = view[get](start + i * bytes, little);
      return scaled ? value * slope + shift : value;
    });
    if (!voxels.every(Number.isFinite)) refuse("holds voxels that are no numbers; replace NaN and infinity first");
    const pixdim = [80, 84, 88].map((offset) => Math.abs(view.getFloat32(offset, little)) || 1);
    const columns = directions(view, little, pixdim), unit = MILLIMETRES[view.getUint8(123) % 8] ?? 1;
    const lengths = columns ? columns.map((column) => Math.hypot(...column)) : pixdim;
    if (!(Math.min(...lengths) > 0)) refuse("its voxels have no size");
    const scan = { voxels, shape, spacing: lengths.reverse().map((length) => length * unit) };
    return columns && asked.length ? reoriented(scan, orientation(columns), asked) : scan;
  }

  segdetLive.readNifti = readNifti;
}
