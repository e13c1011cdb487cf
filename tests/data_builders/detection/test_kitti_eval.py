"""KITTI's metric against the official development kit's algorithm, written out here loop by loop."""

import math

import numpy as np
import pytest

from nasbench_mr.data_builders.detection import boxes as geometry
from nasbench_mr.data_builders.detection.kitti_eval import DIFFICULTIES, MIN_OVERLAP, Objects, evaluate
from nasbench_mr.errors import InvalidArgumentError

NEIGHBOURS = {"Car": "Van", "Pedestrian": "Person_sitting"}


def overlaps(metric, found, truth, over="union"):
    """Of every detection with every object: `[i][j]`."""
    if metric != "image":
        return geometry.overlaps(found.boxes, truth.boxes, over)[0 if metric == "bev" else 1]
    table = np.zeros((len(found.names), len(truth.names)))
    for i, j in np.ndindex(table.shape):
        table[i, j] = geometry.image_pair_overlap(found.image_boxes[[i]], truth.image_boxes[[j]], over)[0]
    return table


def clean(found, truth, name, difficulty):
    """Return the kit's cleanData: 0 counts, 1 is ignored, -1 is of another class."""
    ignored_truth, ignored_found = [], []
    for j, kind in enumerate(truth.names):
        box = truth.image_boxes[j]
        hard = (
            truth.occlusion[j] > difficulty.max_occlusion
            or truth.truncation[j] > difficulty.max_truncation
            or box[3] - box[1] <= difficulty.min_height
        )
        if kind == name and not hard:
            ignored_truth.append(0)
        elif kind in (name, NEIGHBOURS.get(name)):
            ignored_truth.append(1)
        else:
            ignored_truth.append(-1)
    for i, kind in enumerate(found.names):
        if abs(found.image_boxes[i, 3] - found.image_boxes[i, 1]) < difficulty.min_height:
            ignored_found.append(1)
        else:
            ignored_found.append(0 if kind == name else -1)
    return ignored_truth, ignored_found


def statistics(found, truth, table, covered, name, difficulty, minimum, threshold=None):
    """Return the kit's computeStatistics: true positives, false positives, scores of the true positives."""
    ignored_truth, ignored_found = clean(found, truth, name, difficulty)
    assigned = [False] * len(found.names)
    below = [threshold is not None and s < threshold for s in found.scores]
    tp, scores = 0, []
    for j in range(len(truth.names)):
        if ignored_truth[j] == -1:
            continue
        best, value, taken_ignored = None, None, False
        for i in range(len(found.names)):
            if ignored_found[i] == -1 or assigned[i] or below[i]:
                continue
            shared = table[i, j]
            if shared <= minimum:
                continue
            if threshold is None:
                if best is None or found.scores[i] > value:
                    best, value = i, found.scores[i]
            elif ignored_found[i] == 0:
                if best is None or taken_ignored or shared > value:
                    best, value, taken_ignored = i, shared, False
            elif best is None:
                best, taken_ignored = i, True
        if best is None:
            continue
        assigned[best] = True
        if ignored_truth[j] == 0 and ignored_found[best] == 0:
            tp += 1
            scores.append(found.scores[best])
    free = [i for i in range(len(found.names)) if not assigned[i] and ignored_found[i] == 0 and not below[i]]
    fp = len(free)
    for j, kind in enumerate(truth.names):
        for i in list(free) if kind == "DontCare" else []:
            if covered is not None and covered[i, j] > minimum:
                free.remove(i)
                fp -= 1
    return tp, fp, scores


def thresholds(scores, objects):
    """Return the kit's getThresholds."""
    scores = sorted(scores, reverse=True)
    recall, result = 0.0, []
    for i, score in enumerate(scores):
        left = (i + 1) / objects
        right = (i + 2) / objects if i < len(scores) - 1 else left
        if right - recall < recall - left and i < len(scores) - 1:
            continue
        result.append(score)
        recall += 1 / 40
    return result


def plain_ap(scenes, name, difficulty, minimum):
    objects = sum(clean(f, t, name, difficulty)[0].count(0) for f, t, _, _ in scenes)
    if not objects:
        return math.nan
    scores = [s for scene in scenes for s in statistics(*scene, name, difficulty, minimum)[2]]
    precision = [0.0] * 41
    for k, threshold in enumerate(thresholds(scores, objects)):
        parts = [statistics(*scene, name, difficulty, minimum, threshold) for scene in scenes]
        tp, fp = sum(p[0] for p in parts), sum(p[1] for p in parts)
        precision[k] = tp / (tp + fp) if tp + fp else 0.0
    for k in range(41):
        precision[k] = max(precision[k:])
    return 100 * sum(precision[1:]) / 40


def annotated(names, boxes, image_boxes, occlusion=None, truncation=None):
    count = len(names)
    return Objects(
        names,
        np.asarray(boxes, float).reshape(count, 7),
        np.asarray(image_boxes, float).reshape(count, 4),
        np.zeros(count) if occlusion is None else np.asarray(occlusion),
        np.zeros(count) if truncation is None else np.asarray(truncation),
    )


def predicted(names, boxes, image_boxes, scores):
    count = len(names)
    return Objects(
        names,
        np.asarray(boxes, float).reshape(count, 7),
        np.asarray(image_boxes, float).reshape(count, 4),
        scores=np.asarray(scores, float),
    )


def random_scenes(rng, count):
    predictions, annotations = [], []
    kinds = ["Car", "Car", "Car", "Pedestrian", "Cyclist", "Van", "Person_sitting", "DontCare"]
    for _ in range(count):
        m = int(rng.integers(0, 9))
        names = rng.choice(kinds, m).tolist()
        centres = rng.uniform(0, 30, (m, 2))
        boxes = np.column_stack(
            [centres, np.zeros(m), np.tile([3.9, 1.6, 1.5], (m, 1)), rng.uniform(-3, 3, m)]
        )
        low = rng.uniform(0, 300, (m, 2))
        image = np.column_stack([low, low + rng.choice([24, 30, 60, 90, 120], (m, 2))])
        annotations.append(
            annotated(
                names,
                boxes,
                image,
                rng.choice([0, 0, 0, 1, 2, 3], m),
                rng.choice([0, 0, 0.1, 0.2, 0.4, 0.7], m),
            )
        )
        # Copies of the objects, more or less moved, some twice, some of another class; and inventions.
        copies = rng.integers(0, m, int(rng.integers(m, 2 * m + 1))) if m else np.zeros(0, int)
        k = len(copies)
        moved = boxes[copies] + rng.normal(0, 0.06, (k, 7)) * rng.integers(0, 2, (k, 1))
        shown = image[copies] + rng.normal(0, 3, (k, 4)) * rng.integers(0, 2, (k, 1))
        kind = [
            names[c]
            if rng.random() < 0.95 and names[c] in MIN_OVERLAP
            else str(rng.choice(list(MIN_OVERLAP)))
            for c in copies
        ]
        extra = int(rng.integers(0, 2))
        kind += rng.choice(list(MIN_OVERLAP), extra).tolist()
        moved = np.concatenate([moved, np.tile([20.0, 0, 0, 3.9, 1.6, 1.5, 0], (extra, 1))])
        shown = np.concatenate([shown, np.tile([0.0, 0, 50, 50], (extra, 1))])
        # Scores in steps of 0.05, so that there are ties.
        predictions.append(predicted(kind, moved, shown, rng.integers(1, 20, k + extra) / 20))
    return predictions, annotations


@pytest.mark.parametrize("metric", ["image", "bev", "3d"])
def test_it_equals_the_official_algorithm(metric):
    rng = np.random.default_rng(0)
    for count in (4, 60):
        predictions, annotations = random_scenes(rng, count)
        found = evaluate(predictions, annotations, MIN_OVERLAP, (metric,))
        scenes = [
            (f, t, overlaps(metric, f, t), overlaps(metric, f, t, "first") if metric == "image" else None)
            for f, t in zip(predictions, annotations, strict=True)
        ]
        values = []
        for name, minimum in MIN_OVERLAP.items():
            for difficulty in DIFFICULTIES:
                expected = plain_ap(scenes, name, difficulty, minimum)
                value = found[f"{name}/{metric}/{difficulty.name}"]
                assert value == pytest.approx(expected, abs=1e-9, nan_ok=True)
                values.append(value)
        assert len(found) == 9
    assert 5 < np.mean(values) < 95  # the last, large set is neither hopeless nor perfect


CAR = [10.0, 0, 0, 4, 2, 1.5, 0]
SEEN = [100.0, 100, 200, 180]


def eighty(change=lambda scene, k: scene):
    """80 scenes with a car each, found; `change` alters the prediction of scene k."""
    annotations = [annotated(["Car"], [CAR], [SEEN])] * 80
    predictions = [change(predicted(["Car"], [CAR], [SEEN], [0.9 - k / 100]), k) for k in range(80)]
    return predictions, annotations


def test_perfect_and_none():
    assert set(evaluate(*eighty(), {"Car": 0.7}).values()) == {100.0}
    nothing = predicted([], [], [], [])
    assert set(evaluate(*eighty(lambda scene, k: nothing), {"Car": 0.7}).values()) == {0.0}
    assert all(math.isnan(v) for v in evaluate([nothing], [annotated([], [], [])]).values())


def test_half_the_recall_is_half_the_precision():
    nothing = predicted([], [], [], [])
    found = evaluate(*eighty(lambda scene, k: scene if k < 40 else nothing), {"Car": 0.7}, ("3d",))
    assert found["Car/3d/moderate"] == pytest.approx(50)


def test_few_objects_reach_few_recalls():
    # With as many objects as points, the first threshold stands for recall 0 and none is left for the last.
    predictions, annotations = (scenes[:40] for scenes in eighty())
    found = evaluate(predictions, annotations, {"Car": 0.7}, ("3d",))
    assert found["Car/3d/moderate"] == pytest.approx(100 * 39 / 40)


def test_a_false_one_in_every_scene_halves_precision():
    def doubled(scene, k):
        return predicted(["Car", "Car"], [CAR, [40.0, *CAR[1:]]], [SEEN, SEEN], [scene.scores[0]] * 2)

    assert evaluate(*eighty(doubled), {"Car": 0.7}, ("3d",))["Car/3d/moderate"] == pytest.approx(50)


def test_limits_of_the_difficulties():
    """An object at each limit: that of height is excluded, those of occlusion and truncation are not."""

    def ap(image, occlusion=0, truncation=0.0):
        scenes = [annotated(["Car"], [CAR], [image], [occlusion], [truncation])] * 40
        found = evaluate([predicted(["Car"], [CAR], [image], [0.5])] * 40, scenes, {"Car": 0.7}, ("3d",))
        return [not math.isnan(found[f"Car/3d/{d.name}"]) for d in DIFFICULTIES]

    assert ap([0, 0, 50, 41]) == [True, True, True]
    assert ap([0, 0, 50, 40]) == [False, True, True]
    assert ap([0, 0, 50, 26]) == [False, True, True]
    assert ap([0, 0, 50, 25]) == [False, False, False]
    assert ap(SEEN, occlusion=1) == [False, True, True]
    assert ap(SEEN, occlusion=2) == [False, False, True]
    assert ap(SEEN, occlusion=3) == [False, False, False]
    assert ap(SEEN, truncation=0.15) == [True, True, True]
    assert ap(SEEN, truncation=0.16) == [False, True, True]
    assert ap(SEEN, truncation=0.3) == [False, True, True]
    assert ap(SEEN, truncation=0.5) == [False, False, True]
    assert ap(SEEN, truncation=0.51) == [False, False, False]


def test_dont_care_regions_excuse_in_the_image():
    far = [300.0, 100, 400, 200]

    def with_a_false_one(scene, k):
        return predicted(["Car", "Car"], [CAR, [40.0, *CAR[1:]]], [SEEN, far], [scene.scores[0], 0.95])

    predictions, annotations = eighty(with_a_false_one)
    metrics = ("image", "3d")
    without = evaluate(predictions, annotations, {"Car": 0.7}, metrics)
    assert without["Car/image/moderate"] == pytest.approx(50)
    excused = [annotated(["Car", "DontCare"], [CAR, [0] * 7], [SEEN, far], [0, -1], [0, -1])] * 80
    found = evaluate(predictions, excused, {"Car": 0.7}, metrics)
    assert found["Car/image/moderate"] == pytest.approx(100)
    assert found["Car/3d/moderate"] == without["Car/3d/moderate"]


def test_vans_are_neither_cars_nor_wrong():
    other = [40.0, *CAR[1:]]

    def with_the_van(scene, k):
        return predicted(["Car", "Car"], [CAR, other], [SEEN, SEEN], [scene.scores[0], 0.95])

    predictions, _ = eighty(with_the_van)
    scenes = [annotated(["Car", "Van"], [CAR, other], [SEEN, SEEN])] * 80
    assert evaluate(predictions, scenes, {"Car": 0.7}, ("3d",))["Car/3d/moderate"] == pytest.approx(100)
    scenes = [annotated(["Car", "Truck"], [CAR, other], [SEEN, SEEN])] * 80
    assert evaluate(predictions, scenes, {"Car": 0.7}, ("3d",))["Car/3d/moderate"] == pytest.approx(50)


def test_malformed_input_is_refused():
    scene, found = annotated(["Car"], [CAR], [SEEN]), predicted(["Car"], [CAR], [SEEN], [0.5])
    with pytest.raises(InvalidArgumentError, match="1 predictions for 2 annotated"):
        evaluate([found], [scene, scene])
    with pytest.raises(InvalidArgumentError, match="prediction 0: scores has nothing"):
        evaluate([scene], [scene])
    with pytest.raises(InvalidArgumentError, match="annotation 0: occlusion"):
        evaluate([found], [found])
    with pytest.raises(InvalidArgumentError, match="metric is '4d'"):
        evaluate([found], [scene], metrics=("4d",))
