"""What can go wrong, and the exit code that the command line gives it."""


class CharLSTMError(Exception):
    """Base of every error this package raises on purpose: one line that says what to do."""

    exit_code = 1


class UsageError(CharLSTMError):
    """The request cannot be carried out as it was made (exit 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or a setting is wrong (exit 2)."""


class VocabularyError(UsageError):
    """A text has characters that the model has never been given (exit 2)."""


class CorpusError(CharLSTMError):
    """A text cannot be used: empty, unreadable or not in the stated encoding (exit 3)."""

    exit_code = 3


class CheckpointError(CharLSTMError):
    """A file is no checkpoint, or a damaged one (exit 3)."""

    exit_code = 3


class DivergedError(CharLSTMError):
    """Training diverged, and returning to a good state did not help (exit 4)."""

    exit_code = 4


class BusyError(CharLSTMError):
    """Another process is writing the checkpoint (exit 5)."""

    exit_code = 5


class OutputError(CharLSTMError):
    """The operating system refused to write or read (exit 6)."""

    exit_code = 6
