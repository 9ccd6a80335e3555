"""An exported cascade in ONNX Runtime or OpenVINO, without PyTorch (chapter 09)."""

import json
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np

from ..errors import CheckpointError, SegdetError
from ..pipeline import BATCH, Grids, Pipeline

SETTINGS = "exported.json"


class ExportedCascade(Pipeline):
    """What `segdet.export.onnx.export` wrote, run by another engine than PyTorch.

    Parameters
    ----------
    folder : str or Path
    engine : str
        A key of `ENGINES`: "onnx" is ONNX Runtime, "openvino" OpenVINO. Both run on the CPU in float32.
    threads : int, optional
        As many as the engine finds best by default.

    Raises
    ------
    CheckpointError
        The folder holds no export, or one that the engine cannot read.
    SegdetError
        The engine is not installed.
    """

    def __init__(self, folder, engine="onnx", threads=None):
        folder = Path(folder)
        try:
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            super().__init__(Grids.read(settings["grids"]), settings["margin"])
            detector = settings["detector"]
            self._neighbours = bool(detector and detector["neighbours"])
        except FileNotFoundError as error:
            raise CheckpointError(f"{folder}: holds no {SETTINGS}; write it with `segdet export MODEL`") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder / SETTINGS}: not what `segdet export` wrote ({error!r})") from error
        self.folder, self.detector = folder, None
        if detector:
            self.detector = open_network(folder / "detector.onnx", engine, threads)
        self.segmenter = open_network(folder / "segmenter.onnx", engine, threads)

    @property
    def neighbours(self):
        """See `Pipeline.neighbours`."""
        return self._neighbours

    def propose(self, slices):
        """See `Pipeline.propose`; a model without a detector raises SegdetError."""
        if not self.detector:
            raise SegdetError(f"{self.folder}: has no detector; give it the boxes of a person, with --boxes")
        parts = [self.detector(slices[i : i + BATCH])["boxes"] for i in range(0, len(slices), BATCH)]
        return np.concatenate(parts)

    def segment(self, image, attention, region):
        """See `Pipeline.segment`."""
        channels = np.stack([image[region], attention[region]]).astype(np.float32)
        logits = self.segmenter(channels[None])["logits"][0]
        odds = np.exp(logits - logits.max(0))
        probability = np.zeros(image.shape, np.float32)
        probability[region] = odds[1] / odds.sum(0)
        return probability


def open_network(path, engine, threads=None):
    """A function that runs a network of one input: an ndarray in, a dict of ndarrays by name of the output out.

    Raises
    ------
    CheckpointError
        The file is missing or the engine cannot read it; when it is run, that it finds what is no number.
    SegdetError
        There is no such engine, or it is not installed.
    """
    if engine not in ENGINES:
        raise SegdetError(f"there is no engine {engine!r}; choose from {', '.join(ENGINES)}")
    package, build = ENGINES[engine]
    try:
        module = import_module(package)
    except ImportError as error:
        raise SegdetError(f"{package} is not installed; pip install {package}, or leave out --engine") from error
    with _one_line(f"{path}: {package} cannot read it", 1):
        network = build(module, path, threads)

    def run(x):
        with _one_line(f"{path}: {package} cannot run it on an input of {x.shape}, as {SETTINGS} has it", 3):
            found = network(x)
        if not all(np.isfinite(values).all() for values in found.values()):
            raise CheckpointError(f"{path}: finds values that are NaN or infinite; train and export the model again")
        return found

    return run


@contextmanager
def _one_line(what, lines):
    """Make a `CheckpointError` of the errors that both engines have of their own, which say why in the last lines."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(line.strip() for line in str(error).strip().splitlines()[-lines:])
        raise CheckpointError(f"{what} ({reason})") from error


def _with_onnxruntime(onnxruntime, path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    names = [each.name for each in session.get_outputs()]
    return lambda x: dict(zip(names, session.run(names, {name: x}), strict=True))


def _with_openvino(openvino, path, threads):
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    network = openvino.Core().compile_model(path, "CPU", settings)
    return lambda x: {output.any_name: value for output, value in network(x).items()}


ENGINES = {"onnx": ("onnxruntime", _with_onnxruntime), "openvino": ("openvino", _with_openvino)}
