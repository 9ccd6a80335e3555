// The surface of a volume seen from a side: a ray through every pixel, shaded where it first meets the level.
"use strict";
var segdetLive = segdetLive || {};

{
  // The value at a place in voxels (trilinear), 0 outside.
  function sampler(volume, [depth, rows, columns]) {
    const at = (z, y, x) =>
      z < 0 || y < 0 || x < 0 || z >= depth || y >= rows || x >= columns ? 0 : volume[(z * rows + y) * columns + x];
    const line = (z, y, x, d) => at(z, y, x) * (1 - d) + at(z, y, x + 1) * d;
    return (z, y, x) => {
      const k = Math.floor(z), j = Math.floor(y), i = Math.floor(x), dz = z - k, dy = y - j, dx = x - i;
      const near = line(k, j, i, dx) * (1 - dy) + line(k, j + 1, i, dx) * dy;
      return dz ? near * (1 - dz) + (line(k + 1, j, i, dx) * (1 - dy) + line(k + 1, j + 1, i, dx) * dy) * dz : near;
    };
  }

  // The sphere in mm, {centre, radius}, around the box of all voxels at or above their level; null without any.
  function sphere(surfaces, shape, spacing) {
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    for (const { volume, level } of surfaces)
      volume.forEach((value, index) => {
        if (value < level) return;
        const place = [Math.floor(index / shape[1] / shape[2]), Math.floor(index / shape[2]) % shape[1], index % shape[2]];
        place.forEach((p, i) => {
          low[i] = Math.min(low[i], (p - 1) * spacing[i]);
          high[i] = Math.max(high[i], (p + 1) * spacing[i]);
        });
      });
    const radius = Math.hypot(...high.map((h, i) => (h - low[i]) / 2));
    return Number.isFinite(radius) ? { centre: high.map((h, i) => (h + low[i]) / 2), radius } : null;
  }

  // Draw surfaces {volume, level, colour [r, g, b], opacity} of one grid into a square canvas, the first in front.
  function drawSurfaces(canvas, surfaces, shape, spacing, turn, tilt) {
    const size = canvas.width, context = canvas.getContext("2d"), picture = context.createImageData(size, size);
    const ball = sphere(surfaces, shape, spacing);
    const [ct, st, ci, si] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
    // the picture's right, down and away as (slice, row, column); seen from the side of high slice numbers at rest
    const right = [st, 0, ct], down = [-ct * si, ci, st * si], away = [-ct * ci, -si, st * ci];
    for (let pixel = 0; ball && pixel < size * size; pixel++) {
      const a = (((pixel % size) + 0.5) / size - 0.5) * 2 * ball.radius;
      const b = ((Math.floor(pixel / size) + 0.5) / size - 0.5) * 2 * ball.radius;
      const far = Math.sqrt(Math.max(ball.radius ** 2 - a * a - b * b, 0));
      const [z, y, x] = ball.centre.map((c, i) => (c + right[i] * a + down[i] * b) / spacing[i]);
      const [dz, dy, dx] = away.map((direction, i) => direction / spacing[i]);
      let covered = 0;
      const colour = [0, 0, 0];
      for (const { value, level, colour: own, opacity } of surfaces) {
        let t = -far;
        while (t < far && value(z + dz * t, y + dy * t, x + dx * t) < level) t += 0.8;
        if (t >= far) continue;
        for (let back = 0.4; back > 0.02; back /= 2)
          t += value(z + dz * t, y + dy * t, x + dx * t) < level ? back : -back;
        const p = z + dz * t, q = y + dy * t, r = x + dx * t, h = 0.7;
        const inward = [
          (value(p + h, q, r) - value(p - h, q, r)) / spacing[0],
          (value(p, q + h, r) - value(p, q - h, r)) / spacing[1],
          (value(p, q, r + h) - value(p, q, r - h)) / spacing[2],
        ];
        const length = Math.hypot(...inward) || 1;
        const facing = (light) => Math.max(inward.reduce((sum, part, i) => sum + part * light[i], 0) / length, 0);
        const shade = 0.3 + 0.5 * facing(away) + 0.2 * facing(down), share = (1 - covered) * opacity;
        own.forEach((part, i) => (colour[i] += share * shade * part));
        covered += share;
      }
      if (covered) picture.data.set([...colour.map((part) => part / covered), 255 * covered], 4 * pixel);
    }
    context.putImageData(picture, 0, 0);
  }

  segdetLive.surface = (volume, shape, level, colour, opacity) => ({ value: sampler(volume, shape), volume, level, colour, opacity });
  segdetLive.drawSurfaces = drawSurfaces;
}
