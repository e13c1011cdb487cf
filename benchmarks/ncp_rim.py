"""Does NCP climb to the rim, where no data is, and what keeps it from that? The experiment of docs/ncp.md.

A table's codes are split in halves. An ensemble fitted on one half guides NCP and its rivals (the best of
100,000 random codes, evolution and local search); models of four families, fitted on the other half, judge
the codes. NCP's score has more than the predicted mean: it is cautious, and follows a trend. So that a better
score is not taken for a better search, NCP is also run on the mean alone, and its rivals with its caution.
What might keep NCP amid the data is tried on one and the same climb: each rule (`chosen`) chooses anew among
the codes that it saw.

    OMP_NUM_THREADS=1 python benchmarks/ncp_rim.py
    OMP_NUM_THREADS=1 python benchmarks/ncp_rim.py --splits 0 1 --tasks seg

Splits 0 to 9 are for trying rules; the default ones, 100 to 109, for judging them. A split and task is a
part, which is kept: rerun the command to resume.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from common import (
    REPOSITORY,
    TABLES,
    Figure,
    at_bounds,
    at_least,
    done,
    options,
    parsed,
    published_release,
    report,
    start,
)

import nasbench_mr
from nasbench_mr import cost, plot, predictors, search, space
from nasbench_mr.arrays import Codes, Floats, Ints
from nasbench_mr.domain import Domain
from nasbench_mr.predictors.base import Predictor
from nasbench_mr.predictors.evaluation import Data, gather
from nasbench_mr.search.comparison import holm

LIMITS = (1e9, 2e9, 4e9)
RANDOM, ASKED = 100_000, 140 * 128
#: NCP's own: its defaults.
EDITING = {"starts": 256, "steps": 70, "polish": 8}
RIVALS = ("random", "evolution", "local")
#: Rivals that maximise the mean less the predictor's standard deviation, as NCP does.
CAUTIOUS = tuple(f"{name}, cautious" for name in RIVALS)
#: Families of models; "ensemble", which guides, would be a judge of its own family.
JUDGES = ("gbdt", "forest", "gp", "ridge")
#: A trust region's price of a step of the grid away from the data, in standard deviations of the table.
PRICES = (0.01, 0.02, 0.05)
#: Codes of a climb that rules choose among: the best by score, and others of all kinds.
BEST, OTHERS = 800, 800


def main() -> None:
    parser = options(__doc__, "ncp_rim")
    parser.add_argument("--splits", type=at_least(0), nargs="+", default=range(100, 110), metavar="K")
    parser.add_argument(
        "--tasks", nargs="+", choices=TABLES, default=TABLES, help="tasks to search for (default: all)"
    )
    args = parsed(parser)
    data = gather(nasbench_mr.load(published_release()), TABLES)
    works = (
        (f"{split}-{task}", partial(part, data, split, task, args.keep / "models"))
        for task in args.tasks
        for split in args.splits
    )
    frame = done(args.keep, args.out, works)
    splits = frame["split"].nunique()
    report(f"NCP and the rim: {frame['task'].nunique()} tasks, 3 limits, {splits} splits", figures(frame))
    images = REPOSITORY / "docs" / "images" if args.whole else args.keep
    plot.save(drawn(frame), images / "ncp_rim.png")


def part(data: Data, split: int, task: str, models: Path) -> pd.DataFrame:
    """Return what each judge makes of each method's code: a row for each limit and method."""
    order = np.random.default_rng(split).permutation(len(data.codes))
    halves = {"guides": order[: len(order) // 2], "judges": order[len(order) // 2 :]}
    column = next(data.names[k] for k in data.objectives() if data.names[k].startswith(f"{task}/"))
    spread = float(np.nanstd(data.values[:, data.names.index(column)]))

    def fitted(kind: str, half: str, rows: Ints) -> Predictor:
        """Return a model kept or fitted: of all columns where they help each other, else of the task's."""
        joint = kind == "ensemble"
        path = models / f"{split}-{half}-{kind if joint else f'{kind}-{task}'}.npz"
        if path.is_file():
            return predictors.load(path)
        names = data.names if joint else (column,)
        values = data.values[rows][:, [data.names.index(name) for name in names]]
        model = predictors.make(kind, seed=split).fit(data.codes[rows], values, names)
        models.mkdir(parents=True, exist_ok=True)
        model.save(path)
        return model

    guides = halves["guides"]
    model = fitted("ensemble", "guides", guides)
    # For cross-fitting: two models, of each half of the half.
    quarters = [
        fitted("ensemble", f"guides{k}", guides[k * len(guides) // 2 : (k + 1) * len(guides) // 2])
        for k in (0, 1)
    ]
    second = {kind: fitted(kind, "guides", guides) for kind in JUDGES}
    judges = {kind: fitted(kind, "judges", halves["judges"]) for kind in JUDGES}
    known = data.codes[guides]
    rows = []
    for limit in LIMITS:
        found = {name: rival(name, model, column, limit, split) for name in (*RIVALS, *CAUTIOUS)}
        alone = search.ncp(model, column, max_macs=limit, seed=split, caution=0.0, trend=0.0, **EDITING)
        found["ncp, mean alone"] = alone.best
        found |= chosen(model, second, column, spread, known, limit=limit, seed=split)
        found["cross-fitting"] = crossed(quarters, column, limit, split)
        codes = np.array([*found.values()], np.int16)
        scores = {kind: judge.predict(codes)[0][:, 0] / spread for kind, judge in judges.items()}
        at_rim = at_bounds(codes)
        own, _ = model.predict(codes)
        for k, name in enumerate(found):
            rows.append(
                {
                    "split": split,
                    "task": task,
                    "limit": limit,
                    "method": name,
                    "code": space.to_string(codes[k]),
                    "macs": int(cost.macs(codes[k])[0]),
                    "guide": own[k, model.names.index(column)] / spread,
                    **{kind: score[k] for kind, score in scores.items()},
                    "at_bounds": at_rim[k],
                    "distance": steps_away(codes[k : k + 1], known)[0],
                }
            )
    return pd.DataFrame(rows)


# --- Methods -------------------------------------------------------------------------------------------


def rival(name: str, model: Predictor, column: str, limit: float, seed: int) -> Codes:
    """Return the best predicted code of another search, of as many predictions as NCP's steps ask for."""
    domain, where = Domain(max_macs=limit), model.names.index(column)
    name, _, cautious = name.partition(", ")

    def score(codes: Codes) -> Floats:
        mean, std = model.predict(codes)
        return mean[:, where] - std[:, where] * bool(cautious)

    if name == "random":
        codes = domain.sample(RANDOM, np.random.default_rng(seed))
        return codes[score(codes).argmax()]
    own = {"population": 100} if name == "evolution" else {}
    method = search.make(name, domain, seed, **own)
    for _ in range(ASKED // 128):
        codes = method.ask(128)
        method.tell(codes, score(codes))
    return method.codes[method.values.argmax()]


def chosen(
    model: Predictor,
    second: dict[str, Predictor],
    column: str,
    spread: float,
    known: Codes,
    *,
    limit: float,
    seed: int,
) -> dict[str, Codes]:
    """Return the code of one climb that each rule chooses; "ncp" is NCP's own choice."""
    out = search.ncp(model, column, max_macs=limit, seed=seed, **EDITING)
    codes, scores = pool(out, limit)
    # NCP's scores are in standard deviations of what its predictor answers; all here are in the table's.
    answers = model.predict(space.sample(2000, seed))[0][:, model.names.index(column)]
    score = (scores * answers.std() + answers.mean()) / spread
    others = {kind: other.predict(codes)[0][:, 0] / spread for kind, other in second.items()}
    away = steps_away(codes, known)
    in_box = ((codes >= known.min(axis=0)) & (codes <= known.max(axis=0))).all(axis=1)
    # The best of each of twelve tighter limits.
    macs = cost.macs(codes)
    tighter = [np.where(macs <= most, score, -np.inf).argmax() for most in np.geomspace(limit / 8, limit, 12)]
    swept = np.isin(np.arange(len(codes)), tighter)
    trees = (others["gbdt"] + others["forest"]) / 2
    every = np.mean([score, *others.values()], axis=0)
    rules: dict[str, Floats] = {
        "ncp": score,
        "data's box": np.where(in_box, score, -np.inf),
        **{f"distance x {price}": score - price * away for price in PRICES},
        "mean with gbdt": score + others["gbdt"],
        "mean with forest": score + others["forest"],
        "mean with gp": score + others["gp"],
        "mean with all": every,
        "veto by gbdt": np.where(others["gbdt"] >= np.quantile(others["gbdt"], 0.9), score, -np.inf),
        "tighter limits, gbdt": np.where(swept, others["gbdt"], -np.inf),
        "tighter limits, trees": np.where(swept, trees, -np.inf),
        "tighter limits, all": np.where(swept, every, -np.inf),
    }
    return {name: codes[value.argmax()] for name, value in rules.items()}


def pool(out: search.NCPResult, limit: float) -> tuple[Codes, Floats]:
    """Return codes that a climb saw within the limit, its own best first, and their scores."""
    codes = out.trajectory.codes.reshape(-1, space.DIM)
    inside = out.trajectory.macs.ravel() <= limit
    codes = np.concatenate([out.codes, out.pareto.codes, codes[inside]])
    scores = np.concatenate([out.score, out.pareto.score, out.trajectory.score.ravel()[inside]])
    _, first = np.unique(codes, axis=0, return_index=True)
    first.sort()
    codes, scores = codes[first], scores[first]
    order = np.argsort(-scores, kind="stable")
    rest = order[BEST:]
    rest = rest[scores[rest] > scores[order[0]] - 1]
    rest = rest[np.random.default_rng(0).permutation(len(rest))[:OTHERS]]
    keep = np.concatenate([order[:BEST], rest])
    return codes[keep], scores[keep]


def crossed(quarters: list[Predictor], column: str, limit: float, seed: int) -> Codes:
    """Return the code found with one half of the data that the model of the other half likes best."""
    best: list[tuple[float, Codes]] = []
    for finder, other in (quarters, quarters[::-1]):
        out = search.ncp(finder, column, max_macs=limit, seed=seed, **EDITING)
        codes = np.concatenate([out.codes, out.pareto.codes])
        confirmed = other.predict(codes)[0][:, other.names.index(column)]
        best.append((float(confirmed.max()), codes[confirmed.argmax()]))
    return max(best, key=lambda pair: pair[0])[1]


def steps_away(codes: Codes, known: Codes) -> Floats:
    """Return the steps of the grid to the nearest code that a model knows: `(n,)`."""
    points, others = codes / space.STEP, known / space.STEP
    return np.array([np.abs(others - point).sum(axis=1).min() for point in points])


# --- What comes of it ----------------------------------------------------------------------------------


def cases(frame: pd.DataFrame, judge: str) -> dict[str, Floats]:
    """Return each method's scores: `(splits, cases)`, a case being a task and a limit."""
    table = frame.pivot_table(judge, ["method", "split"], ["task", "limit"], sort=False)
    return {name: table.loc[name].to_numpy() for name in frame["method"].unique()}


def verdict(scores: dict[str, Floats], method: str, against: Sequence[str] = RIVALS) -> dict[str, float]:
    """Return how a method does against the best rival of each case.

    wins: the share of cases at least as good in the mean over splits; level: the share of those, or within
    the judge's standard error over splits; monotone: the share of looser limits whose code is no worse than
    that of the limit below, within the standard error; gain: in standard deviations of the table; p: of
    Wilcoxon's test of the cases.
    """
    import scipy.stats

    ours = scores[method]
    rivals = np.array([scores[name] for name in against])
    best = rivals.mean(axis=1).argmax(axis=0)
    margin = ours - rivals[best, :, np.arange(ours.shape[1])].T
    gain, error = margin.mean(axis=0), scipy.stats.sem(margin, axis=0)
    looser = np.diff(ours.reshape(len(ours), -1, len(LIMITS)), axis=2)
    rise, rise_error = looser.mean(axis=0), scipy.stats.sem(looser, axis=0)
    return {
        "wins": float((gain >= 0).mean()),
        "level": float((gain >= -np.nan_to_num(error)).mean()),
        "monotone": float((rise >= -np.nan_to_num(rise_error)).mean()),
        "gain": float(gain.mean()),
        "p": float(scipy.stats.wilcoxon(gain).pvalue) if len(gain) > 1 else float("nan"),
    }


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Return a row for each method and judge, and where the codes lie."""
    tests = [(name, RIVALS) for name in frame["method"].unique() if name not in RIVALS]
    tests.append(("ncp", CAUTIOUS))
    scores = {judge: cases(frame, judge) for judge in JUDGES}
    found = {
        (judge, name, against): verdict(scores[judge], name, against)
        for name, against in tests
        for judge in JUDGES
    }
    # One family of tests: all methods by all judges.
    corrected = dict(zip(found, holm(np.array([v["p"] for v in found.values()])), strict=True))
    rows = []
    for (judge, method, against), v in found.items():
        reached = v["wins"] >= 0.9 and v["level"] == 1 and v["monotone"] == 1
        rows.append(
            Figure(
                f"{method}{' against cautious rivals' * (against == CAUTIOUS)}, judged by {judge}",
                f"wins {v['wins']:.0%}, wins or level {v['level']:.0%}, monotone {v['monotone']:.0%}, "
                f"gain {v['gain']:+.3f} (Holm p {corrected[judge, method, against]:.2g})",
                "wins 90%, level in the rest, monotone",
                bool(reached),
            )
        )
    places = frame.groupby("method", sort=False)[["at_bounds", "distance"]].mean()
    rows += [
        Figure(
            f"where codes lie: {method}",
            f"{row['at_bounds']:.0%} of dimensions at bounds, {row['distance']:.0f} steps from the data",
            "-",
            None,
        )
        for method, row in places.iterrows()
    ]
    return rows


def drawn(frame: pd.DataFrame) -> object:
    """Return the mean gain of each method over the best rival of each case, by each judge."""
    methods = [name for name in frame["method"].unique() if name not in RIVALS]
    figure = plot.figure(plot.PAGE, 3.2)
    panel = figure.subplots()
    looks = plot.styles(JUDGES)
    for k, judge in enumerate(JUDGES):
        scores = cases(frame, judge)
        gains = [verdict(scores, method)["gain"] for method in methods]
        place = np.arange(len(methods)) + 0.2 * k
        panel.barh(place, gains, 0.2, color=looks[judge]["color"], label=judge)
    panel.set_yticks(np.arange(len(methods)) + 0.3, methods, fontsize=7)
    panel.tick_params(axis="x", labelsize=7)
    panel.invert_yaxis()
    panel.axvline(0, color="black", linewidth=0.6)
    panel.set_xlabel(
        "mean gain over the best rival of each case, standard deviations of the table", fontsize=7
    )
    panel.legend(fontsize=7, frameon=False, title="judge", title_fontsize=7)
    return figure


if __name__ == "__main__":
    start(main)
