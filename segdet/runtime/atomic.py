"""Files and folders that appear whole or not at all, and folders with one writer at a time."""

import os
import secrets
import shutil
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from ..errors import FormatError, SegdetError

MARK = ".segdet-"  # begins the name of everything that is not for the user, and of nothing else


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
    suffix = ".nii.gz" if path.suffix.lower() == ".gz" else path.suffix.lower()  # ITK goes by it
    # short, so that a name of any length can be written; unlike that of any other thread or machine
    temporary = path.with_name(f"{MARK}{secrets.token_hex(4)}.part{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as found:
        raise error(f"{path}: cannot be written ({_reason(found)}); what was there before is kept") from found
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove_leftovers(folder):
    """Delete what `writing` left in a folder where its process was killed; nobody else may be writing there."""
    for temporary in Path(folder).glob(f"{MARK}????????.part*"):
        if temporary.is_file():
            temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write a text file whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, newline="")


@contextmanager
def writing_folder(path):
    """A temporary folder that becomes `path` once the block is complete; a folder that is there is never touched."""
    path = Path(path)
    try:
        if os.path.lexists(path):
            raise SegdetError(f"{path}: is there already; delete it or name another folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()  # whether this name can be written is known before the work
        path.rmdir()
        temporary = Path(tempfile.mkdtemp(".part", MARK, path.parent))
    except OSError as found:
        raise FormatError(f"{path}: cannot be written ({_reason(found)})") from found
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp's folders are the owner's alone
        os.replace(temporary, path)
    except OSError as found:
        raise FormatError(f"{path}: cannot be written ({_reason(found)})") from found
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(folder, wait=0):
    """Keep other processes out of a folder until the block ends, or the process, however it ends.

    Parameters
    ----------
    folder : str or Path
        Made where it is missing, and then removed again if nothing came into it.
    wait : float
        Seconds to wait for another process.

    Raises
    ------
    SegdetError
        Another process has the folder; the message names it.
    """
    folder = Path(folder)
    file, made = folder / f"{MARK}lock", not folder.exists()
    # a file whose mere existence locks would outlive a process that is killed
    lock = FileLock(file, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait)
    except Timeout as found:
        holder = "another process"
        with suppress(OSError):
            holder = file.read_text() or holder
        raise SegdetError(f"{folder}: is being written by {holder}; wait for it, or name another folder") from found
    except (OSError, NotImplementedError) as found:
        raise SegdetError(f"{folder}: cannot be locked ({_reason(found)}); name a folder on another disk") from found
    try:
        file.write_text(f"process {os.getpid()} ({' '.join([Path(sys.argv[0]).name, *sys.argv[1:2]])})")
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        lock.release()
        if made:
            with suppress(OSError):  # something is in it
                folder.rmdir()


def _reason(error):
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
