"""Errors that a user of the library can cause.

    FaceganError
      ConfigError      a setting, flag or argument is wrong
      DataError        a dataset or a record is wrong
      CheckpointError  a run folder or checkpoint cannot be used
      BundleError      an exported model cannot be used
      VideoError       a video cannot be read or written

Tools print the message of a FaceganError as one sentence and exit with code 2; anything else is
a bug of ours and keeps its traceback.
"""


class FaceganError(Exception):
    """Base of every error that a user can cause."""


class ConfigError(FaceganError):
    """A setting, flag or argument is wrong."""


class DataError(FaceganError):
    """A dataset or one of its records is wrong."""


class CheckpointError(FaceganError):
    """A run folder or one of its checkpoints cannot be used."""


class BundleError(FaceganError):
    """An exported model cannot be used."""


class VideoError(FaceganError):
    """A video cannot be read or written."""
