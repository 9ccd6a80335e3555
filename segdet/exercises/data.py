"""The data (chapter 02): from scatterers to a picture, and from a voxel to a place."""

import math

import numpy as np

from .exercise import FIRST, FURTHER, Check, exercise


def _scatter():
    db = np.zeros((20, 100, 100))
    half = db.copy()
    half[10:] = 20.0

    def rng():
        return np.random.default_rng(0)

    def power(echo):
        return float(np.mean(np.abs(echo) ** 2))

    yield Check("it is complex, and has the shape of the tissue", (db, rng()), (True, db.shape), _kind)
    yield Check("the mean power of muscle, 0 dB, is 1", (db, rng()), 1.0, power, 0.02)
    yield Check("20 dB are a hundred times the power", (half, rng()), 100.0, lambda e: power(e[10:]), 0.02)
    yield Check("muscle beside it keeps its power", (half, rng()), 1.0, lambda e: power(e[:10]), 0.02)
    yield Check(
        "real and imaginary part have half the power each",
        (db, rng()),
        (0.5, 0.5),
        lambda e: (float(np.mean(e.real**2)), float(np.mean(e.imag**2))),
        0.02,
    )
    snr = math.sqrt(math.pi / (4 - math.pi))
    yield Check(
        "speckle: mean over deviation of the envelope is 1.91",
        (db, rng()),
        snr,
        lambda e: float(np.abs(e).mean() / np.abs(e).std()),
        0.01,
    )


def _kind(echo):
    return bool(np.iscomplexobj(echo)), np.shape(echo)


@exercise(
    FURTHER,
    _scatter,
    "A circular complex Gaussian number has two independent normal parts with the same deviation.",
    "The mean power is the sum of both variances, so each part has half of it: a deviation of the root of 1/2.",
    "Decibels are of power. The echo is an amplitude: multiply by 10 ** (dB / 20).",
)
def scatter(echogenicity_db, rng):
    """Scatterers: circular complex Gaussian noise with the tissue's mean power.

    Parameters
    ----------
    echogenicity_db : ndarray, (D, H, W)
        Power in dB relative to muscle.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of complex, (D, H, W)
        Mean power 10 ** (echogenicity_db / 10).
    """


def _attenuate():
    echo = np.ones((1, 4, 2), complex)
    muscle = np.ones((1, 4, 2))
    muscle[..., 1] = 0.0
    # 10 MHz, rows of 5 mm = 0.5 cm: a row of 1 dB/cm/MHz costs 2 x 10 x 0.5 = 10 dB, there and back
    lost = np.array([10.0, 20.0, 30.0, 40.0])
    by_hand = np.ones((1, 4, 2), complex)
    by_hand[0, :, 0] = 10 ** (-lost / 20)
    yield Check(
        "1 dB/cm/MHz at 10 MHz: 10 dB a row of 5 mm, beside a column of water", (echo, muscle, 5.0, 10.0), by_hand
    )
    layered = np.zeros((1, 3, 1))
    layered[0, 1] = 2.0
    shadow = np.array([1, 10**-1.0, 10**-1.0])[None, :, None] * (1 + 1j)
    yield Check("one layer weakens itself and all below it", (np.full((1, 3, 1), 1 + 1j), layered, 5.0, 10.0), shadow)
    yield Check("twice the frequency, twice the decibels", (echo, muscle, 5.0, 20.0), np.where(muscle, by_hand**2, 1.0))


@exercise(
    FURTHER,
    _attenuate,
    "Add the losses up along the rows: an echo has lost what lies above it and in its own row.",
    "The pulse goes there and back, and attenuation is per cm while the rows are in mm.",
    "Decibels of power, but the echo is an amplitude: multiply by 10 ** (-loss / 20).",
)
def attenuate(echo, attenuation, row_mm, frequency_mhz):
    """What is left of each echo after the way in and the way out.

    Parameters
    ----------
    echo : ndarray of complex, (D, H, W)
        Depth is the second axis; the probe is at row 0.
    attenuation : ndarray, (D, H, W)
        In dB/cm/MHz. The loss of a row's own tissue counts in full.
    row_mm, frequency_mhz : float

    Returns
    -------
    ndarray of complex, (D, H, W)
    """


def _grey():
    def echo(*amplitudes):
        return np.array(amplitudes, complex)[None, None]

    def grey(*values):
        return np.array(values, np.uint8)[None, None]

    yield Check("muscle: 255 x 0.4 = 102", (echo(1), 0.4, 60.0), grey(102))
    yield Check("ten times the amplitude is 20 dB, a third of 60", (echo(10, 0.1), 0.4, 60.0), grey(187, 17))
    yield Check("only the modulus counts", (echo(1j, -1, 0.6 - 0.8j), 0.4, 60.0), grey(102, 102, 102))
    yield Check("what is too bright or too dark is cut off", (echo(1e4, 1e-4), 0.4, 60.0), grey(255, 0))
    yield Check("no echo at all is black", (echo(0, 1), 0.4, 60.0), grey(0, 102))


@exercise(
    FIRST,
    _grey,
    "The level in dB is 20 log10 of the modulus.",
    "Cut off at 0 and 255 before the numbers become uint8: a uint8 of 300 is 44.",
    "The logarithm of 0 is minus infinity. Add a tiny number first.",
)
def grey(echo, muscle_grey, dynamic_range_db):
    """Envelope, log compression, and the cut to 256 grey values, without gain and without noise.

    Parameters
    ----------
    echo : ndarray of complex, (D, H, W)
        Modulus 1 in muscle.
    muscle_grey : float
        The level of muscle as a share of the grey scale.
    dynamic_range_db : float
        Decibels from black to white.

    Returns
    -------
    ndarray of uint8, (D, H, W)
        Rounded to the nearest.
    """


def _place():
    # slices 0.26 mm apart along y, rows 0.22 mm along z, columns 0.40 mm along x; voxel 0 lies at (1, 2, 3)
    affine = np.array([[0, 0, 0.40, 1], [0.26, 0, 0, 2], [0, 0.22, 0, 3], [0, 0, 0, 1]])
    yield Check("voxel (0, 0, 0) lies at the last column", (affine, np.array([0, 0, 0])), np.array([1.0, 2, 3]))
    yield Check("ten slices, 100 rows, 5 columns", (affine, np.array([10, 100, 5])), np.array([3.0, 4.6, 25.0]))
    several = np.array([[0, 0, 0], [10, 100, 5], [1, 0, 0]])
    yield Check("three voxels at once", (affine, several), np.array([[1.0, 2, 3], [3, 4.6, 25], [1, 2.26, 3]]))
    turned = np.array([[0, -2.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 1.0, 5], [0, 0, 0, 1]])
    yield Check("turned by a right angle", (turned, np.array([[1, 3, 4]])), np.array([[-6.0, 2, 9]]))


@exercise(
    FIRST,
    _place,
    "Append a 1 to each index, and multiply with the matrix from the left.",
    "For rows of indices that is `index @ affine[:3, :3].T + affine[:3, 3]`; mind the transpose.",
)
def place(affine, index):
    """Where voxels lie, in mm.

    Parameters
    ----------
    affine : ndarray, (4, 4)
        Takes (slice, row, column, 1) to (x, y, z, 1).
    index : ndarray, (..., 3)
        Slice, row, column.

    Returns
    -------
    ndarray, (..., 3)
    """


EXERCISES = (grey, place, scatter, attenuate)
