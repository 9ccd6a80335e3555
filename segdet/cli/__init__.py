"""The command `segdet`: look at a scan, simulate one, train, predict, and run the ablation."""

import os
import sys
import warnings

import typer

from ..errors import NO_ROOM, SegdetError, is_out_of_memory
from . import check, confirm, scan, study, train  # noqa: F401 - their commands register themselves
from .app import app, as_options, check_filled

INTERRUPTED = 130  # the exit code after Ctrl-C
# Of all commands; a step of a training says itself what makes it smaller.
MORE_ROOM = (
    "close other programs, or crop the scan or resample it to larger voxels; if it was a GPU's, set SEGDET_DEVICE=cpu"
)
UsageError = typer.BadParameter.__base__  # of the parser that this version of typer brings


def main():
    """Run the command; an error of the user's is one line on stderr and exit code 2."""
    # Read when torch is loaded: threads that spin while they wait stall each other beside any other busy program.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.formatwarning = lambda message, *_, **__: f"segdet: {message}\n"
    try:
        check_filled(sys.argv[1:])
        ended = app(standalone_mode=False)
        if ended == INTERRUPTED:
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
