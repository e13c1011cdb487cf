"""Box geometry: cases worked out by hand, and polygons by shapely."""

import math

import numpy as np
import pytest
import shapely

from nasbench_mr.data_builders.detection import boxes
from nasbench_mr.errors import InvalidArgumentError


def box(x=0.0, y=0.0, z=0.0, dx=2.0, dy=1.0, dz=1.0, heading=0.0):
    return np.array([[x, y, z, dx, dy, dz, heading]])


def random_boxes(rng, count, spread=3.0):
    return np.column_stack(
        [
            rng.uniform(-spread, spread, (count, 3)),
            rng.uniform(0.3, 5, (count, 3)),
            rng.uniform(-7, 7, count),
        ]
    )


def polygon(b):
    turn = np.array([[math.cos(b[6]), -math.sin(b[6])], [math.sin(b[6]), math.cos(b[6])]])
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * b[3:5] / 2
    return shapely.Polygon(corners @ turn.T + b[:2])


@pytest.mark.parametrize(
    ("a", "b", "area"),
    [
        (box(), box(), 2.0),
        (box(), box(x=1), 1.0),
        (box(), box(x=1, y=0.5), 0.5),
        (box(), box(x=2), 0.0),  # they touch
        (box(), box(x=5), 0.0),
        (box(dx=1), box(dx=1, heading=math.pi / 2), 1.0),
        (box(), box(heading=math.pi / 2), 1.0),  # a cross: the unit square in the middle
        (box(), box(heading=math.pi), 2.0),
        (box(dx=4, dy=4), box(dx=1, dy=1, heading=0.3), 1.0),  # one inside the other
        # Unit squares, one turned by 45 degrees: a regular octagon, 2 * sqrt(2) - 2.
        (box(dx=1), box(dx=1, heading=math.pi / 4), 2 * math.sqrt(2) - 2),
        # Its corner at (sqrt(2) / 2, 0) reaches over the edge x = 0.5: a right angle of that height.
        (box(x=1, dx=1, dy=4), box(dx=1, heading=math.pi / 4), (math.sqrt(0.5) - 0.5) ** 2),
    ],
)
def test_areas_by_hand(a, b, area):
    assert boxes.intersection_bev(a, b)[0] == pytest.approx(area, abs=1e-12)
    assert boxes.intersection_bev(b, a)[0] == pytest.approx(area, abs=1e-12)


def test_areas_as_shapely_has_them():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 2000), random_boxes(rng, 2000)
    b[:200, 6] = a[:200, 6] + rng.integers(-4, 5, 200) * math.pi / 2  # parallel edges
    b[100:200, :2] = a[100:200, :2]  # and the same centre
    b[200:300] = a[200:300]
    expected = [polygon(p).intersection(polygon(q)).area for p, q in zip(a, b, strict=True)]
    assert boxes.intersection_bev(a, b) == pytest.approx(np.array(expected), abs=1e-9)


def test_overlaps_by_hand():
    a, b = box(dz=2), box(x=1, z=1, dz=2)
    bev, volume = boxes.pair_overlap(a, b)
    assert bev[0] == pytest.approx(1 / 3)  # 1 of 2 + 2 - 1
    assert volume[0] == pytest.approx(1 / 7)  # 1 * 1 of 4 + 4 - 1
    bev, volume = boxes.pair_overlap(a, b, over="first")
    assert (bev[0], volume[0]) == pytest.approx((1 / 2, 1 / 4))
    with pytest.raises(InvalidArgumentError, match="union"):
        boxes.pair_overlap(a, b, over="second")


def test_all_pairs_are_the_pairs():
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 30, 8), random_boxes(rng, 20, 8)
    bev, volume = boxes.overlaps(a, b)
    for i in range(30):
        one, other = boxes.pair_overlap(np.repeat(a[i : i + 1], 20, 0), b)
        assert bev[i] == pytest.approx(one, abs=1e-12)
        assert volume[i] == pytest.approx(other, abs=1e-12)


def test_image_overlap_by_hand():
    a, b = np.array([[0.0, 0, 4, 2]]), np.array([[2.0, 1, 6, 3]])
    assert boxes.image_pair_overlap(a, b)[0] == pytest.approx(2 / 14)
    assert boxes.image_pair_overlap(a, b, "first")[0] == pytest.approx(2 / 8)
    assert boxes.image_pair_overlap(a, a + 10)[0] == 0
    assert boxes.image_pair_overlap(a * 0, a * 0)[0] == 0


def plain_suppress(found, scores, threshold):
    kept = []
    for i in sorted(range(len(found)), key=lambda i: (-scores[i], i)):
        if all(boxes.overlaps(found[[i]], found[[j]])[0][0, 0] <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.01, 0.4])
def test_suppression_equals_the_plain_one(threshold):
    rng = np.random.default_rng(2)
    found = random_boxes(rng, 80, 8)
    scores = rng.integers(0, 20, 80) / 20  # with ties
    expected = plain_suppress(found, scores, threshold)
    assert boxes.suppress(found, scores, threshold).tolist() == expected
    assert boxes.suppress(found, scores, threshold, keep=5).tolist() == expected[:5]
    assert boxes.suppress(found[:0], scores[:0], threshold).tolist() == []


def test_points_inside():
    turned = box(x=1, dx=4, dy=2, dz=2, heading=math.pi / 2)  # x in [0, 2], y in [-2, 2], z in [-1, 1]
    points = np.array([[1, 1.9, 0], [1, 2.1, 0], [2.1, 0, 0], [1.9, 0, 1.0], [1, 0, 1.1]], np.float32)
    assert boxes.points_inside(points, turned).tolist() == [[True, False, False, True, False]]
    assert boxes.points_inside(points, turned, margin=0.2).all()


def test_corners():
    eight = boxes.corners(box(z=1, heading=math.pi / 2))[0]
    assert sorted(eight.round(9).tolist()) == sorted(
        [x, y, z] for x in (-0.5, 0.5) for y in (-1.0, 1.0) for z in (0.5, 1.5)
    )
    assert (eight[:4, 2] == 0.5).all()  # the lower four first


def test_projection_to_the_image():
    # A camera that looks along x: pixels u = 100 - 50 y / x, v = 50 - 50 z / x.
    projection = np.array([[100.0, -50, 0, 0], [50, 0, -50, 0], [1, 0, 0, 0]])
    cube = box(x=5, dx=2, dy=2, dz=2)  # nearest face at x = 4
    found = boxes.to_image(np.concatenate([cube, box(x=-5), box(x=5, y=40)]), projection, (101, 201))
    assert found[0] == pytest.approx([100 - 12.5, 50 - 12.5, 100 + 12.5, 50 + 12.5])
    assert found[1].tolist() == [0, 0, 0, 0]  # behind
    assert found[2, 0] == found[2, 2] == 0  # outside, at the left edge


@pytest.mark.parametrize("change", ["flip x", "flip y", "rotate", "scale"])
def test_points_stay_in_their_boxes(change):
    rng = np.random.default_rng(3)
    scene = random_boxes(rng, 6, 10)
    points = rng.uniform(-12, 12, (3000, 4)).astype(np.float32)
    kind, _, axis = change.partition(" ")
    if kind == "flip":
        moved, changed = boxes.flip(points, scene, axis)
    elif kind == "rotate":
        moved, changed = boxes.rotate(points, scene, 0.7)
    else:
        moved, changed = boxes.scale(points, scene, 1.5)
    before, after = boxes.points_inside(points, scene, 1e-4), boxes.points_inside(moved, changed, 1e-4)
    assert before.any()
    assert (before != after).mean() < 1e-4  # rounding at the faces
    assert np.array_equal(moved[:, 3], points[:, 3])
    assert not np.array_equal(moved, points)


def test_angles_are_wrapped():
    angles = np.array([-math.pi, math.pi, 3.5 * math.pi, 0.5])
    assert boxes.wrap(angles) == pytest.approx([-math.pi, -math.pi, -0.5 * math.pi, 0.5])


def test_malformed_boxes_are_refused():
    assert boxes.check([]).shape == (0, 7)
    with pytest.raises(InvalidArgumentError, match=r"\(N, 7\)"):
        boxes.check(np.zeros((2, 6)))
    with pytest.raises(InvalidArgumentError, match="NaN"):
        boxes.check(box(x=math.nan))
    with pytest.raises(InvalidArgumentError, match="0 or less"):
        boxes.check(box(dx=0.0))
