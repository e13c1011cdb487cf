"""PointPillars: each part against a plain one, and the whole on a scene it must learn."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from nasbench_mr import space
from nasbench_mr.data_builders.detection import boxes as geometry
from nasbench_mr.data_builders.detection import network as detection
from nasbench_mr.data_builders.detection import targets
from nasbench_mr.data_builders.detection.config import KITTI, AnchorClass, DetectionConfig
from nasbench_mr.data_builders.detection.scenes import PADDING, ObjectBank, Scene, augment, collate
from nasbench_mr.data_builders.detection.targets import BACKGROUND, IGNORED
from nasbench_mr.data_builders.training import recipes, scans
from nasbench_mr.errors import InvalidArgumentError, RecipeError

CODE = tuple(1 if k in space.DEPTH_DIMS else 16 for k in range(space.DIM))
#: 16 x 16 pillars of a metre.
SMALL = DetectionConfig(
    classes=(
        AnchorClass("Car", (3.9, 1.6, 1.56), -1.78, 0.6, 0.45),
        AnchorClass("Pedestrian", (0.8, 0.6, 1.73), -0.6, 0.5, 0.35),
    ),
    point_range=(0.0, -8.0, -3.0, 16.0, 8.0, 1.0),
    pillar=(1.0, 1.0),
    channels=8,
    norm_momentum=0.1,
)


def scene(seed=0, points=400, cars=2):
    """Cars full of points on an empty plain, and points anywhere, some outside of the range."""
    rng = np.random.default_rng(seed)
    boxes = np.array(
        [[3.0 + 6 * k, rng.uniform(-4, 4), -1, 3.9, 1.6, 1.56, rng.uniform(-3, 3)] for k in range(cars)]
    )
    loose = rng.uniform([-2, -9, -4, 0], [18, 9, 2, 1], (points, 4))
    solid = [np.column_stack([rng.uniform(-0.7, 0.7, (60, 3)) + box[:3], np.full(60, 0.9)]) for box in boxes]
    return Scene(np.concatenate([loose, *solid]).astype(np.float32), boxes, np.zeros(cars, np.int64))


def test_the_published_setting():
    assert KITTI.grid == (496, 432)
    assert KITTI.map_size == (248, 216)
    assert KITTI.names == ("Car", "Pedestrian", "Cyclist")
    assert [c.size for c in KITTI.classes] == [(3.9, 1.6, 1.56), (0.8, 0.6, 1.73), (1.76, 0.6, 1.73)]
    assert [c.bottom for c in KITTI.classes] == [-1.78, -0.6, -0.6]
    assert [(c.matched, c.unmatched) for c in KITTI.classes] == [(0.6, 0.45), (0.5, 0.35), (0.5, 0.35)]
    assert [c.paste for c in KITTI.classes] == [15, 15, 15]
    assert KITTI.headings == (0.0, math.pi / 2)
    assert (KITTI.max_points, KITTI.max_pillars, KITTI.channels) == (32, (16_000, 40_000), 64)
    assert KITTI.weights == (1.0, 2.0, 0.2)
    assert KITTI.direction_offset == 0.78539
    assert (KITTI.rotation, KITTI.scaling, KITTI.paste_min_points) == (math.pi / 4, (0.95, 1.05), 5)
    assert (KITTI.score_threshold, KITTI.nms_threshold) == (0.1, 0.01)
    assert (KITTI.nms_before, KITTI.nms_after) == (4096, 500)


def test_wrong_settings_are_refused():
    with pytest.raises(InvalidArgumentError, match=r"divisor of the range, 69\.12 m"):
        dataclasses.replace(KITTI, pillar=(0.17, 0.16))
    with pytest.raises(InvalidArgumentError, match="lows below highs"):
        dataclasses.replace(KITTI, point_range=(0, 0, 0, 0, 1, 1))
    with pytest.raises(InvalidArgumentError, match="at least one class"):
        dataclasses.replace(KITTI, classes=())


def plain_pillars(scenes, config, training):
    """{(scene, row, column): points kept}, pillars and points in order of appearance."""
    low, high = np.array(config.point_range[:3]), np.array(config.point_range[3:])
    found = {}
    for k, one in enumerate(scenes):
        own = {}
        for point in one.points.astype(np.float64):
            if (point[:3] < low).any() or (point[:3] >= high).any():
                continue
            column, row = ((point[:2] - low[:2]) / config.pillar).astype(int)
            cell = (k, row, column)
            if cell not in own:
                if len(own) == config.max_pillars[0 if training else 1]:
                    continue
                own[cell] = []
            if len(own[cell]) < config.max_points:
                own[cell].append(point)
        found |= own
    return found


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("limits", [(32, (1000, 1000)), (2, (1000, 1000)), (3, (40, 60))])
def test_pillars_equal_the_plain_ones(limits, training):
    config = dataclasses.replace(SMALL, max_points=limits[0], max_pillars=limits[1])
    scenes = [scene(0), scene(1, points=0, cars=0), scene(2, points=150)]
    features, cell = detection.pillarize(collate(scenes, config), config, training)
    expected = plain_pillars(scenes, config, training)
    assert len(features) == sum(map(len, expected.values()))
    assert (cell.diff() >= 0).all()
    for (k, row, column), points in expected.items():
        mine = features[cell == (k * 16 + row) * 16 + column].numpy()
        points = np.array(points)
        centre = np.array([0.0, -8.0]) + np.array([column, row]) + 0.5
        whole = np.column_stack([points, points[:, :3] - points[:, :3].mean(0), points[:, :2] - centre])
        assert mine == pytest.approx(whole, abs=1e-4)


def test_a_scene_is_encoded_alike_in_any_batch():
    torch.manual_seed(0)
    encoder = detection.PillarEncoder(SMALL).eval()
    first, empty, second = scene(0), scene(1, points=0, cars=0), scene(2)
    image = encoder(collate([first, empty, second], SMALL))
    assert image.shape == (3, 8, 16, 16)
    assert torch.allclose(image[2:], encoder(collate([second], SMALL)), atol=1e-6)
    assert not image[1].any()
    occupied = {(row, column) for _, row, column in plain_pillars([first], SMALL, False)}
    outside = [(r, c) for r in range(16) for c in range(16) if (r, c) not in occupied]
    assert not any(image[0, :, r, c].any() for r, c in outside)


def test_anchors_are_on_the_map():
    anchors = targets.make_anchors(SMALL)
    assert anchors.shape == (4, 8, 8, 7)
    assert anchors[0, 0, 0].tolist() == pytest.approx([1, -7, -1, 3.9, 1.6, 1.56, 0])
    assert anchors[1, 2, 3].tolist() == pytest.approx([7, -3, -1, 3.9, 1.6, 1.56, math.pi / 2])
    assert anchors[2, 7, 7].tolist() == pytest.approx([15, 7, 0.265, 0.8, 0.6, 1.73, 0])


def test_decoding_undoes_encoding():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand((50, 7), generator=generator) * 5 + 0.2
    anchors = torch.rand((50, 7), generator=generator) * 5 + 0.2
    assert torch.allclose(targets.decode(targets.encode(boxes, anchors), anchors), boxes, atol=1e-5)
    by_hand = targets.encode(
        torch.tensor([[5.0, 4, 1, 6, 4, 2, 1.0]]), torch.tensor([[0.0, 0, 0, 3, 4, 1, 0.5]])
    )
    assert by_hand[0].tolist() == pytest.approx([1, 0.8, 1, math.log(2), 0, math.log(2), 0.5])


def plain_assign(config, anchors, boxes, labels):
    """Nearest axis-aligned overlaps, anchor by anchor, for one scene."""

    def rectangle(b):
        turned = abs(math.remainder(b[6], math.pi)) > math.pi / 4
        dx, dy = (b[4], b[3]) if turned else (b[3], b[4])
        return np.array([b[0] - dx / 2, b[1] - dy / 2, b[0] + dx / 2, b[1] + dy / 2])

    groups, height, width = anchors.shape[:3]
    result = np.full((groups, height, width), BACKGROUND)
    owner = np.zeros((groups, height, width), int)
    for label, cls in enumerate(config.classes):
        own = [m for m in range(len(boxes)) if labels[m] == label]
        if not own:
            continue
        places = list(np.ndindex(groups, height, width))
        places = [p for p in places if p[0] // len(config.headings) == label]
        table = np.zeros((len(own), len(places)))
        for a, m in enumerate(own):
            for b, p in enumerate(places):
                pair = rectangle(boxes[m])[None], rectangle(anchors[p])[None]
                table[a, b] = geometry.image_pair_overlap(*pair)[0]
        for b, p in enumerate(places):
            best = table[:, b].max()
            owner[p] = own[table[:, b].argmax()]
            if best >= cls.matched:
                result[p] = label
            elif best >= cls.unmatched:
                result[p] = IGNORED
        for a, m in enumerate(own):
            top = table[a].max()
            for b in np.flatnonzero((table[a] > top - 1e-6) & (top > 0)):
                result[places[b]], owner[places[b]] = label, m
    return result, owner


def test_targets_equal_the_plain_ones():
    rng = np.random.default_rng(0)
    anchors = targets.make_anchors(SMALL)
    for _ in range(3):
        count = 5
        labels = rng.integers(0, 2, count)
        sizes = np.array([c.size for c in SMALL.classes])[labels] * rng.uniform(0.8, 1.25, (count, 3))
        boxes = np.column_stack(
            [rng.uniform([0, -8, -1], [16, 8, 0], (count, 3)), sizes, rng.uniform(-7, 7, count)]
        )
        found, owner = targets.assign(
            SMALL, anchors, torch.tensor(boxes[None], dtype=torch.float32), torch.tensor(labels[None])
        )
        expected, owners = plain_assign(SMALL, anchors.double().numpy(), boxes, labels)
        assert np.array_equal(found[0].numpy(), expected)
        positive = expected >= 0
        assert positive.any()
        assert np.array_equal(owner[0].numpy()[positive], owners[positive])


def test_padding_is_never_a_target():
    batch = collate([scene(0, cars=2), scene(1, cars=0)], SMALL)
    assert batch.labels.tolist() == [[0, 0], [-1, -1]]
    labels, _ = targets.assign(SMALL, targets.make_anchors(SMALL), batch.boxes, batch.labels)
    assert (labels[0] >= 0).any()
    assert (labels[1] == BACKGROUND).all()


def test_focal_loss_by_hand():
    logits = torch.tensor([0.0, 2.0, 2.0])
    wanted = torch.tensor([True, True, False])
    p = 1 / (1 + math.exp(-2))
    expected = [
        -0.25 * 0.5**2 * math.log(0.5),
        -0.25 * (1 - p) ** 2 * math.log(p),
        -0.75 * p**2 * math.log(1 - p),
    ]
    assert targets.focal_loss(logits, wanted, 0.25, 2.0).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_a_batch_is_the_mean_of_its_scenes():
    torch.manual_seed(0)
    net = detection.DetectionNet(CODE, SMALL).eval()
    batch = collate([scene(0), scene(1, cars=1)], SMALL)
    maps = net(batch)
    whole = net.loss(maps, batch)
    single = [
        net.loss(maps[k : k + 1], collate([s], SMALL)) for k, s in enumerate([scene(0), scene(1, cars=1)])
    ]
    for name in whole._fields:
        mean = sum(getattr(part, name) for part in single) / 2
        assert float(getattr(whole, name).detach()) == pytest.approx(float(mean.detach()), rel=1e-5)
    parts = whole.classification + 2 * whole.box + 0.2 * whole.direction
    assert float(whole.total.detach()) == pytest.approx(float(parts.detach()), rel=1e-6)
    whole.total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_a_perfect_map_is_decoded_to_the_boxes():
    """Residuals and directions of the true boxes at their best anchors give the boxes back."""
    torch.manual_seed(0)
    net = detection.DetectionNet(CODE, SMALL)
    one = scene(3)
    batch = collate([one], SMALL)
    labels, owner = targets.assign(SMALL, net.anchors, batch.boxes, batch.labels)
    maps = torch.zeros(1, 4, 2 + 7 + 2, 8, 8)
    maps[:, :, :2] = -10
    for group, row, column in torch.nonzero(labels[0] >= 0).tolist():
        box = batch.boxes[0, owner[0, group, row, column]]
        maps[0, group, 0, row, column] = 3 + row  # any scores; the best of each box is kept
        maps[0, group, 2:9, row, column] = targets.encode(box, net.anchors[group, row, column])
        behind = (float(box[6]) - SMALL.direction_offset) % (2 * math.pi) >= math.pi
        maps[0, group, 9 + int(behind), row, column] = 5.0
    (found,) = net.decode(maps)
    order = np.argsort(found.boxes[:, 0])
    assert found.boxes[order, :6] == pytest.approx(one.boxes[:, :6], abs=1e-4)
    turns = geometry.wrap(found.boxes[order, 6] - one.boxes[:, 6])
    assert turns == pytest.approx(np.zeros(2), abs=1e-4)
    assert (np.diff(found.scores) <= 0).all()
    assert found.labels.tolist() == [0, 0]
    assert len(net.decode(maps * math.nan)[0].boxes) == 0


def test_it_learns_one_scene():
    torch.manual_seed(0)
    net = detection.DetectionNet(CODE, SMALL)
    one = scene(4, points=50)
    batch = collate([one, one], SMALL)
    optimizer = torch.optim.AdamW(net.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss = net.loss(net(batch), batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 5
    with torch.no_grad():
        found = net.decode(net(batch))[0]  # with the batch's own statistics
    bev, _ = geometry.overlaps(one.boxes, found.boxes)
    assert (bev.max(1) > 0.5).all()


def test_the_network_is_that_of_the_code():
    net = detection.DetectionNet(CODE, SMALL, width_mult=0.5)
    convolutions = [net.trunk.stem[k][0] for k in (0, 1)]
    assert [c.in_channels for c in convolutions] == [8, 8]
    assert [c.stride for c in convolutions] == [(2, 2), (1, 1)]
    maps = net.eval()(collate([scene(0)], SMALL))
    assert maps.shape == (1, 4, 2 + 7 + 2, 8, 8)
    assert maps[:, :, :2].sigmoid().mean() < 0.05  # it starts from nearly nothing found


def test_pasting_adds_what_fits():
    config = dataclasses.replace(
        SMALL, classes=(dataclasses.replace(SMALL.classes[0], paste=3), SMALL.classes[1])
    )
    bank = ObjectBank([scene(k, points=0) for k in range(4)], config)
    assert len(bank) == 8
    one = scene(7, cars=1)
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(10):
        pasted = bank.paste(one, rng)
        sizes.add(len(pasted.boxes))
        assert np.array_equal(pasted.boxes[:1], one.boxes)
        overlaps = geometry.overlaps(pasted.boxes, pasted.boxes)[0]
        assert (overlaps[~np.eye(len(overlaps), dtype=bool)] == 0).all()
        # Nothing but the pasted object's own points, which are bright, is where it stands.
        inside = geometry.points_inside(pasted.points, pasted.boxes)[1:]
        assert (inside.sum(1) >= 5).all()
        assert (pasted.points[inside.any(0), 3] == np.float32(0.9)).all()
    assert max(sizes) in (2, 3)
    few = ObjectBank([scene(0)], dataclasses.replace(config, paste_min_points=10_000))
    assert len(few) == 0
    assert few.paste(one, rng) is one


def test_augmentation_keeps_points_in_boxes():
    one = scene(0)
    inside = geometry.points_inside(one.points, one.boxes, 0.01).sum(1)
    for seed in range(5):
        changed = augment(one, SMALL, np.random.default_rng(seed))
        assert len(changed.points) == len(one.points)
        again = geometry.points_inside(changed.points, changed.boxes, 0.01).sum(1)
        assert np.abs(again - inside).max() <= 2  # a scaled margin
        assert not np.allclose(changed.boxes, one.boxes)
        assert np.allclose(changed.boxes[:, 3:6] / one.boxes[:, 3:6], changed.boxes[0, 3] / one.boxes[0, 3])


def test_malformed_scenes_are_refused():
    one = scene(0)
    with pytest.raises(InvalidArgumentError, match=r"scene 1: points have shape"):
        collate([one, dataclasses.replace(one, points=one.points[:, :3])], SMALL)
    with pytest.raises(InvalidArgumentError, match=r"expected 2 in \[0, 2\)"):
        collate([dataclasses.replace(one, labels=np.array([0, 2]))], SMALL)
    far = dataclasses.replace(one, boxes=one.boxes + np.eye(7)[0] * 100)
    assert collate([far], SMALL).labels.tolist() == [[PADDING]]


def test_settings_of_a_recipe():
    config = scans.configure(recipes.get("mini-det3d"))
    assert config.names == ("Car",)
    assert config.grid == (32, 32)
    assert scans.configure(recipes.get("3ddet")) == KITTI
    for changes, message in (
        ({"pillars": 3}, "no 'pillars': did you mean 'pillar'"),
        ({"pillar": [0.3, 0.8]}, "divisor"),
        ({"classes": [{"name": "Car"}]}, "missing"),
        ({"classes": 3}, "detection"),
    ):
        with pytest.raises(RecipeError, match=message):
            scans.configure(dataclasses.replace(recipes.get("mini-det3d"), detection=changes))


def test_scenes_and_objects_of_a_sample():
    sample = {
        "points": np.zeros((3, 4), np.float32),
        "boxes": np.tile(np.array([5, 0, 0, 4, 2, 1.5, 0], np.float32), (3, 1)),
        "label": np.array([0, 2, 1]),
        "image_boxes": np.zeros((3, 4), np.float32),
        "occlusion": np.zeros(3, np.int64),
        "truncation": np.zeros(3, np.float32),
        "projection": np.array([[100.0, -50, 0, 0], [50, 0, -50, 0], [1, 0, 0, 0]], np.float32),
        "image_size": np.array([101, 201]),
    }
    classes = ("Pedestrian", "DontCare", "Car")
    one = scans.scene(sample, classes, SMALL)
    assert one.labels.tolist() == [1, 0]
    assert len(one.boxes) == 2
    assert scans.annotation(sample, classes).names == ["Pedestrian", "Car", "DontCare"]
    boxes = np.array([[5, 0, 0, 4, 2, 1.5, 0], [-5, 0, 0, 4, 2, 1.5, 0]], float)
    found = detection.Detections(boxes, np.array([0.9, 0.8]), np.array([0, 1]))
    seen = scans.prediction(found, sample, SMALL)  # the one behind the camera is left out
    assert seen.names == ["Car"]
    assert seen.scores.tolist() == [0.9]


def test_metrics_of_the_tasks():
    ap = {f"Car/3d/{level}": v for level, v in (("easy", 3.0), ("moderate", 2.0), ("hard", 1.0))}
    ap |= {"Car/bev/moderate": 5.0, "Pedestrian/3d/moderate": math.nan, "Cyclist/3d/moderate": 4.0}
    found = scans.average_precisions(ap)
    assert found == {"easy": 3.0, "moderate": 2.0, "hard": 1.0, "bev": 5.0, "mAP": 3.0}


def test_nothing_is_pasted_into_objects_of_other_classes():
    """A van, say, where cars are trained: `scans.scene` keeps its box for this."""
    config = dataclasses.replace(SMALL, classes=(dataclasses.replace(SMALL.classes[0], paste=5),))
    bank = ObjectBank([scene(k, points=0) for k in range(4)], config)
    empty = Scene(np.zeros((0, 4), np.float32), np.zeros((0, 7)), np.zeros(0, np.int64))
    free = bank.paste(empty, np.random.default_rng(0))
    assert len(free.boxes) > 0
    everywhere = np.array([[8.0, 0, -1, 30, 30, 4, 0]])
    taken = bank.paste(dataclasses.replace(empty, others=everywhere), np.random.default_rng(0))
    assert len(taken.boxes) == 0


def test_a_scene_keeps_the_boxes_of_other_classes():
    boxes = np.array([[5.0, 0, -1, 4, 2, 2, 0], [9, 1, -1, 5, 2, 2, 0], [0, 0, 0, 0, 0, 0, 0]], np.float32)
    sample = {"points": np.zeros((0, 4), np.float32), "boxes": boxes, "label": np.array([0, 3, 8])}
    classes = ("Car", "Pedestrian", "Cyclist", "Van", "Person_sitting", "Truck", "Tram", "Misc", "DontCare")
    found = scans.scene(sample, classes, SMALL)
    assert found.boxes.tolist() == [boxes[0].tolist()]
    assert found.others.tolist() == [boxes[1].tolist()]
