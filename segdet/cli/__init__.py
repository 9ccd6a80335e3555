"""The command `segdet`: look at a scan, simulate one, train, predict, and run the ablation."""

import os
import signal
import sys
import warnings

import typer

from ..errors import NO_ROOM, SegdetError, is_out_of_memory
from . import check, confirm, scan, study, train  # noqa: F401 - their commands register themselves
from .app import app, as_options, check_filled

BY_SIGNAL = 128  # above it are the exit codes of what a signal ended, Ctrl-C's is 130
# Of all commands; a step of a training says itself what makes it smaller.
MORE_ROOM = (
    "close other programs, or crop the scan or resample it to larger voxels; if it was a GPU's, set SEGDET_DEVICE=cpu"
)
UsageError = typer.BadParameter.__base__  # of the parser that this version of typer brings


class Ended(SystemExit):
    """A signal asks this process to end."""


def main():
    """Run the command; an error of the user's is one line on stderr and exit code 2."""
    # Read when torch is loaded: threads that spin while they wait stall each other beside any other busy program.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.formatwarning = lambda message, *_, **__: f"segdet: {message}\n"
    try:
        check_filled(sys.argv[1:])
        ended = _run()
        if ended and ended > BY_SIGNAL:
            print(
                "segdet: interrupted; what was saved is kept: a training or study goes on with --resume",
                file=sys.stderr,
            )
        sys.exit(ended or 0)
    except UsageError as error:
        message = error.format_message().rstrip(".")
        if message:  # the list of commands has been printed where none was named
            print(f"segdet: {message}; see {error.ctx.command_path} --help", file=sys.stderr)
        sys.exit(error.exit_code)
    except SegdetError as error:
        print(f"segdet: {as_options(str(error))}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"segdet: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"segdet: {NO_ROOM}; {MORE_ROOM}", file=sys.stderr)
        sys.exit(2)


def _run():
    """Run the command; returns its exit code, None where all went well."""
    # Of a batch system or `timeout`, and of a closed terminal: like Ctrl-C they shall leave nothing half-written.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows knows one of them
        if number and signal.getsignal(number) == signal.SIG_DFL and "TORCHELASTIC_RUN_ID" not in os.environ:
            signal.signal(number, _end)
    try:
        return app(standalone_mode=False)
    except Ended as error:
        return error.code


def _end(number, _):
    raise Ended(BY_SIGNAL + number)
