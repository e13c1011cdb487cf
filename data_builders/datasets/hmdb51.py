"""HMDB51: short clips of human actions, and the decoding of clips."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nasbench_mr.data_builders.datasets.base import Reader, Sample, folders, listing
from nasbench_mr.data_builders.datasets.opening import (
    Array,
    Size,
    bounded,
    check_size,
    foreign,
    named,
    read_text,
    scaled,
)
from nasbench_mr.errors import DatasetError, InvalidArgumentError
from nasbench_mr.extras import requires

#: Pixels of all frames of a clip together; HMDB51's longest clip has 150 million.
MAX_CLIP_PIXELS = 400_000_000
#: Bytes of a video file; HMDB51's largest has some millions.
MAX_CLIP = 1 << 30
#: The share of its frames without which a clip is damaged, and how often each may be shown on average.
_MIN_SHARE, _MAX_REPEATED = 0.95, 10
_SPLITS = "testTrainMulti_7030_splits"
#: What the numbers in a split file mean; 0 is used for neither.
_IDS = {"0": None, "1": "train", "2": "val"}


class Hmdb51(Reader):
    """HMDB51 action recognition; `val` is what the split files call test.

    Options:
        fold: which of the three official splits, 1 to 3.
        frames: frames a clip is sampled to, evenly over its length; short clips repeat some.
        size: resize to it.
    """

    NAME = "hmdb51"
    PROBLEM = "video"
    LAYOUT = f"<class>/*.avi and {_SPLITS}/<class>_test_split{{1,2,3}}.txt"
    SOURCE = (
        "Get hmdb51_org.rar and test_train_splits.rar from serre-lab.clps.brown.edu and unpack both, the "
        "archives of the classes too, or generate a stand-in: nasbench-mr data make hmdb51"
    )

    def __init__(
        self, root: str | os.PathLike[str], split: str, *, fold: int = 1, frames: int = 8, size: Size = None
    ):
        if fold not in (1, 2, 3):
            raise InvalidArgumentError(f"fold is {fold}; expected 1, 2 or 3")
        if not 1 <= frames <= 1024:
            raise InvalidArgumentError(f"frames is {frames}; expected 1 to 1,024")
        super().__init__(root, split, fold=fold, frames=frames, size=size)
        self.frames, self.size = frames, check_size(size)
        ending = f"_test_split{fold}.txt"
        lists = listing(self.root / _SPLITS, (ending,))
        self.classes = tuple(f.name[: -len(ending)] for f in lists)
        missing = [] if lists else [f"{_SPLITS}/<class>{ending}"]
        # A class without a list would go unnoticed.
        others = [c for c in folders(self.root) if c not in {*self.classes, _SPLITS}]
        missing += [f"{_SPLITS}/{c}{ending}" for c in others if listing(self.root / c, (".avi",))]
        self._samples = []
        for label, (name, file) in enumerate(zip(self.classes, lists, strict=True)):
            chosen = _chosen(file, split)
            found = {f.name for f in listing(self.root / name, (".avi",))}
            missing += [f"{name}/{clip}" for clip in chosen if clip not in found]
            missing += [] if chosen else [f"clips of {split} in {_SPLITS}/{file.name}"]
            self._samples += [(self.root / name / clip, label) for clip in chosen]
        if missing:
            raise self.incomplete(missing)
        self.ids = tuple(f"{f.parent.name}/{f.name}" for f, _ in self._samples)

    def _read(self, index: int) -> Sample:
        file, label = self._samples[index]
        return {"clip": read_clip(file, self.frames, self.size), "label": np.array(label, np.int64)}


def _chosen(file: Path, split: str) -> list[str]:
    """Return the clips of a split, sorted, from a split file: lines of a file name and 0, 1 or 2."""
    chosen, seen = [], set()
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        name, _, kind = line.strip().rpartition(" ")
        if not name and not kind:
            continue
        if kind not in _IDS or not name.strip() or Path(name).name != name.strip():
            raise DatasetError(
                f"{file}: line {number} is {line[:80]!r}; expected a file's name and 0, 1 or 2"
            )
        if name.strip() in seen:
            raise DatasetError(
                f"{file}: line {number}: {name.strip()!r} stands there twice; expected it once"
            )
        seen.add(name.strip())
        if _IDS[kind] == split:
            chosen.append(name.strip())
    return sorted(chosen)


def read_clip(path: Path, frames: int, size: Size = None) -> Array:
    """Read a video sampled to `frames` frames, evenly in time: `(frames, H, W, 3)` uint8 RGB.

    With n frames shown, the i-th is the one at floor((i + 1/2) n / frames). An AVI may leave a frame empty,
    which shows the one before once more.

    Raises:
        DatasetError: the file is missing, not an AVI, cut, damaged, of an unknown codec, or longer than
            `MAX_CLIP_PIXELS`.
    """
    with requires("build", "reading videos"):
        import av
        from av.video.reformatter import VideoReformatter
        from PIL import Image
    # From 19 on it reads texts of any encoding, and has no such option.
    lenient: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    with named(path, "video"):
        bounded(path, MAX_CLIP, "a video")
        _check_whole(path)
        # The format is given, as guessing would let a file pass for a playlist and name other files.
        with av.open(str(path), format="avi", **lenient) as container:
            decoded, at = _decoded(path, container)
        times = ((np.arange(frames) + 0.5) * (at[-1] + 1) / frames).astype(int)
        chosen = (np.searchsorted(at, times, "right") - 1).tolist()
        # One converter for all frames, without threads: setting them up takes longer than the work.
        converter = VideoReformatter()
        images = {
            k: scaled(
                Image.fromarray(converter.reformat(decoded[k], format="rgb24", threads=1).to_ndarray()), size
            )
            for k in set(chosen)
        }
        return np.stack([images[k] for k in chosen])


def _check_whole(path: Path) -> None:
    """Raise `DatasetError` for an AVI that is shorter than its first bytes say."""
    with open(path, "rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"AVI ":
        raise DatasetError(f"{path}: not a readable video ({foreign(path) or 'it does not begin as an AVI'})")
    said, size = 8 + int.from_bytes(head[4:8], "little"), path.stat().st_size
    if said == 8 or size + 1 < said:  # The byte that fills up an odd size may lack.
        raise DatasetError(f"{path}: damaged: {size:,} of {said:,} bytes are there; get the file again")


def _decoded(path: Path, container: Any) -> tuple[list[Any], Array]:
    """All frames, and when each is first shown, counted in frames.

    They are still compressed in colour; converting the chosen ones alone is most of the work saved.
    """
    if not container.streams.video:
        raise DatasetError(f"{path}: no video in it")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise DatasetError(f"{path}: no decoder here for its codec; convert it to MPEG-4, say")
    # Several workers decode at once, each on its own.
    stream.codec_context.thread_count = 1
    frames: list[Any] = []
    pixels = 0
    for frame in container.decode(stream):
        pixels += frame.width * frame.height
        if pixels > MAX_CLIP_PIXELS:
            raise DatasetError(f"{path}: more than {MAX_CLIP_PIXELS:,} pixels in all frames together")
        if frames and (frame.width, frame.height) != (frames[0].width, frames[0].height):
            raise DatasetError(f"{path}: its frames differ in size")
        frames.append(frame)
    times = [frame.pts for frame in frames]
    at = np.arange(len(frames))
    # Codecs that reorder frames may leave the times out, or give those of decoding.
    if None not in times and all(a < b for a, b in pairwise(times)) and len(times):
        at = np.array(times, np.int64) - times[0]
        # Far more repeated frames than others are a damaged time, not a still picture.
        at = at if at[-1] < _MAX_REPEATED * len(frames) else np.arange(len(frames))
    # The header promises a number of frames, which an encoder may have missed by a few.
    if not frames or at[-1] + 1 < _MIN_SHARE * stream.frames:
        raise DatasetError(f"{path}: damaged: {len(frames)} of {stream.frames} frames can be read")
    return frames, at
