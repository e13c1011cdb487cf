"""Libraries that only an extra installs: `requires` names the extra where one of them is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import util

from nasbench_mr.errors import MissingExtraError


class requires:
    """Turn an import that fails into an error that names the extra to install.

        with requires("search", "the predictor 'ridge'"):
            from sklearn.linear_model import BayesianRidge

    Args:
        extra: the extra of this package that installs what the block imports; None: none does.
        purpose: what needs it, as the subject of a sentence.
        oldest: by distribution, the oldest version that will do.

    Raises:
        MissingExtraError: on leaving the block, if an import in it failed, or a distribution is too old.
    """

    def __init__(self, extra: str | None, purpose: str, oldest: Mapping[str, str] | None = None):
        self.extra, self.purpose, self.oldest = extra, purpose, oldest or {}

    def __enter__(self) -> None:
        """Begin the imports."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if (error is not None and not isinstance(error, ImportError)) or isinstance(error, MissingExtraError):
            return
        # Before what was raised, which an old version may explain.
        self._check_versions()
        if error is None:
            return
        module = (error.name or "a library").partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError)
        why = "which is not installed" if missing else f"which can't be imported ({error})"
        raise MissingExtraError(
            f"{self.purpose} needs {module!r}, {why}: pip install {self._package(module)}"
        ) from (None if missing else error)

    def _package(self, name: str) -> str:
        """Return what pip installs: the extra, or where none has it the package itself."""
        return name if self.extra is None else f"'nasbench-mr[{self.extra}]'"

    def _check_versions(self) -> None:
        from importlib import metadata

        for name, oldest in self.oldest.items():
            try:
                found = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue  # The import says so.
            if _numbers(found) < _numbers(oldest):
                raise MissingExtraError(
                    f"{self.purpose} needs {name} {oldest} or newer, and {found} is installed: "
                    f"pip install -U {self._package(name)}"
                )


def need(module: str, extra: str, purpose: str) -> None:
    """Raise `MissingExtraError` where a module is not installed, before the work; import nothing."""
    with requires(extra, purpose):
        if util.find_spec(module) is None:
            raise ModuleNotFoundError(name=module)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with: (2, 13, 0) of "2.13.0rc1+cpu"."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
