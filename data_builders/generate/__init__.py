"""Generated stand-ins for data sets, in the layouts of the real ones; one file each.

```python
from nasbench_mr.data_builders import generate

generate.make("kitti", "data/kitti", train=64, val=16)
generate.make("hmdb51", "data/hmdb51", **generate.mini("hmdb51"))     # the sizes for trials of seconds
```
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nasbench_mr.data_builders import datasets
from nasbench_mr.plugins import Registry

#: Modules, each with a function `make` and the options `MINI`.
GENERATORS = Registry[Any](
    "generated data set",
    {name: f"{__name__}.{name}" for name in ("imagenet", "cityscapes", "kitti", "hmdb51")},
)


def names() -> tuple[str, ...]:
    """Return the data sets that can be generated."""
    return GENERATORS.names


def maker(name: str) -> Any:
    """Return the function that generates a stand-in for a data set; its docstring lists the options."""
    return GENERATORS[name].make


def mini(name: str) -> dict[str, Any]:
    """Return the options with which a generated data set suits trials of seconds."""
    return dict(GENERATORS[name].MINI)


def make(name: str, root: str | os.PathLike[str], **options: Any) -> Path:
    """Generate a data set in the layout of `name` at the new folder `root`, and return its path.

    Raises:
        DatasetError: the folder exists.
        InvalidArgumentError: there is no such option.
    """
    function = maker(name)
    datasets.check_options(function, options)
    path: Path = function(root, **options)
    return path
