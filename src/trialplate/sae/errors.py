"""What can go wrong with coders, each with a text that says what was wanted, what was got, where, and what next."""


class CoderError(Exception):
    """A coder that cannot be what its description says: shapes, missing tensors, options that exclude each other."""


class FormatError(CoderError):
    """Files that hold no coder that can be read: unknown keys, shapes that fit no orientation, an unsupported architecture."""


class TrainingError(Exception):
    """Training that cannot go on or be resumed: no rows, another configuration, a loss that is not finite."""


class StudyError(Exception):
    """A program about coders whose question cannot be answered as asked: too few seeds, an empty grid, rows that do not fit."""
