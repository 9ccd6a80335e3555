"""Segmentation-by-Detection: the thin library behind the book.

The names below are what other programs rely on; each is imported when it is first used, so that
``import segdet`` stays quick.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "Volume": "volume",
    "load_volume": "io.files",
    "save_mask": "io.files",
    "make_phantom": "phantom.make",
    "AnchorGrid": "anchors",
    "RPN": "rpn",
    "UNet3D": "unet3d",
    "boxes_to_mask": "attention",
    "Cascade": "cascade",
    "SegdetError": "errors",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module 'segdet' has no attribute {name!r}")
