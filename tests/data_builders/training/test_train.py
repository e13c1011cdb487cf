"""Training on tiny data sets made here: it learns, resumes, diverges, and is shared by processes."""

import contextlib
import dataclasses
import errno
import functools
import gc
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nasbench_mr import space, tasks, weights
from nasbench_mr.data_builders import datasets, generate
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.building.trial import Trial
from nasbench_mr.data_builders.datasets.images import Cifar10
from nasbench_mr.data_builders.training import inputs, recipes
from nasbench_mr.data_builders.training import train as training
from nasbench_mr.errors import (
    DatasetError,
    InvalidArgumentError,
    RecipeError,
    StorageError,
)

#: The smallest network that is not degenerate.
CODE = tuple(1 if k in space.DEPTH_DIMS else 16 for k in range(space.DIM))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return data sets of every problem in which the label is easily seen."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for label, name in enumerate(Cifar10.CLASSES):
            (folder / "cifar10" / split / name).mkdir(parents=True)
            for k in range(count):
                # The hue is the class.
                colour = [127 + 120 * math.cos(2 * math.pi * (label / 10 + c / 3)) for c in range(3)]
                pixels = np.clip(colour + rng.normal(0, 10, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "cifar10" / split / name / f"{k}.png")
    for split, count in (("train", 12), ("val", 4)):
        for kind in (split, f"{split}annot"):
            (folder / "camvid" / kind).mkdir(parents=True)
        for k in range(count):
            # Blocks of 8 x 8 pixels, bright ones of class 3, dark ones of class 5; the left edge is void.
            blocks = np.kron(rng.integers(0, 2, (5, 6)), np.ones((8, 8), int))
            mask = np.where(blocks == 1, 3, 5).astype(np.uint8)
            mask[:, :2] = 11
            pixels = np.clip(60 + 120 * blocks[..., None] + rng.normal(0, 10, (40, 48, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "camvid" / split / f"{k}.png")
            Image.fromarray(mask).save(folder / "camvid" / f"{split}annot" / f"{k}.png")
    generate.make("hmdb51", folder / "hmdb51", train=4, val=2, classes=3, length=6, size=(32, 32))
    generate.make("kitti", folder / "kitti", train=6, val=3, view=60.0, rings=24, resolution=0.8, reach=25.0)
    return folder


RECIPES = {
    "classification": recipes.override(
        recipes.get("mini-cls"), {"train_samples": 0, "epochs": 4, "batch_size": 16, "width_mult": 0.25}
    ),
    "segmentation": recipes.override(
        recipes.get("mini-seg"), {"data_options": {}, "epochs": 4, "batch_size": 4, "width_mult": 0.25}
    ),
    "video": recipes.override(
        recipes.get("mini-video"),
        {"data_options": {"frames": 6}, "train_samples": 0, "epochs": 2, "batch_size": 6, "width_mult": 0.25},
    ),
    "detection": recipes.override(
        recipes.get("mini-det3d"), {"train_samples": 0, "epochs": 2, "batch_size": 3, "width_mult": 0.25}
    ),
}


DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def same(a, b):
    """Whether two results agree in everything but times."""
    assert a.metrics == pytest.approx(b.metrics, nan_ok=True, abs=0, rel=0)
    for name in a.curve:
        if name != "seconds":
            assert np.array_equal(a.curve[name], b.curve[name], equal_nan=True), name


@pytest.mark.parametrize("problem", ["classification", "detection"])
def test_kept_weights_are_of_the_last_epoch(data, problem, tmp_path):
    recipe, told = RECIPES[problem], []
    result = training.train(
        CODE, recipe, 1, "cpu", data=data, weights=tmp_path / "w.safetensors", on_epoch=told.append
    )
    found = weights.read(tmp_path / "w.safetensors")
    assert (found.code, found.task, found.seed) == (CODE, recipe.task, 1)
    assert (found.metrics, found.digest) == (result.metrics, recipe.digest)
    net = training.load(tmp_path / "w.safetensors", recipe)
    assert training.workload(recipe, data).evaluate(net) == {
        **training.workload(recipe, data).evaluate(net), **result.metrics
    }  # fmt: skip
    assert [point["epoch"] for point in told] == result.curve["epoch"].tolist()
    assert [point["loss"] for point in told] == result.curve["loss"].tolist()
    if problem == "detection":
        with pytest.raises(RecipeError, match="was trained by another recipe 'mini-det3d' than there is now"):
            training.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("problem", RECIPES)
def test_every_problem_trains(data, problem, device):
    recipe = RECIPES[problem]
    result = training.train(CODE, recipe, seed=1, device=device, data=data)
    names = [m.name for m in tasks.get(recipe.task).metrics]
    assert list(result.metrics) == names
    assert list(result.curve) == ["epoch", *names, "loss", "lr", "seconds"]
    assert result.curve["epoch"].tolist() == list(range(1, recipe.epochs + 1))
    assert (result.code, result.task, result.seed) == (CODE, recipe.task, 1)
    assert (result.status, result.error, result.epochs) == ("ok", None, recipe.epochs)
    assert result.device == training.device_name(torch.device(device))
    assert result.seconds == result.curve["seconds"][-1] > 0
    assert np.isfinite(result.curve["loss"]).all()
    assert result.curve["loss"][-1] < result.curve["loss"][0]
    for name in names:
        assert result.curve[name][-1] == result.metrics[name]
        assert 0 <= result.metrics[name] <= 100


class Crossings(TorchDispatchMode):
    """Counts copies of CPU tensors to another device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].device != out.device:
            self.count += 1
        return out


@pytest.mark.parametrize("problem", [name for name in RECIPES if name != "detection"])
def test_steps_of_pictures_never_wait_for_the_device(data, problem):
    """So that a GPU's work can be recorded as a graph, and is queued ahead of it.

    On a device without values, reading one fails, as does mixing tensors with the CPU's.
    """
    recipe = recipes.override(RECIPES[problem], {"photometric": problem != "video"})
    run = training._Run(CODE, recipe, 0, torch.device("meta"), data)
    assert run.work.fixed_shapes
    run.net.train()
    batches = run.work.batches(0, 0)
    run._gradients(run.net, next(batches))  # constants are copied once, and indices once an epoch
    with Crossings() as crossings:
        loss = run._gradients(run.net, next(batches))
        torch.nn.utils.clip_grad_norm_(run.parameters, 1.0)
    assert crossings.count == 0
    assert loss.shape == ()
    assert loss.device.type == "meta"
    assert all(p.grad.device.type == "meta" for p in run.parameters)


class Recording(TorchDispatchMode):
    """What a CUDA graph does, on the CPU: the kernels that ran, run again on the same memory."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def test_replayed_steps_equal_those_that_are_not(data, monkeypatch):
    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **options: graph)
    recipe = recipes.override(RECIPES["classification"], {"clip_norm": 1.0})
    run = training._Run(CODE, recipe, 0, torch.device("cpu"), data)
    assert not run.recorded
    run.recorded = True
    replayed = run.train(None, progress=False)
    assert len(run._graph.graph.calls) > 100
    same(replayed, training.train(CODE, recipe, 0, "cpu", data=data))


@pytest.mark.parametrize("problem", RECIPES)
def test_every_problem_trains_and_evaluates_in_bfloat16(data, problem, monkeypatch):
    """As GPUs do, here on the CPU: no step may need another type."""
    autocast = functools.partial(torch.autocast, "cpu", torch.bfloat16, cache_enabled=False)
    monkeypatch.setattr(training._Run, "_autocast", lambda self: autocast())
    recipe = RECIPES[problem]
    rounded = training.train(CODE, recipe, 1, "cpu", data=data)
    monkeypatch.undo()
    exact = training.train(CODE, recipe, 1, "cpu", data=data)
    assert rounded.status == "ok"
    assert rounded.curve["loss"][0] != exact.curve["loss"][0]
    assert rounded.curve["loss"][0] == pytest.approx(exact.curve["loss"][0], rel=0.02)
    assert list(rounded.metrics) == list(exact.metrics)


def test_it_learns_what_is_easily_seen(data):
    longer = recipes.override(RECIPES["classification"], {"epochs": 12, "width_mult": 1.0, "batch_size": 8})
    classes = training.train(CODE, longer, data=data)
    assert classes.metrics["top1"] > 50  # 10 by chance
    longer = recipes.override(RECIPES["segmentation"], {"epochs": 12, "width_mult": 1.0})
    blocks = training.train(CODE, longer, data=data)
    assert blocks.metrics["aAcc"] > 75  # about 50 by chance


def test_the_seed_decides_and_global_generators_are_untouched(data):
    recipe = recipes.override(RECIPES["classification"], {"epochs": 1})
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    first = training.train(CODE, recipe, seed=3, device="cpu", data=data)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002
    same(first, training.train(CODE, recipe, seed=3, device="cpu", data=data))
    other = training.train(CODE, recipe, seed=4, device="cpu", data=data)
    assert other.curve["loss"][0] != first.curve["loss"][0]


@pytest.mark.parametrize(("problem", "workers"), [("classification", 1), ("video", 0), ("detection", 0)])
def test_streamed_data_equal_held_data(data, problem, workers):
    recipe = recipes.override(RECIPES[problem], {"epochs": 2})
    held = training.train(CODE, recipe, device="cpu", data=data)
    streamed = recipes.override(recipe, {"resident": False, "workers": workers})
    same(held, training.train(CODE, streamed, device="cpu", data=data))


@pytest.mark.parametrize("channels", ["rgb", "motion"])
def test_clips_are_cropped_for_the_test_wherever_they_are(data, channels):
    changes = {"test_resize": 48, "test_crop": (40, 36), "input": channels, "workers": 0}
    batches = []
    for resident in (True, False):
        recipe = recipes.override(RECIPES["video"], changes, {"resident": resident})
        work = training.workload(recipe, data)
        batches.append(list(work.source.validation()))
    for held, streamed in zip(*batches, strict=True):
        assert held[0].shape[-2:] == (40, 36)
        assert torch.equal(held[0], streamed[0])
        assert torch.equal(held[1], streamed[1])


@pytest.mark.parametrize("resident", [True, False])
def test_splits_of_other_classes_are_refused(data, tmp_path, resident):
    generate.make("hmdb51", tmp_path / "more", train=4, val=2, classes=4, length=6, size=(32, 32))
    (tmp_path / "hmdb51").mkdir()
    for split, root in (("train", tmp_path / "more"), ("val", data / "hmdb51")):
        datasets.pack(
            datasets.load("hmdb51", root, split, frames=6), tmp_path / "hmdb51" / f"{split}.safetensors"
        )
    recipe = recipes.override(RECIPES["video"], {"resident": resident, "workers": 0})
    with pytest.raises(
        DatasetError, match=r"hmdb51: label \d is .* in train \(4 classes\) and .* in val \(3\)"
    ):
        training.workload(recipe, tmp_path)


@pytest.mark.parametrize("kind", ["classification", "detection"])
def test_reading_processes_end_with_what_they_are_for(data, kind):
    """Validation's with each evaluation, training's with the trial; none waits for the garbage collector."""
    recipe = recipes.override(RECIPES[kind], {"resident": False, "workers": 1})
    before = set(multiprocessing.active_children())
    gc.collect()
    gc.disable()
    try:
        work = training.workload(recipe, data, "cpu")
        net = training.network(work, CODE, 0).eval()
        for batch in work.batches(0, 0):
            work.loss(net.train(), batch)
        reading = set(multiprocessing.active_children()) - before
        with torch.no_grad():
            work.evaluate(net.eval())
        assert set(multiprocessing.active_children()) - before == reading
        assert len(reading) == 1
        del work, batch
        assert set(multiprocessing.active_children()) == before
    finally:
        gc.enable()


@pytest.mark.parametrize("resident", [True, False])
def test_a_corrupt_picture_is_named(data, tmp_path, resident):
    shutil.copytree(data / "cifar10", tmp_path / "cifar10")
    (tmp_path / "cifar10" / "train" / "cat" / "3.png").write_bytes(b"no picture")
    recipe = recipes.override(RECIPES["classification"], {"resident": resident, "workers": 1})
    with pytest.raises(DatasetError, match=r"^[^\n]*cat/3\.png: not a readable image[^\n]*$"):
        training.train(CODE, recipe, device="cpu", data=tmp_path)


_KILLED = """
import sys
from nasbench_mr.data_builders.training import recipes, train as training
recipe = recipes.from_dict(recipes.read(sys.argv[1]))
print("started", flush=True)
training.train({code}, recipe, 2, "cpu", data=sys.argv[2], checkpoint=sys.argv[3])
"""


def test_a_killed_trial_resumes_to_the_same_numbers(data, tmp_path):
    recipe = recipes.override(RECIPES["classification"], {"epochs": 12})
    recipe.save(tmp_path / "recipe.json")
    checkpoint = tmp_path / "checkpoint"
    arguments = [str(tmp_path / "recipe.json"), str(data), str(checkpoint)]
    process = subprocess.Popen([sys.executable, "-c", _KILLED.format(code=CODE), *arguments])
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = epochs_of(checkpoint)
    assert 0 < before < recipe.epochs
    resumed = training.train(CODE, recipe, 2, "cpu", data=data, checkpoint=checkpoint)
    same(resumed, training.train(CODE, recipe, 2, "cpu", data=data))
    assert epochs_of(checkpoint) == recipe.epochs
    # A finished trial is only read.
    again = training.train(CODE, recipe, 2, "cpu", data=data, checkpoint=checkpoint)
    same(again, resumed)
    assert again.seconds == resumed.seconds


def epochs_of(checkpoint):
    from safetensors import safe_open

    with safe_open(checkpoint, "pt") as file:
        return len(json.loads(file.metadata()["progress"])["rows"])


def test_a_checkpoint_that_not_all_processes_see_is_refused(data, tmp_path, monkeypatch):
    """Else each would resume at another epoch, and wait for the others forever."""
    recipe = recipes.override(RECIPES["classification"], {"epochs": 1})
    checkpoint = tmp_path / "checkpoint"
    training.train(CODE, recipe, device="cpu", data=data, checkpoint=checkpoint)
    monkeypatch.setattr(inputs.Share, "gather", lambda self, parts: [*parts, False])
    with pytest.raises(InvalidArgumentError, match="only 1 of 2 processes see the checkpoint"):
        training.train(CODE, recipe, device="cpu", data=data, checkpoint=checkpoint)


def test_checkpoints_of_others_are_refused(data, tmp_path):
    recipe = recipes.override(RECIPES["classification"], {"epochs": 1})
    checkpoint = tmp_path / "checkpoint"
    training.train(CODE, recipe, device="cpu", data=data, checkpoint=checkpoint)
    with pytest.raises(InvalidArgumentError, match="another run"):
        training.train(CODE, recipe, 1, "cpu", data=data, checkpoint=checkpoint)
    changed = recipes.override(recipe, {"lr": 0.006})
    with pytest.raises(InvalidArgumentError, match="another run"):
        training.train(CODE, changed, device="cpu", data=data, checkpoint=checkpoint)
    shutil.copytree(data / "cifar10", tmp_path / "cifar10")
    next((tmp_path / "cifar10" / "val").rglob("*.png")).unlink()
    told = r"another run: data\.val\.samples 30, data\.val\.sha256 .*; expected data\.val\.samples 29, "
    with pytest.raises(InvalidArgumentError, match=told):
        training.train(CODE, recipe, device="cpu", data=tmp_path, checkpoint=checkpoint)


def test_a_checkpoint_without_space_says_so_and_the_last_one_stays(data, tmp_path, monkeypatch):
    recipe = recipes.override(RECIPES["classification"], {"epochs": 2})
    checkpoint = tmp_path / "checkpoint"
    write, written = Path.write_bytes, []

    def filling(path, content):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", filling)
        with pytest.raises(StorageError, match="the disk is full; free some space"):
            training.train(CODE, recipe, 2, "cpu", data=data, checkpoint=checkpoint)
    assert epochs_of(checkpoint) == 1
    resumed = training.train(CODE, recipe, 2, "cpu", data=data, checkpoint=checkpoint)
    same(resumed, training.train(CODE, recipe, 2, "cpu", data=data))


def test_a_first_batch_without_anything_to_find_is_no_measure(data, monkeypatch):
    """As of scans without an object, or of pixels without a class."""
    plain = training.Pictures.loss
    calls = []

    def loss(self, model, batch):
        calls.append(batch)
        return plain(self, model, batch) * (1e-4 if len(calls) == 1 else 1)

    monkeypatch.setattr(training.Pictures, "loss", loss)
    result = training.train(CODE, RECIPES["classification"], device="cpu", data=data)
    assert result.curve["loss"][0] > training.EXPLODED * 1e-3
    assert result.status == "ok"


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e9])
def test_divergence_is_recorded(data, loss, tmp_path, monkeypatch):
    plain = training.Pictures.loss
    calls = []

    def diverging(self, model, batch):
        calls.append(len(batch[1]))
        return plain(self, model, batch) * (loss if len(calls) > 8 else 1)

    monkeypatch.setattr(training.Pictures, "loss", diverging)
    recipe = RECIPES["classification"]  # 5 batches an epoch
    checkpoint = tmp_path / "checkpoint"
    result = training.train(CODE, recipe, device="cpu", data=data, checkpoint=checkpoint)
    assert result.status == "diverged"
    assert "in epoch 2" in result.error
    assert result.epochs == len(result.curve["loss"]) == 2
    assert all(math.isnan(v) for v in result.metrics.values())
    assert np.isfinite(result.curve["top1"][0])
    same(training.train(CODE, recipe, device="cpu", data=data, checkpoint=checkpoint), result)


_SHARED = """
import json, sys
from nasbench_mr.data_builders.training import recipes, train as training
for path, data in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    recipe = recipes.from_dict(recipes.read(path))
    result = training.train({code}, recipe, 0, "cpu", data=data)
    curve = {{k: v.tolist() for k, v in result.curve.items()}}
    open(f"{{path}}.{{training.Share.here().rank}}", "w").write(json.dumps(curve))
"""


def test_two_processes_equal_one(data, tmp_path):
    """Also where there are fewer samples to validate on than processes, and one to train on for each."""
    few = tmp_path / "few"
    for kind, names in (("train", "01"), ("trainannot", "01"), ("val", "0"), ("valannot", "0")):
        (few / "camvid" / kind).mkdir(parents=True)
        for name in names:
            shutil.copy(data / "camvid" / kind / f"{name}.png", few / "camvid" / kind)
    runs = {}
    for problem, folder in (("segmentation", data), ("detection", data), ("segmentation", few)):
        # Plain SGD, as Adam turns rounding errors of tiny gradients into whole steps.
        changes = {"epochs": 2, "batch_size": 4, "eval_every": 1, "optimizer": "sgd", "lr": 0.02}
        path = tmp_path / f"{problem}-{folder.name}.json"
        recipes.override(RECIPES[problem], changes).save(path)
        runs[path] = folder
    script = tmp_path / "script.py"
    script.write_text(_SHARED.format(code=CODE))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(script), *(str(part) for run in runs.items() for part in run)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    for path, folder in runs.items():
        alone = training.train(CODE, recipes.from_dict(recipes.read(path)), 0, "cpu", data=folder)
        for rank in (0, 1):
            curve = json.loads(Path(f"{path}.{rank}").read_text())
            assert curve["loss"] == pytest.approx(alone.curve["loss"], rel=1e-4)
            for name in alone.metrics:
                assert curve[name] == pytest.approx(alone.curve[name], abs=0.5)


def test_synchronised_batch_norm_is_batch_norm():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        for make, shape in ((torch.nn.BatchNorm2d, (4, 3, 5, 6)), (torch.nn.BatchNorm1d, (9, 3))):
            plain, shared = make(3, dtype=torch.float64), make(3, dtype=torch.float64)
            training.SyncBatchNorm.convert(shared)
            generator = torch.Generator().manual_seed(0)
            x = torch.randn(shape, dtype=torch.float64, generator=generator) * 3 + 1
            outputs, gradients = [], []
            for norm in (plain, shared):
                own = x.clone().requires_grad_()
                outputs.append(norm(own))
                (outputs[-1] ** 3).sum().backward()
                gradients.append([own.grad, norm.weight.grad, norm.bias.grad])
            assert torch.allclose(*outputs)
            for a, b in zip(*gradients, strict=True):
                assert torch.allclose(a, b)
            assert torch.allclose(plain.running_mean, shared.running_mean)
            assert torch.allclose(plain.running_var, shared.running_var)
            assert torch.allclose(plain.eval()(x), shared.eval()(x))
    finally:
        torch.distributed.destroy_process_group()


def test_schedules():
    def rates(**fields):
        recipe = dataclasses.replace(recipes.get("cls-50-1000"), lr=1.0, **fields)
        return [training.schedule(recipe, step, 100) for step in range(100)]

    cosine = [rate for rate, _ in rates()]
    assert cosine[0] == 1
    assert cosine[50] == pytest.approx(0.5)
    assert cosine[99] == pytest.approx((1 + math.cos(0.99 * math.pi)) / 2)
    warm = [rate for rate, _ in rates(warmup=0.1)]
    assert warm[:10] == pytest.approx([k / 11 for k in range(1, 11)])
    assert warm[10] == 1
    poly = [rate for rate, _ in rates(schedule="poly", min_lr=0.01)]
    assert poly[25] == pytest.approx(0.01 + 0.99 * 0.75**0.9)
    cycle = rates(schedule="onecycle", warmup=0.4)
    assert cycle[0] == pytest.approx((0.1, 0.95))
    assert cycle[20] == pytest.approx((0.55, 0.9))
    assert cycle[40] == pytest.approx((1, 0.85))
    assert cycle[99][0] < 0.001


def test_optimisers():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    recipe = recipes.get("mini-cls")
    whole = training.optimizer(net, recipe)
    assert [len(g["params"]) for g in whole.param_groups] == [4]
    split = training.optimizer(net, dataclasses.replace(recipe, decay_norm=False))
    assert [(len(g["params"]), g["weight_decay"]) for g in split.param_groups] == [(1, 0.01), (3, 0.0)]


def test_pretrained_trunks(data, tmp_path):
    first = recipes.register(
        dataclasses.replace(RECIPES["classification"], name="first", epochs=1, stem_strides=(2, 2))
    )
    try:
        recipe = dataclasses.replace(RECIPES["video"], pretrained="first")
        recipe_digest = recipe.digest
        run = training._Run(CODE, recipe, 0, torch.device("cpu"), data)
        seconds = run._pretrain(tmp_path / "checkpoint", progress=False)
        trunk = training._Run(CODE, first, 0, torch.device("cpu"), data)
        trunk.train(None, progress=False)
        for name, value in run.net.state_dict().items():
            if not name.startswith("head.classifier."):
                assert torch.equal(value, trunk.net.state_dict()[name]), name
        assert run.net.head.classifier.out_channels == tasks.get(recipe.task).num_classes
        assert epochs_of(tmp_path / f"checkpoint.first-{first.digest}") == 1
        # They count as the trial's.
        whole = training.train(CODE, recipe, 0, "cpu", data=data, checkpoint=tmp_path / "checkpoint")
        assert whole.seconds > whole.curve["seconds"][0] > seconds > 0
        # What trains differently has another digest, and workers train as it is here.
        recipes.register(dataclasses.replace(first, epochs=2))
        assert dataclasses.replace(recipe).digest != recipe_digest
        with runner.Builder(recipe, tmp_path / "out", data=data, workers=1, device="cpu") as builder:
            report = builder.run([Trial(CODE, recipe.task, 0)])
        assert report.tasks[recipe.task].ok == 1
        again = training.train(CODE, recipe, 0, "cpu", data=data)
        built = pd.read_parquet(tmp_path / "out" / "parts" / recipe.task)
        assert json.loads(built["curve"][0])["loss"] == pytest.approx(again.curve["loss"].tolist(), rel=1e-5)
        assert again.curve["loss"][0] != pytest.approx(whole.curve["loss"][0], rel=1e-5)
    finally:
        del recipes.RECIPES._entries["first"]


def test_what_can_not_start_from_another_recipe(data):
    cases = {
        "wide": ({"width_mult": 0.5}, "tensors of its trunk have none of their name and shape there"),
        "wild": ({"epochs": 1, "lr": 1e6, "clip_norm": 0.0}, None),
    }
    for name, (changes, message) in cases.items():
        recipes.register(dataclasses.replace(RECIPES["classification"], name=name, **changes))
        try:
            recipe = dataclasses.replace(RECIPES["video"], pretrained=name)
            if message:
                with pytest.raises(RecipeError, match=message):
                    training.train(CODE, recipe, 0, "cpu", data=data)
                continue
            result = training.train(CODE, recipe, 0, "cpu", data=data)
            assert result.status == "diverged"
            assert result.error.startswith("pretraining by 'wild': the loss is")
            assert (result.epochs, len(result.curve["loss"])) == (0, 0)
            assert all(math.isnan(value) for value in result.metrics.values())
            assert result.seconds > 0
        finally:
            del recipes.RECIPES._entries[name]
    detector = dataclasses.replace(RECIPES["detection"], pretrained="mini-cls")
    with pytest.raises(RecipeError, match=r"trunk"):
        training.train(CODE, detector, 0, "cpu", data=data)
    recipes.register(dataclasses.replace(RECIPES["video"], name="self", pretrained="self"))
    try:
        with pytest.raises(RecipeError, match="pretrained leads from 'self' back to it"):
            recipes.get("self").digest  # noqa: B018
    finally:
        del recipes.RECIPES._entries["self"]


def test_what_a_detector_is_to_find_is_there_and_measured(data):
    recipe = RECIPES["detection"]
    (car,) = recipe.detection["classes"]
    for name, message in (
        ("Van", r"'moderate' of task 'mini-det3d' is of 'Car', and its detection is of Van; add the class"),
        ("Carr", "kitti has no class 'Carr': did you mean 'Car'"),
    ):
        changed = {**recipe.detection, "classes": [{**car, "name": name}]}
        with pytest.raises(RecipeError, match=message):
            training.train(CODE, dataclasses.replace(recipe, detection=changed), data=data)


def test_units_start_as_identities(data):
    recipe = RECIPES["classification"]
    assert recipe.zero_residual
    net = training.network(training.workload(recipe, data), CODE, 0)
    units = [m for m in net.modules() if isinstance(m, training.ResidualUnit)]
    x = torch.rand(2, units[0].conv1.in_channels, 4, 4)
    assert units
    assert torch.equal(units[0](x), x)


def test_what_does_not_fit_is_refused(data, tmp_path):
    recipe = RECIPES["classification"]
    with pytest.raises(RecipeError, match="no recipe 'mini-clss'"):
        training.train(CODE, "mini-clss", data=data)
    for problem, changes, message in (
        ("video", {"frames": 0}, "frames is 0, input 'motion'; expected frames above 0"),
        ("segmentation", {"frames": 2}, "frames is 2, input 'rgb'; expected frames 0 and input rgb"),
        ("segmentation", {"input": "motion"}, "frames is 0, input 'motion'; expected frames 0"),
        ("segmentation", {"dataset": "cifar10"}, "cifar10 is for classification, the recipe's task for segm"),
        (
            "classification",
            {"dataset": "camvid", "resident": False},
            "camvid is for segmentation, the recipe's task for class",
        ),
    ):
        with pytest.raises(RecipeError, match=message):
            training.train(CODE, dataclasses.replace(RECIPES[problem], **changes), data=data)
    with pytest.raises(DatasetError, match="nothing"):
        training.train(CODE, recipe, data=tmp_path / "nothing")
    with pytest.raises(RecipeError, match="train_samples is 1,000; the data set has 80"):
        training.train(CODE, dataclasses.replace(recipe, train_samples=1000), data=data)
    tasks.register(dataclasses.replace(tasks.get("mini-cls"), name="few", num_classes=4))
    try:
        with pytest.raises(RecipeError, match="has 10 classes"):
            training.train(CODE, dataclasses.replace(recipe, task="few"), data=data)
    finally:
        del tasks._REGISTRY["few"]


def test_chosen_samples_are_balanced():
    labels = np.repeat([0, 1, 2], [50, 30, 4])
    chosen = inputs.choose(84, 24, labels)
    assert np.bincount(labels[chosen]).tolist() == [10, 10, 4]
    assert np.array_equal(chosen, inputs.choose(84, 24, labels))
    assert np.array_equal(inputs.choose(84, 0), np.arange(84))


def test_processes_share_every_batch():
    whole = list(inputs.Plan(23, 8, inputs.Share()).epoch(seed=1, epoch=2))
    assert [len(index) for index, _ in whole] == [8, 8]
    assert len(set(torch.cat([index for index, _ in whole]).tolist())) == 16
    parts = [list(inputs.Plan(23, 8, inputs.Share(rank, 2)).epoch(seed=1, epoch=2)) for rank in (0, 1)]
    for (index, u), (even, u_even), (odd, u_odd) in zip(whole, *parts, strict=True):
        assert index[0::2].tolist() == even.tolist()
        assert index[1::2].tolist() == odd.tolist()
        assert torch.equal(u[0::2], u_even)
        assert torch.equal(u[1::2], u_odd)
    with pytest.raises(
        RecipeError, match="a batch of 3 can't be shared evenly by 4 processes; start 1, 3, or"
    ):
        inputs.Plan(8, 3, inputs.Share(0, 4))
    # Of 63 it would be another training.
    with pytest.raises(
        RecipeError, match="64 can't be shared evenly by 3 processes; start 1, 2, 4, 8, 16, 32"
    ):
        inputs.Plan(100, 64, inputs.Share(0, 3))


def test_processes_repeat_samples_where_they_are_fewer():
    parts = [list(inputs.Plan(3, 8, inputs.Share(rank, 4)).epoch(seed=1, epoch=2)) for rank in range(4)]
    drawn = [index.tolist() for ((index, _),) in parts]
    assert sorted(index for part in drawn[:3] for index in part) == [0, 1, 2]
    assert drawn[3] == drawn[0]
    assert torch.equal(parts[3][0][1], parts[0][0][1])


def test_validation_that_cannot_be_measured_stops_before_training(data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "network", lambda *args: pytest.fail("it trains"))
    shutil.copytree(data / "camvid", tmp_path / "camvid")
    for path in (tmp_path / "camvid" / "valannot").iterdir():
        Image.fromarray(np.full((40, 48), 11, np.uint8)).save(path)  # void
    for resident in (True, False):
        recipe = recipes.override(RECIPES["segmentation"], {"resident": resident, "workers": 0})
        with pytest.raises(DatasetError, match="camvid val: no pixel has a class, so task 'mini-seg' can't"):
            training.train(CODE, recipe, device="cpu", data=tmp_path)
    shutil.copytree(data / "kitti", tmp_path / "kitti")
    for path in (tmp_path / "kitti" / "training" / "label_2").iterdir():
        path.write_text(path.read_text().replace("Car ", "Van "))
    for resident in (True, False):
        recipe = recipes.override(RECIPES["detection"], {"resident": resident, "workers": 0})
        with pytest.raises(DatasetError, match=r"kitti val: no Car that counts as .* among 3 scans, so '"):
            training.train(CODE, recipe, device="cpu", data=tmp_path)


class Odd:
    """Samples of which the third fails in a way that is all its own."""

    class Failure(Exception):
        """Its constructor takes two, so it does not pickle."""

        def __init__(self, one, two):
            super().__init__(f"{one} {two}")

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            raise self.error
        return {"x": np.full(3, index, np.float32)}


def tensors(sample, u):
    return torch.from_numpy(sample["x"]), u


def stream(error=None, workers=1, **options):
    dataset = Odd(error) if error else [{"x": np.full(3, k, np.float32)} for k in range(4)]
    return inputs.Stream(dataset, None, tensors, workers, **options)


def batches():
    return ((torch.tensor(index), torch.zeros(2, 1)) for index in ([0, 1], [2, 3]))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (DatasetError("a.jpg: cut"), DatasetError, r"^a\.jpg: cut$"),
        (KeyError("depth"), KeyError, "^'depth'"),
        (Odd.Failure("no", "luck"), Exception, "no luck"),
    ],
)
def test_errors_of_reading_processes_arrive_with_their_cause(workers, error, kind, message):
    with pytest.raises(kind) as caught:
        list(stream(error, workers)(batches()))
    assert re.search(message, str(caught.value))
    noted = "".join(getattr(caught.value, "__notes__", ()))
    assert isinstance(error, DatasetError) or "while reading sample 2" in noted


def test_a_batch_that_cannot_be_made_says_why():
    sizes = [{"x": np.zeros(k, np.float32)} for k in range(4)]
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        list(inputs.Stream(sizes, None, tensors, 1)(batches()))


def test_little_shared_memory_is_noticed_before_reading(monkeypatch, capsys):
    """As in a container with Docker's 64 MB; torch would wait for ever, or be killed."""
    expected = [x.tolist() for x, _ in stream()(batches())]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(inputs, "shared_memory", lambda: 100)
    small = stream()
    assert [x.tolist() for x, _ in small(batches())] == expected == [[[0] * 3, [1] * 3], [[2] * 3, [3] * 3]]
    said = capsys.readouterr().err
    assert re.search(
        r"1 processes that read ahead need \d+ MB of shared memory, 0 MB are free: .*pipes", said
    )
    assert [x.tolist() for x, _ in small(batches())] == expected  # another epoch
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(inputs, "shared_memory", lambda: None)
    assert [x.tolist() for x, _ in stream()(batches())] == expected


def test_a_reading_process_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(inputs, "PATIENCE", 1.0)
    slow = inputs.Stream(range(4), None, hang, 1)
    with pytest.raises(
        DatasetError, match=r"no batch from the 1 processes that read .*timed out after 1\.0 s"
    ):
        list(slow(batches()))


def test_a_first_sample_that_hangs_is_not_waited_for(monkeypatch):
    """It is read in the training process, to know its size."""
    monkeypatch.setattr(inputs, "PATIENCE", 1.0)
    slow = inputs.Stream(range(4), None, hang_anywhere, 1)
    with pytest.raises(DatasetError, match=r"the first sample was not read in 1 s"):
        list(slow(batches()))


def hang_anywhere(sample, u):
    time.sleep(3600)


def hang(sample, u):
    if torch.utils.data.get_worker_info():
        time.sleep(3600)
    return torch.zeros(1), u


def test_a_process_without_validation_samples_has_no_batches(data):
    """As torchrun with more processes than samples."""
    for problem in ("segmentation", "classification"):
        for changes in ({}, {"resident": False, "workers": 0}):
            recipe = recipes.override(RECIPES[problem], changes)
            source = inputs.Resident if recipe.resident else inputs.Streamed
            shared = source(recipe, data, torch.device("cpu"), inputs.Share(99, 100))
            assert list(shared.validation()) == []


def test_a_batch_of_one_where_batch_norm_needs_more_is_refused(data):
    """The smallest map of a network has one pixel for these photos of 32 x 32."""
    recipe = recipes.override(RECIPES["classification"], {"batch_size": 1, "stem_strides": (2, 2)})
    with pytest.raises(RecipeError, match="batch norm has a single value a channel to norm, in a batch of 1"):
        training.train(CODE, recipe, device="cpu", data=data)
    # Maps of segmentation are larger.
    training.train(
        CODE, recipes.override(RECIPES["segmentation"], {"batch_size": 1}), device="cpu", data=data
    )


def test_numbers_do_not_depend_on_the_machines_threads(data):
    recipe, before = recipes.override(RECIPES["segmentation"], {"epochs": 1}), torch.get_num_threads()
    seen = []
    plain = training.Pictures.loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Pictures, "loss", lambda *a: seen.append(torch.get_num_threads()) or plain(*a))
        try:
            results = []
            for threads in (1, 3):
                torch.set_num_threads(threads)
                results.append(training.train(CODE, recipe, device="cpu", data=data))
                assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    same(*results)
    assert set(seen) == {training.THREADS} == {1}
