"""Files and folders that appear whole or not at all."""

import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager, suppress
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
        The `SegdetError` to raise where the system or safetensors cannot write.
    """
    path = Path(path)
    # unlike that of any other thread or machine; ITK wants the extension last, in lower case
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name.lower()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as found:
        reason = getattr(found, "strerror", None) or str(found) or type(found).__name__
        raise error(f"{path}: cannot be written ({reason}); what was there before is kept") from found
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove_leftovers(folder):
    """Delete what `writing` left in a folder where its process was killed; nobody else may be writing there."""
    for temporary in Path(folder).glob(".????????.*"):
        temporary.unlink(missing_ok=True)


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as found:
        raise FormatError(f"{path}: cannot be written ({found.strerror or found})") from found
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp's folders are the owner's alone
        os.replace(temporary, path)
    except OSError as found:
        raise FormatError(f"{path}: cannot be written ({found.strerror or found})") from found
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
