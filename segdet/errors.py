"""The errors that a user can cause, each with a message that says what was found and the way out."""


class SegdetError(Exception):
    """Base of every error that segdet raises on purpose; the command line prints it in one line and exits with 2."""


class GeometryError(SegdetError):
    """A scan whose geometry is missing, contradictory or not a regular grid."""


class PixelSizeError(GeometryError):
    """A picture of which nothing says how large its pixels are."""


class FormatError(SegdetError):
    """A file that is not what its name or header claims, or a format that segdet does not read."""


class LabelError(FormatError):
    """A label map that does not hold the label asked for; `volume` is what was read, for a caller to go on with."""

    def __init__(self, message, volume=None):
        super().__init__(message)
        self.volume = volume


class CheckpointError(SegdetError):
    """A checkpoint that is missing, corrupt or belongs to another model or data set."""


class TrainingError(SegdetError):
    """Training data or a loss that training cannot go on with."""


NO_ROOM = "memory does not suffice"
NO_ROOM_TO_TRAIN = f"{NO_ROOM}; take a smaller profile, or for the segmenter `segdet fit --checkpointing`"


def is_out_of_memory(error):
    """Whether an error of Python or PyTorch, on any device, says that memory is used up."""
    return isinstance(error, MemoryError) or any(
        text in str(error) for text in ("out of memory", "can't allocate memory")
    )
