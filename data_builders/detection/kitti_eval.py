"""KITTI's 3D object detection metric: average precision in the image, from above and in 3D.

    ap = evaluate(predictions, annotations)         # lists of Objects, one a scene
    ap["Car/3d/moderate"]                           # percent

Follows the official development kit with 40 recall points (Simonelli et al., ICCV 2019), its peculiarities
included, so that figures compare with published ones; NumPy only. Boxes may be given in any upright
frame that predictions and annotations share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nasbench_mr.arrays import Floats
from nasbench_mr.data_builders.detection import boxes as geometry
from nasbench_mr.errors import InvalidArgumentError


@dataclass(frozen=True)
class Difficulty:
    """Which objects count: limits on the image box's height (pixels), occlusion level and truncation."""

    name: str
    min_height: float
    max_occlusion: int
    max_truncation: float


DIFFICULTIES = (
    Difficulty("easy", 40, 0, 0.15),
    Difficulty("moderate", 25, 1, 0.30),
    Difficulty("hard", 25, 2, 0.50),
)
METRICS = ("image", "bev", "3d")
#: A detection is correct when its overlap (intersection over union) with an object exceeds this.
MIN_OVERLAP = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
DONT_CARE = "DontCare"
RECALL_POINTS = 40
#: Objects of this class are neither required nor wrong when the key is evaluated.
_NEIGHBOUR = {"car": "van", "pedestrian": "person_sitting"}
_COUNTED, _EXCUSED, _OTHER = 0, 1, -1


@dataclass(frozen=True)
class Objects:
    """The objects of one scene, annotated or predicted.

    Attributes:
        names: `(M,)` class names; "DontCare" marks an image region without annotations.
        boxes: `(M, 7)` as in `boxes`; a DontCare's is not used.
        image_boxes: `(M, 4)` left, top, right, bottom, pixels.
        occlusion: `(M,)` level 0 (visible) to 3 (unknown); annotations only.
        truncation: `(M,)` share outside of the image, 0 to 1; annotations only.
        scores: `(M,)`; predictions only.
    """

    names: Sequence[str]
    boxes: Floats
    image_boxes: Floats
    occlusion: npt.NDArray[np.number] | None = None
    truncation: npt.NDArray[np.number] | None = None
    scores: npt.NDArray[np.floating] | None = None


def evaluate(
    predictions: Sequence[Objects],
    annotations: Sequence[Objects],
    min_overlap: Mapping[str, float] = MIN_OVERLAP,
    metrics: Sequence[str] = ("bev", "3d"),
) -> dict[str, float]:
    """Average precision of each class, metric and difficulty.

    With fewer than 40 objects of a class the precision is known at fewer than 40 recalls, and, as in the
    official code, the others count 0.

    Args:
        predictions, annotations: one of each for each scene, in the same order.
        min_overlap: the classes evaluated and the overlap each requires, the same for all metrics.
        metrics: some of "image", "bev" (from above), "3d". Detections in DontCare regions are excused in
            the image only: the regions have no extent in space.

    Returns:
        {"Car/bev/easy": percent, ...}; NaN where the annotations have no such object.

    Raises:
        InvalidArgumentError: the lists differ in length, or arrays have wrong shapes.
    """
    if len(predictions) != len(annotations):
        raise InvalidArgumentError(f"{len(predictions)} predictions for {len(annotations)} annotated scenes")
    for metric in metrics:
        if metric not in METRICS:
            raise InvalidArgumentError(f"metric is {metric!r}; expected one of {', '.join(METRICS)}")
    truth = _Table.join("annotation", annotations, "occlusion", "truncation")
    found = _Table.join("prediction", predictions, "scores")
    result = {}
    for metric in metrics:
        overlaps = _overlaps(found, truth, metric)
        for name, minimum in min_overlap.items():
            for difficulty in DIFFICULTIES:
                ap = _average_precision(found, truth, overlaps, name, minimum, difficulty)
                result[f"{name}/{metric}/{difficulty.name}"] = ap
    return result


@dataclass(frozen=True)
class _Table:
    """All scenes' objects one after another."""

    scene: npt.NDArray[np.int64]
    names: npt.NDArray[np.str_]
    boxes: Floats
    image_boxes: Floats
    height: Floats
    occlusion: Floats
    truncation: Floats
    scores: Floats

    @classmethod
    def join(cls, what: str, scenes: Sequence[Objects], *needed: str) -> _Table:
        for k, objects in enumerate(scenes):
            shapes = {"boxes": (7,), "image_boxes": (4,)} | dict.fromkeys(needed, ())
            for field, shape in shapes.items():
                value = getattr(objects, field)
                expected = (len(objects.names), *shape)
                if value is None or np.shape(value) != expected:
                    came = "nothing" if value is None else f"shape {np.shape(value)}"
                    raise InvalidArgumentError(f"{what} {k}: {field} has {came}; expected {expected}")
        sizes = [len(objects.names) for objects in scenes]

        def column(field: str, *shape: int) -> Floats:
            empty = np.zeros((0, *shape))
            values = [getattr(objects, field) for objects in scenes] if shape or field in needed else []
            return np.concatenate([empty, *(np.asarray(v, np.float64) for v in values)])

        image_boxes = column("image_boxes", 4)
        return cls(
            np.repeat(np.arange(len(scenes)), sizes),
            np.array([str(name).lower() for objects in scenes for name in objects.names], np.str_),
            column("boxes", 7),
            image_boxes,
            np.abs(image_boxes[:, 3] - image_boxes[:, 1]),
            column("occlusion"),
            column("truncation"),
            column("scores"),
        )


@dataclass(frozen=True)
class _Overlaps:
    """How detections meet objects of their scene.

    Attributes:
        found, truth, overlap: `(P,)` pairs with any overlap, by object, then by detection.
        excused: `(D,)` largest share of each detection that one DontCare region covers.
    """

    found: npt.NDArray[np.intp]
    truth: npt.NDArray[np.intp]
    overlap: Floats
    excused: Floats


def _overlaps(found: _Table, truth: _Table, metric: str) -> _Overlaps:
    # Objects of a scene are contiguous: its pairs follow from the first detection and their number.
    scenes = 1 + max(found.scene.max(initial=-1), truth.scene.max(initial=-1))
    count = np.bincount(found.scene, minlength=scenes)
    first = np.cumsum(count) - count
    per_object = count[truth.scene]
    j = np.repeat(np.arange(len(truth.scene)), per_object)
    i = np.arange(len(j)) - np.repeat(np.cumsum(per_object) - per_object - first[truth.scene], per_object)
    excused = np.zeros(len(found.scene))
    region = truth.names[j] == DONT_CARE.lower()
    if metric == "image":
        covered = geometry.image_pair_overlap(found.image_boxes[i], truth.image_boxes[j], "first")
        np.maximum.at(excused, i[region], covered[region])
        i, j = i[~region], j[~region]
        overlap = geometry.image_pair_overlap(found.image_boxes[i], truth.image_boxes[j])
    else:
        close = geometry.circles_meet(found.boxes[i], truth.boxes[j]) & ~region
        i, j = i[close], j[close]
        bev, volume = geometry.pair_overlap(found.boxes[i], truth.boxes[j])
        overlap = bev if metric == "bev" else volume
    some = overlap > 0
    return _Overlaps(i[some], j[some], overlap[some], excused)


def _average_precision(
    found: _Table, truth: _Table, overlaps: _Overlaps, name: str, minimum: float, difficulty: Difficulty
) -> float:
    role = _roles(truth, name.lower(), difficulty)
    objects = int((role == _COUNTED).sum())
    if objects == 0:
        return float("nan")
    # The official code excuses small detections of whatever class, so one of another class may take an
    # object out of the count; kept for comparable figures.
    small = found.height < difficulty.min_height
    kind = np.where(small, _EXCUSED, np.where(found.names == name.lower(), _COUNTED, _OTHER))
    use = (overlaps.overlap > minimum) & (role[overlaps.truth] != _OTHER) & (kind[overlaps.found] != _OTHER)
    candidates = _by_object(overlaps.truth[use], overlaps.found[use], overlaps.overlap[use])

    thresholds = _recall_thresholds(_hit_scores(candidates, role, kind, found.scores), objects)
    active = found.scores >= thresholds[:, None]  # (T, D)
    hits, assigned = _match(candidates, role, kind, active)
    wrong = active & ~assigned & (kind == _COUNTED) & (overlaps.excused <= minimum)
    misses = wrong.sum(1)
    precision = np.zeros(RECALL_POINTS + 1)
    precision[: len(thresholds)] = hits / np.maximum(hits + misses, 1)
    best_from = np.maximum.accumulate(precision[::-1])[::-1]
    # The first point is recall 0, which says nothing.
    return float(100 * best_from[1:].mean())


def counted(objects: Objects, name: str, difficulty: str) -> npt.NDArray[np.bool_]:
    """Return which of a scene's annotated objects count for a class and a difficulty: `(M,)`.

    A class is measured where at least one does; elsewhere `evaluate` gives NaN.
    """
    truth = _Table.join("annotation", [objects], "occlusion", "truncation")
    [level] = [d for d in DIFFICULTIES if d.name == difficulty]
    return np.asarray(_roles(truth, name.lower(), level) == _COUNTED)


def _roles(truth: _Table, name: str, difficulty: Difficulty) -> npt.NDArray[np.int64]:
    """Of each object: counted, excused (too hard, or of the neighbouring class), or of another class."""
    hard = (
        (truth.occlusion > difficulty.max_occlusion)
        | (truth.truncation > difficulty.max_truncation)
        | (truth.height <= difficulty.min_height)
    )
    own = truth.names == name
    neighbour = truth.names == _NEIGHBOUR.get(name, "")
    return np.where(own & ~hard, _COUNTED, np.where(own | neighbour, _EXCUSED, _OTHER))


_Candidates = list[tuple[int, npt.NDArray[np.intp], Floats]]


def _by_object(truth: npt.NDArray[np.intp], found: npt.NDArray[np.intp], overlap: Floats) -> _Candidates:
    """(object, its detections, their overlaps) for each object that has any."""
    objects, starts = np.unique(truth, return_index=True)
    groups = zip(np.split(found, starts[1:]), np.split(overlap, starts[1:]), strict=True)
    return [(int(j), i, o) for j, (i, o) in zip(objects, groups, strict=False)]


def _hit_scores(
    candidates: _Candidates, role: npt.NDArray[np.int64], kind: npt.NDArray[np.int64], scores: Floats
) -> Floats:
    """Scores of the detections that find a counted object when each takes its best-scored candidate."""
    taken = np.zeros(len(scores), np.bool_)
    hits = []
    for j, found, _ in candidates:
        free = found[~taken[found]]
        if len(free):
            best = free[np.argmax(scores[free])]
            taken[best] = True
            if role[j] == _COUNTED and kind[best] == _COUNTED:
                hits.append(scores[best])
    return np.array(hits, np.float64)


def _recall_thresholds(hits: Floats, objects: int) -> Floats:
    """Return the scores at which recall comes nearest to 0, 1/40, 2/40, ..., as far as it reaches."""
    ordered = np.sort(hits)[::-1]
    thresholds: list[float] = []
    target = 0.0
    for k, score in enumerate(ordered, start=1):
        if k < len(ordered) and (k + 1) / objects - target < target - k / objects:
            continue
        thresholds.append(score)
        target += 1 / RECALL_POINTS
    return np.array(thresholds, np.float64)


def _match(
    candidates: _Candidates,
    role: npt.NDArray[np.int64],
    kind: npt.NDArray[np.int64],
    active: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Objects in order take their best-overlapping free detection, at every threshold at once.

    Args:
        active: `(T, D)` which detections exist at which threshold.

    Returns:
        `(T,)` counted objects found, and `(T, D)` detections taken.
    """
    free = active.copy()
    hits = np.zeros(len(active), np.int64)
    for j, found, overlap in candidates:
        usable = free[:, found]  # (T, k)
        # Counted detections come first, by overlap; else the first excused one.
        rank = np.where(kind[found] == _COUNTED, overlap, -1.0 - np.arange(len(found)))
        choice = np.where(usable, rank, -np.inf).argmax(1)
        rows = np.flatnonzero(usable.any(1))
        taken = found[choice[rows]]
        free[rows, taken] = False
        if role[j] == _COUNTED:
            hits[rows] += kind[taken] == _COUNTED
    return hits, active & ~free
