"""What comes in from outside: the published files, and a user's own tables."""

from nasbench_mr.data_builders.published.own import Understood, import_table, install, understand
from nasbench_mr.data_builders.published.published_files import (
    BLOBS,
    LIST,
    SETTINGS,
    fetch,
    import_release,
)

__all__ = [
    "BLOBS",
    "LIST",
    "SETTINGS",
    "Understood",
    "fetch",
    "import_release",
    "import_table",
    "install",
    "understand",
]
