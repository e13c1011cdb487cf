"""Every error this package raises on purpose.

    NasbenchMRError
    ├── InvalidArgumentError (ValueError)         an argument has a value that is not accepted
    │   └── ExhaustedError                        a search has no codes left
    ├── OutOfSpaceError (ValueError)              a code is malformed, or outside the space
    ├── SpaceError (ValueError)                   a description of a search space is malformed
    ├── InfeasibleError (ValueError)              no code meets the limits
    ├── UnknownNameError (LookupError)            a name is not in its registry
    │   ├── UnknownTaskError
    │   └── UnknownMetricError (KeyError)
    ├── CodeNotFoundError (LookupError)           the table has no trial of this code
    ├── SurrogateNotFoundError (LookupError)      the release has no surrogate for the task
    ├── ReleaseNotFoundError (LookupError)        no release of this name, version or path
    ├── ReleaseError (ValueError)                 a release is malformed, or clashes with an installed one
    ├── TableError (ValueError)                   a table does not follow the schema
    ├── DatasetError (ValueError)                 a data set is incomplete or malformed
    ├── RecipeError (ValueError)                  a training recipe is invalid
    ├── IntegrityError (ValueError)               a file has another hash or size than expected
    ├── UnsafeFileError (ValueError)              a file contains what it must not
    ├── DownloadError (OSError)                   a download failed after all retries
    ├── StorageError (OSError)                    a file could not be written
    ├── MissingExtraError (ImportError)           an optional dependency is not installed
    ├── DeviceError (RuntimeError)                a device is missing, busy, or not the expected one
    ├── WorkerError (RuntimeError)                a worker process died or can't start
    └── NotFittedError (RuntimeError)             a predictor was asked before it was fitted

Each one is also the builtin a caller would expect, so code that catches builtins keeps working. Catch
`NasbenchMRError` to catch them all; the command line prints its message in one line and exits with status 2.
"""

from __future__ import annotations

from collections.abc import Iterable


class NasbenchMRError(Exception):
    """Base of all errors raised by nasbench-mr."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return Exception.__str__(self)


class InvalidArgumentError(NasbenchMRError, ValueError):
    """An argument has a value that the function does not accept."""


class OutOfSpaceError(NasbenchMRError, ValueError):
    """A code is malformed or lies outside the search space."""


class SpaceError(NasbenchMRError, ValueError):
    """The description of a search space is malformed, or too large."""


class UnknownNameError(NasbenchMRError, LookupError):
    """A name (predictor, search method, recipe, column, ...) is not in its registry."""


class UnknownTaskError(UnknownNameError):
    """No task of this name."""


class UnknownMetricError(UnknownNameError, KeyError):
    """The task has no metric of this name. A KeyError too, as a `Result` is a mapping."""


class CodeNotFoundError(NasbenchMRError, LookupError):
    """The table has no usable trial of this code (with this seed, at this epoch)."""


class SurrogateNotFoundError(NasbenchMRError, LookupError):
    """The release carries no surrogate for this task."""


class TableError(NasbenchMRError, ValueError):
    """A table's columns, types or rows do not follow the schema."""


class ReleaseError(NasbenchMRError, ValueError):
    """A release is malformed, or clashes with one already installed."""


class ReleaseNotFoundError(NasbenchMRError, LookupError):
    """No release of this name, version or path."""


class IntegrityError(NasbenchMRError, ValueError):
    """A file's content does not have the expected hash or size."""


class UnsafeFileError(NasbenchMRError, ValueError):
    """A file from outside contains what it must not (code in a pickle, a path that escapes, a bomb)."""


class DownloadError(NasbenchMRError, OSError):
    """A download failed after all retries."""


class StorageError(NasbenchMRError, OSError):
    """A file could not be written: disk full, folder read-only."""


class MissingExtraError(NasbenchMRError, ImportError):
    """An optional dependency is not installed."""


class DatasetError(NasbenchMRError, ValueError):
    """An image, video or point-cloud data set is incomplete or malformed."""


class RecipeError(NasbenchMRError, ValueError):
    """A training recipe or its override is invalid."""


class DeviceError(NasbenchMRError, RuntimeError):
    """A device is not there, or too busy to be measured, or another one than what it is compared with."""


class WorkerError(NasbenchMRError, RuntimeError):
    """A worker process died or can't start, or its error can't be brought to this process."""


class InfeasibleError(NasbenchMRError, ValueError):
    """No code meets the given limits."""


class ExhaustedError(InvalidArgumentError):
    """A search was asked for more codes than it has left."""


class NotFittedError(NasbenchMRError, RuntimeError):
    """A predictor was asked before it was fitted."""


def did_you_mean(name: object, options: Iterable[str]) -> str:
    """Return a sentence for an error message: the closest of `options`, or all of them."""
    import difflib

    options = list(options)
    lowered = {option.lower(): option for option in options}
    typed = str(name).lower()
    close = [option for option in lowered if typed and option.startswith(typed)][:5]
    close = close or difflib.get_close_matches(typed, lowered, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(lowered[c]) for c in close) + "?"
    return "expected one of " + ", ".join(options) if options else "there are none"
