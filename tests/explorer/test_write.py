"""What Python puts into the page, and the command that writes it; no browser is needed here."""

from __future__ import annotations

import base64
import collections
import hashlib
import json
import re
import webbrowser
import zlib
from pathlib import Path

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import cli, explorer
from nasbench_mr.explorer import payload
from nasbench_mr.release import EMBEDDED

PAGE = Path(explorer.__file__).parent / "page"


def unpack(array: bytes, reference: dict[str, int | str]) -> np.ndarray:
    """Return the array that a reference of the header means, as `page/payload.js` reads it."""
    kind, at, count = np.dtype(f"<{reference['type']}"), int(reference["at"]), int(reference["count"])
    planes = np.frombuffer(array, np.uint8, kind.itemsize * count, at).reshape(kind.itemsize, count)
    values = np.ascontiguousarray(planes.T).view(kind)[:, 0]
    if "over" not in reference:
        return values
    return np.where(values == reference["lacking"], np.nan, values / reference["over"])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([72.59, np.nan, 0.0, -3.25], "i4"),  # hundredths
        ([1 / 3, np.nan], "f8"),
        ([0.5, float(np.float32(0.1))], "f4"),
        ([2.0**40, 0.1], "f8"),
        ([np.inf, 1.0], "f4"),
        ([np.nan, np.nan], "i4"),
    ],
)
def test_columns_are_kept_to_the_last_bit(values: list[float], kind: str) -> None:
    arrays = payload._Arrays()
    arrays.add(np.arange(3, dtype=np.uint8))  # so that it is not the first
    reference = arrays.column(np.array(values))
    assert reference["type"] == kind
    np.testing.assert_array_equal(unpack(b"".join(arrays.parts), reference), np.array(values))


def test_header_and_shared_layers() -> None:
    title, packed = payload.pack(nasbench_mr.load(EMBEDDED), None, None)
    block = zlib.decompress(packed)
    size = int.from_bytes(block[:4], "little")
    header = json.loads(block[4 : 4 + size])
    (space,) = header["spaces"]
    assert title == header["release"]["name"] == "mini@1.1.0"
    assert space["rows"] == 230
    assert [task["name"] for task in space["tasks"]] == ["mini-cls", "mini-det3d", "mini-seg", "mini-video"]
    # Fitted together, the four tasks share their hidden layers, which are in the page once.
    assert len(space["surrogates"]["trunks"]) == 1
    assert {head["trunk"] for head in space["surrogates"]["heads"].values()} == {0}
    seg = next(task for task in space["tasks"] if task["name"] == "mini-seg")
    table = nasbench_mr.load(EMBEDDED)
    codes = np.array([8, 8, *[1] * 25])
    steps = unpack(block[4 + size :], space["codes"]).reshape(27, 230).T
    codes = steps * np.array(space["step"]) + np.array(space["lower"])
    known = table.query_many(codes, "mini-seg", source="table")
    np.testing.assert_array_equal(unpack(block[4 + size :], seg["metrics"][0]["values"]), known["mIoU"])


def test_page_is_the_same_each_time_and_its_policy_fits() -> None:
    bench = nasbench_mr.load(EMBEDDED)
    text = explorer.html(bench, ["mini-seg"])
    assert text == explorer.html(bench, ["mini-seg"])
    assert "mini-video" not in text
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    style, script = (
        re.search(r"<style>(.*?)</style>", text, re.S),
        re.search(r'"module">(.*?)</script>', text, re.S),
    )
    assert style
    assert script
    for kind, found in (("style", style[1]), ("script", script[1])):
        digest = base64.b64encode(hashlib.sha256(found.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy[1]
    # Nothing that a browser would load.
    assert not re.search(r"https?://(?!www\.w3\.org/)", style[1] + script[1])
    assert not re.search(r'(src|href)="(?!#)', text)


def test_modules_fit_together() -> None:
    script = explorer.bundle("main.js")
    assert not re.search(r"^(import|export) ", script, re.M)
    names = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", script, re.M)
    assert [name for name, count in collections.Counter(names).items() if count > 1] == []
    used = {
        name
        for name in (path.name for path in PAGE.glob("*.js"))
        if (PAGE / name).read_text().splitlines()[0] in script
    }
    assert used == {path.name for path in PAGE.glob("*.js")}  # no module is left over


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    status = cli.main(
        ["explore", "--release", "mini", "--tasks", "mini-seg,", "mini-video", "--out", str(page)]
    )
    assert status == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert page.read_text("utf-8") == explorer.html(nasbench_mr.load(EMBEDDED), ["mini-seg", "mini-video"])
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cli.main(["explore", "--release", "mini"]) == 0
    written = Path(capsys.readouterr().out.strip())
    assert opened == [written.as_uri()]
    assert written.stat().st_size < 1_000_000
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert cli.main(["explore", "--release", "mini"]) == 0
    assert "open this file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tasks", "mini-sag"], "did you mean 'mini-seg'"),
        (["--tasks", ","], "expected at least one name"),
        (["--out", "{folder}"], "expected a name that ends in .html or .htm"),
    ],
)
def test_mistakes(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [each.format(folder=tmp_path) for each in arguments]
    assert cli.main(["explore", "--release", "mini", *given]) == 2
    assert said in capsys.readouterr().err
