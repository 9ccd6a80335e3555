"""Files and folders that appear whole or not at all, and folders with one writer at a time."""

import hashlib
import os
import secrets
import shutil
import sys
import tempfile
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from ..errors import FormatError, SegdetError

MARK = ".segdet-"  # begins the name of everything that is not for the user, and of nothing else
PATIENCE = 5  # seconds after which a process that waits for another says so


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
    """Delete what the writers of this module left where they were killed; nobody else may be writing there."""
    for temporary in Path(folder).glob(f"{MARK}????????.*"):
        if temporary.is_file():
            temporary.unlink(missing_ok=True)
        elif temporary.is_dir():  # of `writing_folder`
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(path, text):
    """Write a text file whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


@contextmanager
def writing_folder(path):
    """A temporary folder that becomes `path` once the block is complete; a folder that is there is never touched.

    Raises
    ------
    SegdetError
        The folder is there, or cannot be written.
    """
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
    except SegdetError as found:  # of a file in the folder, which will be gone
        found.args = (str(found).replace(str(temporary), str(path)),)
        raise
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
    made = not folder.exists()
    try:
        with _held(folder / f"{MARK}lock", folder, wait):
            yield
    finally:
        if made:
            with suppress(OSError):  # something is in it
                folder.rmdir()


@contextmanager
def one_writer(path):
    """Let one process at a time make a file or folder; the others say so and wait until its block ends.

    Whoever waited looks whether it is there now. A missing folder is made.

    Raises
    ------
    SegdetError
        The folder cannot be locked.
    """
    path = Path(path)
    named = hashlib.sha256(path.name.encode()).hexdigest()[:8]  # short, as in `writing`
    with _held(path.with_name(f"{MARK}{named}.lock"), path):
        yield


@contextmanager
def _held(file, what, wait=None):
    """Hold a lock, a file that is there as long as it is held, on `what`; without `wait` others wait for ever."""
    # a file whose mere existence locks would outlive a process that is killed
    lock = FileLock(file, fallback_to_soft=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=PATIENCE if wait is None else wait)
        except Timeout as found:
            if wait is not None:
                message = f"{what}: is being written by {_holder(file)}; wait for it, or name another folder"
                raise SegdetError(message) from found
            warnings.warn(f"{what}: is being written by {_holder(file)}; waiting for it", stacklevel=5)
            lock.acquire()
    except (OSError, NotImplementedError) as found:
        raise SegdetError(f"{what}: cannot be locked ({_reason(found)}); name a folder on another disk") from found
    try:
        file.write_text(f"process {os.getpid()} ({' '.join([Path(sys.argv[0]).name, *sys.argv[1:2]])})")
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        lock.release()


def _holder(file):
    """Who has a lock, as it says itself."""
    with suppress(OSError):
        return file.read_text() or "another process"
    return "another process"


def _reason(error):
    while error.__cause__ and not getattr(error, "strerror", None):  # pydicom puts a traceback into its message
        error = error.__cause__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
