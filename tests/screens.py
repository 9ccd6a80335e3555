"""Screens of a scanner drawn for the tests: what is on them, and how large a pixel is, is known."""

import struct

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont


def font(size, name="DejaVuSans-Bold"):
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}.ttf", size)


def speckle(rows, columns, seed=0):
    """Grey levels with the texture of ultrasound, darker below, from 8 up."""
    rng = np.random.default_rng(seed)
    noise = rng.rayleigh(1, (rows // 2 + 1, columns // 3 + 1)).repeat(2, 0).repeat(3, 1)[:rows, :columns]
    return np.clip(noise * np.linspace(70, 25, rows)[:, None], 8, 250).astype(np.uint8)


def bar(height=200, width=18):
    return np.linspace(250, 0, height).astype(np.uint8)[:, None].repeat(width, 1)


def beside(depth="5.0cm", pitch=70, count=10, seed=0):
    """A screen with ticks every 5 mm right of the image, long ones every 10 mm, and the depth at the last of them.

    The image is in rows 40 to 759 and columns 150 to 859; the first tick is one pitch below its top.
    """
    screen = np.zeros((780, 1020), np.uint8)
    screen[40:760, 150:860] = speckle(720, 710, seed)
    screen[120:320, 960:978] = bar()
    for number in range(1, count + 1):
        row = 40 + number * pitch
        screen[row - 1 : row + 2, 915 : 918 if number % 2 else 925] = 255
    image = Image.fromarray(screen)
    draw = ImageDraw.Draw(image)
    draw.text((14, 20), "Ped Hip", 255, font(22))
    for line, text in enumerate(("L12-5", "61Hz", "2D", "77%", "Dyn R 63", "P Low", "Res")):
        draw.text((14, 60 + 20 * line), text, 255, font(18))
    if depth:
        draw.text((911, 40 + count * pitch + 3), depth, 255, font(18), anchor="rt")
    return np.array(image)


def inside(pitch=44, first=1, seed=0):
    """A screen with ticks every 2.5 mm at the right edge of the image itself, and 1, 2, 3 beside those at 10 mm.

    The image is in rows 20 to 619 and columns 0 to 849; a grey bar lies over it in columns 10 to 35.
    """
    screen = np.zeros((660, 850), np.uint8)
    screen[20:620] = speckle(600, 850, seed) // 3 + 8
    screen[220:380, 10:36] = bar(160, 26)
    image = Image.fromarray(screen)
    draw = ImageDraw.Draw(image)
    for number in range(1, 13):
        row = 20 + number * pitch
        major = number % 4 == 0
        draw.rectangle((841, row - 1, 849 if major else 846, row + 1), 170)
        if major:
            draw.text((837, row - 1), f"{number // 4 + first - 1}", 170, font(17, "DejaVuSans"), anchor="rt")
    return np.array(image)


def write_tiff(path, grey, photometric):
    """One strip of uncompressed grey values; photometric 0 means that 0 is white, 1 that it is black."""
    order, (rows, columns) = grey.dtype.str[0].replace("|", "<"), grey.shape
    tags = {256: columns, 257: rows, 258: 8 * grey.itemsize, 259: 1, 262: photometric, 273: 8, 277: 1, 278: rows,
            279: grey.nbytes, 339: {"u": 1, "i": 2, "f": 3}[grey.dtype.kind]}  # fmt: skip
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + grey.nbytes)
    path.write_bytes(start + grey.tobytes() + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))
    return path
