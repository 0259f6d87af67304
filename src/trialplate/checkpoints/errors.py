"""The one error of this room."""


class CheckpointError(ValueError):
    """A weight file, an index or a golden key list is missing, damaged or not safe to read."""
