// The surface of a volume seen from a side: a ray through every pixel, shaded where it first meets the level.
"use strict";
var segdetLive = segdetLive || {};

{
  const STEP = 0.8; // mm along a ray

  // The value at a place in voxels (trilinear), 0 outside; written out, for a picture asks a million times.
  function sampler(volume, [depth, rows, columns]) {
    const plane = rows * columns;
    return (z, y, x) => {
      const k = Math.floor(z), j = Math.floor(y), i = Math.floor(x);
      if (k < 0 || j < 0 || i < 0 || k + 1 >= depth || j + 1 >= rows || i + 1 >= columns) return 0;
      const c = z - k, b = y - j, a = x - i, n = k * plane + j * columns + i, m = n + plane, v = volume;
      const near = (v[n] * (1 - a) + v[n + 1] * a) * (1 - b) + (v[n + columns] * (1 - a) + v[n + columns + 1] * a) * b;
      const next = (v[m] * (1 - a) + v[m + 1] * a) * (1 - b) + (v[m + columns] * (1 - a) + v[m + columns + 1] * a) * b;
      return near * (1 - c) + next * c;
    };
  }

  // A sphere in mm, {centre, radius}, around the voxels at or above their level; null without any.
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
    const radius = 0.75 * Math.hypot(...high.map((h, i) => (h - low[i]) / 2)); // what is round fits
    return Number.isFinite(radius) ? { centre: high.map((h, i) => (h + low[i]) / 2), radius } : null;
  }

  // Draw surfaces of one grid into a square canvas; where several lie on a ray, the nearest is seen.
  function drawSurfaces(canvas, surfaces, shape, spacing, turn, tilt) {
    const size = canvas.width, context = canvas.getContext("2d"), picture = context.createImageData(size, size);
    const ball = sphere(surfaces, shape, spacing);
    const [ct, st, ci, si] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
    // the picture's right, down and away as (slice, row, column); seen from the side of high slice numbers at rest
    const right = [st, 0, ct], down = [-ct * si, ci, st * si], away = [-ct * ci, -si, st * ci];
    const [dz, dy, dx] = away.map((direction, i) => direction / spacing[i]);
    for (let pixel = 0; ball && pixel < size * size; pixel++) {
      const a = (((pixel % size) + 0.5) / size - 0.5) * 2 * ball.radius;
      const b = ((Math.floor(pixel / size) + 0.5) / size - 0.5) * 2 * ball.radius;
      const far = Math.sqrt(Math.max(ball.radius ** 2 - a * a - b * b, 0));
      const [z, y, x] = ball.centre.map((c, i) => (c + right[i] * a + down[i] * b) / spacing[i]);
      let nearest = far, seen = null;
      for (const surface of surfaces) {
        const inside = (t) => surface.value(z + dz * t, y + dy * t, x + dx * t) >= surface.level;
        let t = -far;
        while (t < nearest && !inside(t)) t += STEP;
        if (t >= nearest + STEP || !inside(t)) continue;
        for (let back = STEP / 2; back > 0.02; back /= 2) t += inside(t) ? -back : back;
        if (t < nearest) [nearest, seen] = [t, surface];
      }
      if (!seen) continue;
      const shade = brightness(seen.value, [z + dz * nearest, y + dy * nearest, x + dx * nearest], spacing, away, down);
      picture.data.set([...seen.colour.map((part) => shade * part), 255], 4 * pixel);
    }
    context.putImageData(picture, 0, 0);
  }

  // Light from the eye and from above, on a surface whose normal is the slope of the volume.
  function brightness(value, [z, y, x], spacing, away, down) {
    const h = 0.7; // voxels
    const inward = [
      (value(z + h, y, x) - value(z - h, y, x)) / spacing[0],
      (value(z, y + h, x) - value(z, y - h, x)) / spacing[1],
      (value(z, y, x + h) - value(z, y, x - h)) / spacing[2],
    ];
    const length = Math.hypot(...inward) || 1;
    const facing = (light) => Math.max(inward.reduce((sum, part, i) => sum + part * light[i], 0) / length, 0);
    return 0.35 + 0.6 * facing(away) + 0.25 * facing(down);
  }

  segdetLive.surface = (volume, shape, level, colour) => ({ value: sampler(volume, shape), volume, level, colour });
  segdetLive.drawSurfaces = drawSurfaces;
}
