"""Files that appear whole or not at all."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from .errors import FormatError, SegdetError


@contextmanager
def writing(path, error=FormatError):
    """A temporary path that takes the place of `path` once the block is complete; missing folders are made.

    Parameters
    ----------
    path : str or Path
    error : type
        The `SegdetError` to raise where the system, ITK or safetensors cannot write.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name.lower()}")  # ITK wants extensions in lower case
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as found:  # ITK raises RuntimeError, its reason last
        reason = getattr(found, "strerror", None) or " ".join(str(found).strip().splitlines()[-1].split())
        raise error(f"{path}: cannot be written ({reason}); what was there before is kept") from found
    finally:
        if temporary.exists():
            temporary.unlink()


def write_text(path, text):
    """Write a text file whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, newline="")


@contextmanager
def writing_folder(path):
    """A temporary folder that becomes `path` once the block is complete; a folder that is there is never touched."""
    path = Path(path)
    if path.exists():
        raise SegdetError(f"{path}: is there already; delete it or name another folder")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as found:
        raise FormatError(f"{path}: cannot be written ({found.strerror or found})") from found
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
