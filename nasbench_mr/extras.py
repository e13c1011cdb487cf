"""Libraries that only an extra installs: `requires` names the extra where one of them is missing."""

from __future__ import annotations

from nasbench_mr.errors import MissingExtraError


class requires:
    """Turn an import that fails into an error that names the extra to install.

        with requires("search", "the predictor 'ridge'"):
            from sklearn.linear_model import BayesianRidge

    Args:
        extra: the extra of this package that installs what the block imports; None: none does.
        purpose: what needs it, as the subject of a sentence.

    Raises:
        MissingExtraError: on leaving the block, if an import in it failed.
    """

    def __init__(self, extra: str | None, purpose: str):
        self.extra, self.purpose = extra, purpose

    def __enter__(self) -> None:
        """Begin the imports."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, ImportError) or isinstance(error, MissingExtraError):
            return
        module = (error.name or "a library").partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError)
        why = "which is not installed" if missing else f"which can't be imported ({error})"
        package = module if self.extra is None else f"'nasbench-mr[{self.extra}]'"
        raise MissingExtraError(f"{self.purpose} needs {module!r}, {why}: pip install {package}") from (
            None if missing else error
        )
