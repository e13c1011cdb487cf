"""What comes in from outside: the published files, and a user's own tables."""

from nasbench_mr.data_builders.published.tables import (
    BLOBS,
    LIST,
    SETTINGS,
    fetch,
    import_release,
    import_table,
)

__all__ = ["BLOBS", "LIST", "SETTINGS", "fetch", "import_release", "import_table"]
