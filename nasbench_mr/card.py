"""The dataset card of a release: what people read, and what Hugging Face and its `datasets` library read.

The card begins with YAML front matter in Hugging Face's form: a configuration for every table and every file
of curves, so that `datasets.load_dataset(FOLDER, "seg")` opens a folder that has it as README.md. Its
statistics are computed from the tables.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nasbench_mr import spaces, trials
from nasbench_mr.escape import markdown, terminal

if TYPE_CHECKING:
    from nasbench_mr.release import Release
    from nasbench_mr.tasks import Task

#: Task's problem: Hugging Face's category.
_CATEGORIES = {
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "detection": "object-detection",
    "video": "video-classification",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def text(release: Release) -> str:
    """Return DATASET_CARD.md of a release: from its manifest, and from its tables on disk."""
    about = release.about
    lines = [*_front_matter(release), "", f"# {markdown(about.get('title', release.name))} ({release})", ""]
    lines += [*map(markdown, about.get("description", "").splitlines()), ""] if "description" in about else []
    lines += [
        f"- {key}: {markdown(about[key])}" for key in ("license", "citation", "homepage") if key in about
    ]
    if release.tasks:
        lines += ["", "## Tables", "", *_tables(release), "", "## Columns", "", *_columns(release)]
        lines += ["", "## Statistics", "", *_statistics(release)]
    if any(name.startswith("costs/") for name in release.files):
        lines += ["", "## Measured costs", "", *_costs(release)]
    if any(name.startswith("comparisons/") for name in release.files):
        lines += ["", "## Comparisons", "", *_comparisons(release)]
    if release.tasks:
        lines += ["", "## Collection", "", *_collection(release)]
    if flaws := about.get("flaws"):
        lines += ["", "## Known flaws", "", *(f"- {markdown(flaw)}" for flaw in flaws)]
    return "\n".join([*lines, "", _USE])


_USE = """\
## Uses and misuses

Use it to compare search methods and predictors by regret and rank correlation, over many seeds, on all tasks.
Cite the release by name, version and digest (`nasbench-mr releases`).

Do not read small differences between codes as real where a task has one seed a code: the spread of seeds is
unknown there, and the best tabulated value is optimistic. Do not compare `macs` between releases whose tasks
count them by different rules, and do not take a surrogate's answer for a measurement.
"""


def _front_matter(release: Release) -> list[str]:
    """YAML, as JSON values are."""
    files = [file for file in release.configurations.values() if not file.startswith("curves/")]
    rows = sum(release.files[file]["rows"] for file in files)
    size = next((name for limit, name in _SIZES if rows < limit), "1M<n<10M")
    problems = [task.problem for task in release.tasks.values()]
    front: dict[str, Any] = {
        "pretty_name": release.about.get("title", release.name),
        "license": str(release.about.get("license", "unknown")).lower(),
        "tags": ["neural-architecture-search", "nas", "benchmark", "tabular"],
        "task_categories": sorted({_CATEGORIES.get(problem, "other") for problem in problems}),
        "size_categories": [size],
    }
    lines = [
        "---",
        *(f"{key}: {terminal(json.dumps(value, ensure_ascii=False))}" for key, value in front.items()),
    ]
    lines += ["configs:"]
    for config, name in release.configurations.items():
        lines += [f"- config_name: {json.dumps(config)}", f"  data_files: {json.dumps(name)}"]
    return [*lines, "---"]


def _tables(release: Release) -> list[str]:
    lines = ["| task | what | dataset | rows | metrics | objective |", "|---|---|---|---|---|---|"]
    for task in release.tasks.values():
        rows = release.files[f"tables/{task.name}.parquet"]["rows"]
        metrics = ", ".join(markdown(f"{m.name} ({m.unit})") for m in task.metrics)
        lines += [
            f"| {task.name} | {markdown(task.title)} | {markdown(task.dataset)} | {rows:,} | {metrics} "
            f"| {_goal(task)} |"
        ]
    return lines


def _goal(task: Task) -> str:
    better = "larger" if task.metric(task.objective).sign > 0 else "smaller"
    return f"{markdown(task.objective)}, {better} is better"


def _columns(release: Release) -> list[str]:
    lines = []
    for name in sorted({task.space for task in release.tasks.values()}):
        if (described := spaces.description(name)) is not None:
            title = f" ({markdown(described.title)})" if described.title else ""
            lines += [f"- the code: positions, from 0, among these values of {name}{title}"]
            lines += [f"  - `{d.name}` ({d.kind}): {', '.join(d.texts)}" for d in described.dimensions]
            lines += [f"  - {cost}: `{formula}`" for cost, formula in described.costs]
            continue
        names = spaces.get(name).NAMES
        lines += [f"- `{names[0]}` ... `{names[-1]}`: the code's {len(names)} integers ({name})"]
    lines += ["- `seed`: of the trial; a code has one row for each"]
    lines += [f"- `{name}`: {unit}" for name, unit in trials.COSTS.items()]
    return [*lines, "- `device`, `status` (ok, diverged, failed), `error`: of the trial"]


def _statistics(release: Release) -> list[str]:
    """Of each task's objective, over the trials that are "ok"."""
    import numpy as np

    from nasbench_mr import table

    lines = [
        "| task | codes | most seeds | failed | least | median | most | std between seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task in release.tasks.values():
        read = table.read(release.path / f"tables/{task.name}.parquet", task)
        values = read.values[task.objective][read.ok]
        _, which, counts = np.unique(read.codes[read.ok], axis=0, return_inverse=True, return_counts=True)
        cells = [task.name, f"{len(counts):,}", str(counts.max(initial=0)), str(len(read) - len(values))]
        if len(values):
            cells += [f"{value:.2f}" for value in (values.min(), np.median(values), values.max())]
            means = np.bincount(which.ravel(), values) / counts
            freedom = len(values) - len(counts)
            squares = ((values - means[which.ravel()]) ** 2).sum()
            cells += [f"{np.sqrt(squares / freedom):.2f}" if freedom else "unknown: one seed a code"]
        else:
            cells += ["-"] * 4
        lines += [f"| {' | '.join(cells)} |"]
    return lines


def _costs(release: Release) -> list[str]:
    """Of each table of measured costs: the device, how it was measured, and the latencies."""
    import numpy as np

    from nasbench_mr import measured

    lines = [
        "| costs | device | runtime | batch, size, threads | clock | codes | least | median ms | most |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, file in release.configurations.items():
        if not file.startswith("costs/"):
            continue
        table = measured.read(release.path / file)
        for runtime in table.runtimes:
            rows = table.rows(runtime)
            latency = table.columns["latency_ms"][rows]
            how = [f"{table.columns[key][rows[0]]:.0f}" for key in ("batch", "size", "threads")]
            versions = [table.about[key] for key in ("torch", "onnxruntime") if key in table.about]
            cells = [
                name.removesuffix("-costs"),
                markdown(f"{table.device} ({', '.join(map(str, versions))})"),
                markdown(runtime),
                ", ".join(how),
                markdown(str(table.about.get("clock", "wall"))),
                f"{len(rows):,}",
                *(f"{value:.2f}" for value in (latency.min(), np.median(latency), latency.max())),
            ]
            lines += [f"| {' | '.join(cells)} |"]
    return [*lines, "", *(f"- `{name}`: {unit}" for name, unit in measured.UNITS.items())]


def _comparisons(release: Release) -> list[str]:
    """Return, of each task's results of searches, which table they are of, and the seeds of each search."""
    import pyarrow.parquet as pq

    lines = ["| task | searches, and their runs | of the table | its digest |", "|---|---|---|---|"]
    for file in release.configurations.values():
        if file.startswith("comparisons/"):
            told = json.loads(pq.read_schema(release.path / file).metadata[b"nasbench_mr"])
            searches = ", ".join(f"{name} {seeds}" for name, seeds in told["seeds"].items())
            cells = [told["task"], searches, told["release"], told["table"][:16]]
            lines += [f"| {' | '.join(map(markdown, cells))} |"]
    return lines


def _collection(release: Release) -> list[str]:
    lines = []
    for text_ in dict.fromkeys(task.provenance for task in release.tasks.values() if task.provenance):
        of = ", ".join(task.name for task in release.tasks.values() if task.provenance == text_)
        lines += [f"- {of}: {markdown(text_)}"]
    for task in release.tasks.values():
        if task.recipe:
            lines += [f"- recipe of {task.name}: {markdown(task.recipe)}"]
    return lines
