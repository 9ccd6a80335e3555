"""What a result says of its making: device, versions, commit."""

import hashlib
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

from .device import bfloat16_is_native

SERVING = "analysis", "exercises", "figures", "export", "bench", "cli"  # readers, once the rows are there


@cache
def code_digest():
    """A fingerprint of the sources that can decide a row of a study: all but the wings `SERVING`."""
    package, found = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in SERVING:
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def uncommitted(paths):
    """Files at or below these paths of the checkout that differ from its commit; None where this is no checkout."""
    try:
        found = _git("status", "--porcelain", "--", *paths)
    except OSError:  # no git on this machine
        return None
    return None if found.returncode else [line[3:] for line in found.stdout.splitlines()]


def environment(device):
    """What a manifest says of the machine and the code: device, versions, commit."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
    }


@cache
def commit():
    """The commit of the code, as it was when this process first asked: what is imported does not change later."""
    try:
        found = _git("rev-parse", "--short", "HEAD").stdout.strip() or "unknown"
    except OSError:  # no git on this machine
        return "unknown"
    return found + " with changes" * bool(uncommitted(["segdet"]))


def processor():
    """The processor by its name, its vector instructions, and how many threads PyTorch uses on it."""
    name, path = platform.machine(), Path("/proc/cpuinfo")
    if path.exists():
        lines = path.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    half = "bfloat16" if bfloat16_is_native(torch.device("cpu")) else "no bfloat16"
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, {half}, {torch.get_num_threads()} threads"


def _git(*arguments):
    """What git says of the checkout that this file is in."""
    command = ["git", "-C", str(Path(__file__).parents[2]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
