"""HMDB51's split files, how clips are sampled, and damaged videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from nasbench_mr.data_builders import datasets
from nasbench_mr.data_builders.datasets import hmdb51
from nasbench_mr.data_builders.datasets.hmdb51 import read_clip
from nasbench_mr.data_builders.generate.hmdb51 import encode
from nasbench_mr.errors import DatasetError, InvalidArgumentError

Trees = dict[str, tuple[Path, dict[str, Any]]]
LISTS = "testTrainMulti_7030_splits"


def greys(path: Path, count: int, size: tuple[int, int] = (32, 48)) -> Path:
    """Return a video whose frame k has the grey level 10 + 10 k."""
    frames = np.empty((count, *size, 3), np.uint8)
    frames[:] = (10 + 10 * np.arange(count))[:, None, None, None]
    encode(path, frames)
    return path


def shown(clip: np.ndarray) -> list[int]:
    """Which frames of `greys` a clip has."""
    assert np.ptp(clip.reshape(len(clip), -1), axis=1).max() <= 4  # each of one grey
    return [round((float(frame.mean()) - 10) / 10) for frame in clip]


def test_the_numbers_of_a_split_file(tmp_path: Path) -> None:
    """0 is used for neither, 1 trains, 2 tests; lines of the official files end with a space."""
    (tmp_path / LISTS).mkdir()
    for name, lines in {
        "wave": "b one.avi 1 \nzero.avi 0 \na_two.avi 2 \nanother.avi 1\n",
        "run": "x.avi 2 \n\ny.avi 1 \n",
    }.items():
        (tmp_path / LISTS / f"{name}_test_split2.txt").write_text(lines)
        (tmp_path / name).mkdir()
        for clip in ("b one.avi", "zero.avi", "a_two.avi", "another.avi", "x.avi", "y.avi"):
            (tmp_path / name / clip).touch()
    train = datasets.load("hmdb51", tmp_path, "train", fold=2)
    assert train.classes == ("run", "wave")
    assert train.ids == ("run/y.avi", "wave/another.avi", "wave/b one.avi")
    assert datasets.load("hmdb51", tmp_path, "val", fold=2).ids == ("run/x.avi", "wave/a_two.avi")
    with pytest.raises(DatasetError, match=rf"missing {LISTS}/<class>_test_split1\.txt"):
        datasets.load("hmdb51", tmp_path, "train")


@pytest.mark.parametrize("line", ["a.avi", "a.avi 3", "../a.avi 1", "d/a.avi 1", " 1", "a.avi one"])
def test_a_damaged_split_file_is_named(line: str, grown: Callable[[str], Path]) -> None:
    root = grown("hmdb51")
    file = root / LISTS / "run_left_test_split1.txt"
    file.write_text(f"{file.read_text()}{line}\n")
    with pytest.raises(DatasetError, match=r"run_left_test_split1\.txt: line 5 is .* 0, 1 or 2"):
        datasets.load("hmdb51", root, "train")


def test_a_class_without_a_list_is_missed(grown: Callable[[str], Path]) -> None:
    root = grown("hmdb51")
    (root / "packs").mkdir()  # of no concern
    datasets.load("hmdb51", root, "train")
    (root / LISTS / "run_left_test_split1.txt").unlink()
    with pytest.raises(DatasetError, match=rf"missing {LISTS}/run_left_test_split1\.txt"):
        datasets.load("hmdb51", root, "train")


def test_folds_share_the_clips_out_differently(trees: Trees) -> None:
    folds = [
        [set(datasets.load("hmdb51", trees["hmdb51"][0], split, fold=fold).ids) for split in ("train", "val")]
        for fold in (1, 2, 3)
    ]
    for train, val in folds:
        assert not train & val
        assert train | val == folds[0][0] | folds[0][1]
    assert not folds[0][1] & folds[1][1]


@pytest.mark.parametrize(
    ("count", "frames", "expected"),
    [
        (10, 10, list(range(10))),
        (10, 5, [1, 3, 5, 7, 9]),
        (10, 4, [1, 3, 6, 8]),  # floor of 1.25, 3.75, 6.25, 8.75
        (10, 1, [5]),
        (3, 6, [0, 0, 1, 1, 2, 2]),
    ],
)
def test_frames_are_taken_evenly(count: int, frames: int, expected: list[int], tmp_path: Path) -> None:
    clip = read_clip(greys(tmp_path / "a.avi", count), frames)
    assert clip.shape == (frames, 32, 48, 3)
    assert shown(clip) == expected


def test_frames_are_resized(tmp_path: Path) -> None:
    path = greys(tmp_path / "a.avi", 4)
    assert read_clip(path, 2, 16).shape == (2, 16, 24, 3)
    assert read_clip(path, 2, (20, 10)).shape == (2, 20, 10, 3)


def test_colours_survive(tmp_path: Path) -> None:
    colours = np.array([[200, 40, 40], [40, 180, 60], [50, 60, 190]], np.uint8)
    encode(tmp_path / "a.avi", np.broadcast_to(colours[:, None, None], (3, 32, 32, 3)).copy())
    assert np.abs(read_clip(tmp_path / "a.avi", 3).mean((1, 2)) - colours).max() < 6


def test_damaged_videos_are_named(tmp_path: Path) -> None:
    whole = greys(tmp_path / "whole.avi", 20).read_bytes()
    for name, content in {
        "empty": b"",
        "header": whole[:300],
        "half": whole[: len(whole) // 2],
        "noise": np.random.default_rng(0).bytes(5000),
        "playlist": b"#EXTM3U\n#EXTINF:1,\nwhole.avi\n",
        "list": f"ffconcat version 1.0\nfile {tmp_path / 'whole.avi'}\n".encode(),
        "image": b"\x89PNG\r\n\x1a\n",
    }.items():
        path = tmp_path / f"{name}.avi"
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=rf"{name}\.avi: (not a readable video|damaged)"):
            read_clip(path, 4)
    with pytest.raises(DatasetError, match=r"nowhere\.avi: not a readable video"):
        read_clip(tmp_path / "nowhere.avi", 4)


def test_any_damage_is_an_error_or_a_clip(tmp_path: Path) -> None:
    """Bytes changed at random: never anything but a clip of the right shape or a DatasetError."""
    whole = greys(tmp_path / "a.avi", 6, (16, 16)).read_bytes()
    rng = np.random.default_rng(0)
    errors = 0
    for _ in range(150):
        content = bytearray(whole)
        for at in rng.integers(0, len(content), rng.integers(1, 12)):
            content[at] = rng.integers(256)
        (tmp_path / "b.avi").write_bytes(content)
        try:
            clip = read_clip(tmp_path / "b.avi", 3, (16, 16))
        except DatasetError:
            errors += 1
        else:
            assert clip.shape == (3, 16, 16, 3)
    assert 0 < errors < 150


def test_a_clip_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = greys(tmp_path / "a.avi", 6)
    monkeypatch.setattr(hmdb51, "MAX_CLIP_PIXELS", 5 * 32 * 48)
    with pytest.raises(DatasetError, match=r"a\.avi: more than 7,680 pixels in all frames"):
        read_clip(path, 2)


@pytest.mark.parametrize("options", [{"fold": 4}, {"frames": 0}, {"size": 0}])
def test_options_are_checked(options: dict[str, int], trees: Trees) -> None:
    with pytest.raises(InvalidArgumentError, match=f"{next(iter(options))} is"):
        datasets.load("hmdb51", trees["hmdb51"][0], "train", **options)


def chunks(content: bytes, kind: bytes) -> list[int]:
    """Where the chunks of this kind begin in an AVI whose frames follow one another."""
    at, found = 12, []
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        found += [at] if name == kind else []
        at += 12 if name == b"LIST" else 8 + size + size % 2
    return found


def test_repeated_frames_are_no_damage(tmp_path: Path) -> None:
    """An empty chunk shows the frame before once more, as recorders write that fall behind."""
    path = greys(tmp_path / "a.avi", 20)
    content = bytearray(path.read_bytes())
    (index,) = chunks(bytes(content), b"idx1")
    for k in (5, 6, 7, 8, 13):
        at = chunks(path.read_bytes(), b"00dc")[k]
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        # The frame's bytes become a chunk that readers pass over.
        rest = (size + size % 2 - 8).to_bytes(4, "little")
        content[at + 4 : at + 16] = bytes(4) + b"JUNK" + rest
        content[index + 8 + 16 * k + 12 : index + 8 + 16 * k + 16] = bytes(4)
    path.write_bytes(content)
    assert shown(read_clip(path, 20)) == [
        0,
        1,
        2,
        3,
        4,
        4,
        4,
        4,
        4,
        9,
        10,
        11,
        12,
        12,
        14,
        15,
        16,
        17,
        18,
        19,
    ]


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_cut_clip_is_not_whole(share: float, tmp_path: Path) -> None:
    whole = greys(tmp_path / "a.avi", 200).read_bytes()
    length = int(len(whole) * share)
    (tmp_path / "a.avi").write_bytes(whole[:length])
    with pytest.raises(DatasetError, match=rf"a\.avi: damaged: {length:,} of {len(whole):,} bytes are there"):
        read_clip(tmp_path / "a.avi", 4)


def test_an_unknown_codec_is_named(tmp_path: Path) -> None:
    content = greys(tmp_path / "a.avi", 6).read_bytes()
    (tmp_path / "a.avi").write_bytes(content.replace(b"FMP4", b"zzzz"))
    with pytest.raises(DatasetError, match=r"a\.avi: no decoder here for its codec"):
        read_clip(tmp_path / "a.avi", 4)


@pytest.mark.parametrize(("version", "known"), [("17.1.0", True), ("18.1.0", True), ("19.0.1", False)])
def test_pyav_is_asked_for_what_its_version_has(
    version: str, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 19 on av.open has no metadata_errors; its numbers of frames and times are integers as before."""
    path, plain = greys(tmp_path / "a.avi", 6), av.open

    def opened(file: str, format: str, **options: Any) -> Any:
        assert options == ({"metadata_errors": "replace"} if known else {})
        return plain(file, format=format)

    monkeypatch.setattr(av, "__version__", version)
    monkeypatch.setattr(av, "open", opened)
    assert shown(read_clip(path, 3)) == [1, 3, 5]


def test_a_clip_listed_twice_is_refused(grown: Callable[[str], Path]) -> None:
    """With another number, it would be in both splits."""
    root = grown("hmdb51")
    file = root / LISTS / "run_left_test_split1.txt"
    first = file.read_text().splitlines()[0].split()[0]
    file.write_text(f"{file.read_text()}{first} 2\n")
    with pytest.raises(DatasetError, match=rf"line 5: '{first}' stands there twice"):
        datasets.load("hmdb51", root, "train")
