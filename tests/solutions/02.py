import numpy as np


def scatter(echogenicity_db, rng):
    parts = rng.standard_normal((2, *echogenicity_db.shape))
    noise = (parts[0] + 1j * parts[1]) * np.sqrt(0.5)
    return noise * 10 ** (echogenicity_db / 20)


def attenuate(echo, attenuation, row_mm, frequency_mhz):
    loss = 2 * frequency_mhz * attenuation.cumsum(1) * row_mm / 10
    return echo * 10 ** (-loss / 20)


def grey(echo, muscle_grey, dynamic_range_db):
    level = 20 * np.log10(np.abs(echo) + 1e-30)
    value = 255 * (muscle_grey + level / dynamic_range_db)
    return value.round().clip(0, 255).astype(np.uint8)


def place(affine, index):
    return index @ affine[:3, :3].T + affine[:3, 3]
