"""Recipes: the published facts, overriding from files and flags, what is refused."""

import dataclasses
import hashlib
import json

import pytest

from nasbench_mr import tasks
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.errors import RecipeError

PUBLISHED = (
    "cls-50-1000",
    "cls-50-100",
    "cls-10-1000",
    "cls-10c",
    "seg",
    "seg-4x",
    "3ddet",
    "video",
    "video-p",
)
MINI = ("mini-cls", "mini-seg", "mini-det3d", "mini-video")


def test_every_recipe_has_its_task():
    assert set(recipes.names()) >= {*PUBLISHED, *MINI}
    for name in (*PUBLISHED, *MINI):
        recipe = recipes.get(name)
        assert recipe.task == recipe.name == tasks.get(name).recipe
        assert (recipe.frames > 0) == (tasks.get(name).problem == "video")


@pytest.mark.parametrize("name", ["cls-50-1000", "cls-50-100", "cls-10-1000"])
def test_imagenet_as_published(name):
    recipe = recipes.get(name)
    assert (recipe.crop, recipe.crop_mode, recipe.flip) == ((224, 224), "area", True)
    assert (recipe.test_resize, recipe.test_crop) == (256, (224, 224))
    assert (recipe.batch_size, recipe.epochs, recipe.schedule, recipe.min_lr) == (160, 100, "cosine", 0.0)
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 0.1, 0.9, 1e-4)
    classes, images = map(int, name.split("-")[1:])
    assert recipe.data_options["classes"] == classes == tasks.get(name).num_classes
    assert recipe.train_options["per_class"] == images


@pytest.mark.parametrize(("name", "crop"), [("seg", (512, 1024)), ("seg-4x", (128, 256))])
def test_cityscapes_as_published(name, crop):
    recipe = recipes.get(name)
    assert (recipe.crop, recipe.crop_scale, recipe.crop_mode) == (crop, (0.5, 2.0), "jitter")
    assert recipe.flip
    assert recipe.photometric
    assert (recipe.batch_size, recipe.optimizer, recipe.lr, recipe.momentum) == (64, "sgd", 0.1, 0.9)
    assert (recipe.weight_decay, recipe.schedule, recipe.min_lr) == (5e-4, "poly", 1e-4)
    # 2,975 training images make 46 batches.
    assert recipe.epochs * (2975 // 64) == pytest.approx(25_000, rel=2e-3)
    assert recipe.data_options == ({"size": [256, 512]} if name == "seg-4x" else {})


def test_kitti_as_published():
    recipe = recipes.get("3ddet")
    assert recipe.detection == {}  # as `detection.KITTI`, whose facts its own test has
    assert recipe.stem_strides == (2, 1)
    assert recipe.min_overlap == {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
    assert (recipe.batch_size, recipe.epochs, recipe.schedule, recipe.lr) == (16, 80, "onecycle", 0.002)
    assert (recipe.weight_decay, recipe.clip_norm) == (0.01, 10.0)


def test_what_is_our_choice_is_said():
    for name in PUBLISHED:
        assert "our choice" in recipes.get(name).about.lower()


def test_the_pretrained_video_starts_from_imagenet():
    assert recipes.get("video").pretrained == ""
    assert recipes.get("video-p").pretrained == "cls-50-1000"


def test_a_recipe_reads_back(tmp_path):
    for name in (*PUBLISHED, *MINI):
        recipe = recipes.get(name)
        recipe.save(tmp_path / "recipe.json")
        back = recipes.from_dict(recipes.read(tmp_path / "recipe.json"))
        assert back == recipe
        assert back.digest == recipe.digest


def test_overrides_from_file_and_flags(tmp_path):
    toml, other = tmp_path / "mine.toml", tmp_path / "mine.json"
    toml.write_text("epochs = 3\nlr = 1\ncrop = [64, 96]\n")
    other.write_text(json.dumps({"lr": 0.5}))
    flags = recipes.parse_flags(["epochs=7", "flip=false", "about=as text", "crop_scale=[0.5, 2]"])
    recipe = recipes.override(recipes.get("seg"), recipes.read(toml), recipes.read(other), flags)
    assert (recipe.epochs, recipe.lr, recipe.crop, recipe.flip) == (7, 0.5, (64, 96), False)
    assert (recipe.about, recipe.crop_scale) == ("as text", (0.5, 2))
    assert recipes.get("seg").epochs == 544
    assert recipe.digest != recipes.get("seg").digest


def test_the_digest_is_that_of_the_training():
    recipe = recipes.get("mini-cls")
    assert dataclasses.replace(recipe, about="other words").digest == recipe.digest
    assert dataclasses.replace(recipe, lr=0.004).digest != recipe.digest
    # On another machine, where fewer processes read, a build resumes.
    for name in ("mini-cls", "cls-50-1000"):
        assert dataclasses.replace(recipes.get(name), workers=1).digest == recipes.get(name).digest
    mine = dataclasses.replace(recipe, name="mine", workers=8)
    assert dataclasses.replace(mine, workers=1).digest == mine.digest
    assert (
        recipes.difference(mine, dataclasses.replace(mine, workers=1, lr=1.0))
        == f"lr {mine.lr} there, 1.0 here"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochss": 3}, "no field 'epochss': did you mean 'epochs'"),
        ({"epochs": 0}, "epochs is 0; expected at least 1"),
        ({"epochs": 2.5}, "epochs is 2.5; expected int"),
        ({"epochs": True}, "epochs is True; expected int"),
        ({"lr": "fast"}, "lr is 'fast'; expected float"),
        ({"lr": 0}, "lr is 0.*positive"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"flip": 1}, "flip is 1; expected bool"),
        ({"crop": [64]}, "crop is"),
        ({"crop": [16, 64]}, "crop is .*at least 32"),
        ({"crop_scale": [2, 1]}, "crop_scale is .*low to high"),
        ({"crop_mode": "random"}, "jitter or area"),
        ({"optimizer": "lion"}, "sgd or adamw"),
        ({"schedule": "step"}, "cosine or poly or onecycle"),
        ({"input": "flow"}, "rgb or motion"),
        ({"momentum": 1.0}, r"in \[0, 1\)"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov"),
        ({"data_options": []}, "data_options is"),
        ({"min_overlap": {"Car": "much"}}, "min_overlap is"),
        ({"test_resize": 8}, "test_resize is 8"),
    ],
)
def test_wrong_overrides_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        recipes.override(recipes.get("cls-50-1000"), changes)


def test_wrong_files_and_flags_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="no recipe file"):
        recipes.read(tmp_path / "none.json")
    for name, content in (("a.json", "{"), ("a.toml", "= 3"), ("b.json", "[1]"), ("a.yaml", "epochs: 3")):
        (tmp_path / name).write_text(content)
        with pytest.raises(RecipeError, match=name):
            recipes.read(tmp_path / name)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(RecipeError, match="not readable"):
        recipes.read(tmp_path / "deep.json")
    with pytest.raises(RecipeError, match="FIELD=VALUE"):
        recipes.parse_flags(["epochs"])
    with pytest.raises(RecipeError, match="did you mean 'mini-cls'"):
        recipes.get("mini-clss")
    with pytest.raises(RecipeError, match="a recipe needs name, task, about, dataset"):
        recipes.from_dict({"epochs": 3})


@pytest.mark.parametrize("name", ["mini-cls", "cls-50-1000"])
def test_recipes_without_skipped_samples_keep_their_digests(name):
    """Those of tables that were built before there was such a field, and with `workers` as they are."""
    recipe = recipes.get(name)
    fields = {**recipe.to_dict(), "about": ""}
    assert fields.pop("skip") == {}
    text = json.dumps(fields, sort_keys=True)
    assert recipe.digest == hashlib.sha256(text.encode()).hexdigest()[:12]
