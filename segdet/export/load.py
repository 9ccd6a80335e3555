"""A trained cascade in the engine of choice (chapter 09)."""

import hashlib
import tempfile
from pathlib import Path
from shlex import quote

from ..errors import CheckpointError
from ..runtime.atomic import one_writer
from .exported import SETTINGS, ExportedCascade

SHIPPED = Path(__file__).resolve().parents[1] / "models"  # trained, and part of the package


def load_cascade(folder, engine=None, report=print):
    """A cascade for an engine, from a trained model or from an export.

    Parameters
    ----------
    folder : str or Path
        What `Cascade.save` or `segdet.export.onnx.export` wrote, or the name of a model in `SHIPPED`. Another engine
        than PyTorch runs a trained model from its export in a folder inside, onnx-FINGERPRINT, which is written first
        where it is missing.
    engine : str, optional
        "torch" or a key of `segdet.export.exported.ENGINES`. Default: "torch" for a trained model, "onnx" for an
        export.
    report : callable

    Returns
    -------
    Pipeline

    Raises
    ------
    CheckpointError
        There is no model in the folder, PyTorch is asked to run an export, or the folder cannot be written to.
    """
    folder = found_model(folder)
    is_export = (folder / SETTINGS).exists()
    engine = engine or ("onnx" if is_export else "torch")
    if is_export and engine == "torch":
        raise CheckpointError(f"{folder}: is an export, which PyTorch does not run; use --engine onnx")
    if is_export:
        return ExportedCascade(folder, engine)
    if engine == "torch":
        from ..cascade import Cascade

        return Cascade.load(folder)
    inside = folder / f"onnx-{_fingerprint(folder)}"
    if not inside.exists():
        _export_once(folder, inside, report)
    return ExportedCascade(inside, engine)


def _export_once(folder, inside, report):
    """Write the export of a trained model, unless another process has meanwhile."""
    from ..cascade import Cascade
    from .onnx import export

    trained = Cascade.load(folder, "cpu")  # first, for a lock makes its folder
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise CheckpointError(
            f"{folder}: its export cannot be written into it ({error.strerror}); write it elsewhere with "
            f"`segdet export {quote(str(folder))} --out FOLDER`, and name FOLDER as the model"
        ) from error
    with one_writer(inside):
        if not inside.exists():
            export(trained, inside)
            report(f"wrote {inside}: the model as ONNX, for next time")


def found_model(folder):
    """The folder of a model, which may be named as one in `SHIPPED`, as a Path."""
    folder = Path(folder)
    shipped = folder == Path(folder.name) and not folder.exists() and (SHIPPED / folder).exists()
    return SHIPPED / folder if shipped else folder


def _fingerprint(folder):
    """Eight digits of the files that `Cascade.save` wrote, so that a model trained anew is exported anew."""
    found = hashlib.sha256()
    for path in sorted([*folder.glob("cascade.json"), *folder.glob("*.safetensors")]):
        found.update(path.read_bytes())
    return found.hexdigest()[:8]
