"""The grid that the phantom's anatomy is painted on (chapter 02)."""

import numpy as np


def smooth_field(rng, axes, length):
    """A Gaussian random field of unit deviation, smooth over `length` (mm), the same function on any grid."""
    knots = np.arange(-30.0, 60.0, length)
    result = rng.standard_normal((len(knots),) * len(axes))
    for axis in axes:
        basis = np.exp(-(((axis.ravel()[:, None] - knots) / length) ** 2))
        result = np.tensordot(result, basis / np.linalg.norm(basis, axis=1, keepdims=True), axes=(0, 1))
    return result


class Canvas:
    """The grid that the anatomy is painted on; later paint covers earlier."""

    def __init__(self, shape, fov, side, names, power):
        self.spacing = tuple(f / n for f, n in zip(fov, shape, strict=True))
        z, y, x = ((np.arange(n) + 0.5) * s for n, s in zip(shape, self.spacing, strict=True))
        x = (x - fov[2] / 2) * (1 if side == "left" else -1)  # x grows caudally; the side mirrors it
        self.z, self.y, self.x = (z - fov[0] / 2)[:, None, None], y[None, :, None], x[None, None, :]
        self.names, self.power = names, power
        self.labels = np.full(shape, names.index("muscle"), np.uint8)
        self.specular, self.offset_db = np.zeros(shape), np.zeros(shape)

    def paint(self, where, name, crop=...):
        """Make the voxels `where` (of the crop) tissue `name`."""
        self.labels[crop][np.broadcast_to(where, self.labels[crop].shape)] = self.names.index(name)

    def sheet(self, surface, amplitude):
        """A specular interface at depth `surface`, (D, 1, W), shared by the two nearest rows."""
        dz, dy, dx = self.spacing
        slope2 = np.gradient(surface, dz, axis=0) ** 2 + np.gradient(surface, dx, axis=2) ** 2
        amplitude = amplitude * (1 + slope2) ** (-self.power / 2)
        row = surface / dy - 0.5
        for shift in (0, 1):
            at = np.floor(row).astype(int) + shift
            weight = amplitude * (1 - np.abs(row - at)) * ((at >= 0) & (at < self.labels.shape[1]))
            at = np.clip(at, 0, self.labels.shape[1] - 1)
            np.put_along_axis(self.specular, at, np.take_along_axis(self.specular, at, 1) + weight, 1)

    def local(self, centre, reach):
        """The crop within `reach` mm of a point, and the offsets (dz, dy, dx) from the point there."""
        offsets, crop = [], []
        for axis, (line, middle) in enumerate(zip((self.z, self.y, self.x), centre, strict=True)):
            near = np.flatnonzero(np.abs(line.ravel() - middle) < reach)
            crop.append(slice(near[0], near[-1] + 1) if len(near) else slice(0, 0))
            offsets.append(np.take(line, near, axis) - middle)
        return tuple(crop), offsets

    def ellipsoid(self, centre, semi, axes, bumps=None):
        """The crop around an ellipsoid and its normalised radius there (1 on the surface)."""
        crop, offsets = self.local(centre, 1.4 * max(semi) + 1)
        unit = [sum(a * o for a, o in zip(row, offsets, strict=True)) / s for row, s in zip(axes, semi, strict=True)]
        rho = np.sqrt(unit[0] ** 2 + unit[1] ** 2 + unit[2] ** 2)
        if bumps is not None:
            rho = rho - sum(bumps[i, j] * unit[i] * unit[j] for i in range(3) for j in range(i, 3))
        return crop, offsets, rho

    def shell(self, crop, offsets, rho, radius, amplitude):
        """A specular closed surface, bright where the beam meets it at a right angle."""
        width = max(0.2, 0.5 * self.spacing[1])
        near = np.nonzero(np.abs(rho - 1) * radius < 3 * width)
        dz, dy, dx = (np.broadcast_to(o, rho.shape)[near] for o in offsets)
        cosine2 = dy**2 / (dz**2 + dy**2 + dx**2 + 1e-9)
        profile = np.exp(-(((rho[near] - 1) * radius / width) ** 2))
        self.specular[crop][near] += amplitude * cosine2 ** (self.power / 2) * profile
