"""The search space: every form of a code, its laws on any code, and what malformed codes get."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasbench_mr import nasbench201, space, spaces
from nasbench_mr.errors import InvalidArgumentError, MissingExtraError, OutOfSpaceError

# fmt: off
NAMES = [
    "i1", "i2",
    "b1", "n1_1", "c1_1",
    "b2", "n2_1", "n2_2", "c2_1", "c2_2",
    "b3", "n3_1", "n3_2", "n3_3", "c3_1", "c3_2", "c3_3",
    "b4", "n4_1", "n4_2", "n4_3", "n4_4", "c4_1", "c4_2", "c4_3", "c4_4",
    "o1",
]
# fmt: on
VALUES = [range(1, 5) if name[0] in "bn" else range(8, 129, 8) for name in NAMES]

#: The design document's example, completed by hand.
CODE = (48, 48, 1, 4, 112, 2, 1, 4, 128, 96, 3, 1, 2, 3, 8, 16, 24, 4, 4, 3, 2, 1, 32, 40, 48, 56, 64)
STRING = "48_48-1_1_4_112-2_2_1_4_128_96-3_3_1_2_3_8_16_24-4_4_4_3_2_1_32_40_48_56-64"

any_code = st.tuples(*(st.sampled_from(values) for values in VALUES))
many_codes = st.lists(any_code, min_size=1, max_size=8).map(lambda rows: np.array(rows, np.int16))


def test_layout() -> None:
    assert list(space.NAMES) == NAMES
    assert space.DIM == 27
    assert space.SIZE == 2**80 == math.prod(len(values) for values in VALUES)
    for k, values in enumerate(VALUES):
        assert (space.LOWER[k], space.UPPER[k], space.STEP[k]) == (values[0], values[-1], values.step)
    stem, stages, head = space.split(CODE)
    assert stem == (48, 48)
    assert stages[0] == (1, (4,), (112,))
    assert stages[1] == (2, (1, 4), (128, 96))
    assert stages[2] == (3, (1, 2, 3), (8, 16, 24))
    assert stages[3] == (4, (4, 3, 2, 1), (32, 40, 48, 56))
    assert head == 64


def test_bounds_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        space.LOWER[0] = 16


# --- parse and check ----------------------------------------------------------------------------------

FORMS: dict[str, Callable[[tuple[int, ...]], Any]] = {
    "tuple": tuple,
    "list": list,
    "floats": lambda code: [float(v) for v in code],
    "int64": np.array,
    "uint8": lambda code: np.array(code, np.uint8),
    "float32": lambda code: np.array(code, np.float32),
    "objects": lambda code: np.array(code, object),
    "NumPy scalars": lambda code: [np.int16(v) for v in code],
    "mapping": lambda code: dict(zip(NAMES, code, strict=True)),
    "mapping in another order": lambda code: dict(reversed(list(zip(NAMES, code, strict=True)))),
    "pandas row": lambda code: pd.Series(code, NAMES),
    "published string": space.to_string,
    "published string with blanks": lambda code: f" {space.to_string(code)}\n",
    "commas": lambda code: ",".join(map(str, code)),
    "blanks": lambda code: " ".join(map(str, code)),
    "Python list": lambda code: str(list(code)),
    "Python tuple": lambda code: str(tuple(code)),
}


@pytest.mark.parametrize("form", FORMS)
@given(code=any_code)
@settings(max_examples=10)
def test_every_form_means_the_same_code(form: str, code: tuple[int, ...]) -> None:
    given_form = FORMS[form](code)
    parsed = space.parse(given_form)
    assert parsed == code
    assert all(type(v) is int for v in parsed)
    one = space.check(given_form)
    several = space.check([given_form, given_form])
    assert one.dtype == several.dtype == np.int16
    assert (one == [code]).all()
    assert (several == [code, code]).all()


@given(code=any_code)
def test_strings_round_trip(code: tuple[int, ...]) -> None:
    assert space.parse(space.to_string(code)) == code


def test_the_published_string() -> None:
    assert space.to_string(CODE) == STRING
    assert space.parse(STRING) == CODE


@given(codes=many_codes)
def test_check_of_arrays(codes: np.ndarray[Any, Any]) -> None:
    assert space.check(codes) is codes
    for dtype in (np.int8, np.uint8, np.int64, np.uint64, np.float16, np.float64):
        if dtype != np.int8 or codes.max() < 128:
            assert (space.check(codes.astype(dtype)) == codes).all()
    assert (space.check(np.asfortranarray(codes)) == codes).all()
    assert (space.check(pd.DataFrame(codes, columns=NAMES)) == codes).all()
    assert (space.check(codes.tolist()) == codes).all()
    assert (space.check(np.array([space.to_string(c) for c in codes])) == codes).all()


def test_no_codes() -> None:
    for nothing in ([], (), np.empty((0, 27)), np.empty((0, 27), np.int16)):
        assert space.check(nothing).shape == (0, 27)


def with_entry(k: int, value: object) -> list[object]:
    return [*CODE[:k], value, *CODE[k + 1 :]]


BAD: list[tuple[object, str]] = [
    (CODE[:-1], "a code has 27 integers; got 26"),
    ((*CODE, 8), "a code has 27 integers; got 28"),
    ((), "a code has 27 integers; got 0"),
    (np.array(8), "a code has 27 integers; got 1"),
    (with_entry(4, 12), r"code\[4\] \(c1_1\) is 12; expected a multiple of 8 in \[8, 128\]"),
    (with_entry(4, 0), r"c1_1\) is 0;"),
    (with_entry(4, 136), r"c1_1\) is 136;"),
    (with_entry(4, -8), r"c1_1\) is -8;"),
    (with_entry(4, 2**70), r"c1_1\) is 1180591620717411303424;"),
    (with_entry(2, 5), r"code\[2\] \(b1\) is 5; expected an integer in \[1, 4\]"),
    (with_entry(2, 0), r"b1\) is 0;"),
    (with_entry(2, 1.5), r"b1\) is 1.5;"),
    (with_entry(2, True), r"b1\) is True;"),
    (with_entry(0, "48"), r"i1\) is '48';"),
    (with_entry(0, float("nan")), r"i1\) is nan;"),
    (with_entry(0, float("inf")), r"i1\) is inf;"),
    (with_entry(0, None), r"i1\) is None;"),
    (with_entry(0, Fraction(48)), r"i1\) is Fraction"),
    (with_entry(0, [48]), r"i1\) is \[48\]"),
    (np.array(CODE) * 1j, "i1"),
    (np.ones((27, 2), int), r"i1\) is \[1, 1\]"),
    (dict(zip(NAMES, CODE, strict=True)) | {"c1": 8}, "no dimension 'c1': did you mean 'c1_1'"),
    (dict(zip(NAMES[1:], CODE[1:], strict=True)), "the mapping lacks i1"),
    (dict(zip(NAMES, with_entry(0, "48"), strict=True)), r"i1\) is '48';"),
    (STRING.replace("2_2_1_4", "2_3_1_4"), "expected b_2 and then 2 n and 2 c, got 2_3_1_4_128_96"),
    (STRING.replace("-64", "-65"), r"o1\) is 65;"),
    (STRING + "-8", "not a code"),
    (STRING[:-3], "not a code"),
    ("", "not a code: ''"),
    ("seg", "not a code: 'seg'; expected i1_i2-b1_1_n_c"),
    ("8 -8", "not a code"),
    (" ".join(["8"] * 26), "a code has 27 integers; got 26"),
    ("9" * 10_000, r"not a code: '9+\.\.\.'"),
    (b"48", "got bytes"),
    (48, "got int"),
    (None, "got NoneType"),
    ({48}, "got set"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "message"), BAD)
def test_bad_codes(code: object, message: str) -> None:
    with pytest.raises(OutOfSpaceError, match=message):
        space.parse(code)


@pytest.mark.parametrize(("code", "message"), BAD)
def test_a_bad_code_among_good_ones(code: object, message: str) -> None:
    with pytest.raises(OutOfSpaceError, match=f"row 1: .*{message}"):
        space.check([CODE, code])


def test_labels_of_pandas_are_read_by_name() -> None:
    codes = space.sample(3, seed=4)
    frame = pd.DataFrame({"seed": 0, **{name: codes[:, k] for k, name in reversed([*enumerate(NAMES)])}})
    frame["status"] = "ok"
    assert (space.check(frame) == codes).all()
    assert space.parse(frame.iloc[1]) == tuple(codes[1].tolist())
    assert (space.check([row for _, row in frame.iterrows()]) == codes).all()
    arrow = pa.Table.from_pandas(frame)
    for held in (arrow, arrow.to_batches()[0]):
        assert (space.check(held) == codes).all()
    with pytest.raises(OutOfSpaceError, match="the Series lacks o1"):
        space.parse(frame.drop(columns="o1").iloc[1])


@pytest.mark.parametrize(
    "code",
    [
        [0, 3, 2, 3, 2, 4],
        "0 3 2 3 2 4",
        np.array([0, 3, 2, 3, 2, 4], float),
        pd.Series([4, 0, 3, 2, 3, 2], [nasbench201.NAMES[k] for k in (5, 0, 1, 2, 3, 4)]),
        dict(zip(nasbench201.NAMES, (0, 3, 2, 3, 2, 4), strict=True)),
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|nor_conv_3x3~2|",
    ],
)
def test_cells_are_read_as_codes_are(code: object) -> None:
    assert nasbench201.parse(code) == (0, 3, 2, 3, 2, 4)
    assert nasbench201.check(code).tolist() == [[0, 3, 2, 3, 2, 4]]
    assert nasbench201.check([code, code]).tolist() == [[0, 3, 2, 3, 2, 4]] * 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ([True] * 6, "op01 is True; expected an integer in"),
        ([0, 3, 2, 3, 2, 5], "op23 is 5"),
        ([0.5] * 6, "op01 is 0.5"),
        ([0] * 5, "a code has 6 integers; got 5"),
        (np.array(3), "got"),
        ("0 3 2", "got 3"),
        ("|a~0|", "not a cell"),
    ],
)
def test_bad_cells(code: object, message: str) -> None:
    for read in (nasbench201.parse, nasbench201.check):
        with pytest.raises(OutOfSpaceError, match=message):
            read(code)


BAD_ARRAYS: list[tuple[object, str]] = [
    (np.zeros((2, 26), int), r"codes are an \(n, 27\) array; got shape \(2, 26\)"),
    (np.zeros((2, 27, 1), int), r"got shape \(2, 27, 1\)"),
    (np.array(5), r"got shape \(\)"),
    (np.array([CODE, with_entry(3, 0)], int), r"row 1: code\[3\] \(n1_1\) is 0;"),
    (np.array([CODE, with_entry(3, 0)], np.int16), r"row 1: code\[3\] \(n1_1\) is 0;"),
    (np.array([CODE, with_entry(0, 12)], np.int16), r"row 1: code\[0\] \(i1\) is 12;"),
    (np.array([with_entry(0, 2**16 + 48)], np.int64), r"row 0: code\[0\] \(i1\) is 65584;"),
    (np.array([CODE, with_entry(0, np.nan)], float), r"row 1: code\[0\] \(i1\) is nan;"),
    (np.array([CODE, with_entry(0, np.inf)], float), r"row 1: code\[0\] \(i1\) is inf;"),
    (np.array([CODE, with_entry(0, 48.5)], float), r"row 1: code\[0\] \(i1\) is 48.5;"),
    (np.array([CODE], float) * (1 + 0j), r"row 0: code\[0\] \(i1\)"),
    (np.array([CODE, CODE]) > 0, r"row 0: code\[0\] \(i1\) is True;"),
    (np.array([CODE], str), r"row 0: code\[0\] \(i1\) is '48';"),
    (np.array([CODE], "M8[s]"), r"row 0: code\[0\] \(i1\)"),
    (pd.DataFrame({"i1": [48]}), "the DataFrame lacks i2, b1, n1_1 and 23 more"),
    (pd.DataFrame({"x": [48]}), r"got shape \(1, 1\)"),
    (7, "got int"),
    ({CODE}, "got set"),
]  # fmt: skip


@pytest.mark.parametrize(("codes", "message"), BAD_ARRAYS)
def test_bad_arrays(codes: object, message: str) -> None:
    with pytest.raises(OutOfSpaceError, match=message):
        space.check(codes)


@given(code=any_code, k=st.integers(0, 26), value=st.integers(-(2**40), 2**40))
def test_one_entry_decides(code: tuple[int, ...], k: int, value: int) -> None:
    changed = (*code[:k], value, *code[k + 1 :])
    if value in VALUES[k]:
        assert space.parse(changed) == changed
        assert (space.check(np.array([changed])) == [changed]).all()
    else:
        for read in (space.parse, lambda c: space.check(np.array([c]))):
            with pytest.raises(OutOfSpaceError, match=rf"code\[{k}\] \({NAMES[k]}\) is {value};"):
                read(changed)


@given(text=st.text(max_size=80) | st.from_regex(r"[0-9_\-, ]{0,80}", fullmatch=True))
def test_any_text_is_a_code_or_an_error(text: str) -> None:
    try:
        code = space.parse(text)
    except OutOfSpaceError:
        return
    assert all(v in values for v, values in zip(code, VALUES, strict=True))


# --- bits ---------------------------------------------------------------------------------------------


@given(codes=many_codes)
def test_bits_round_trip(codes: np.ndarray[Any, Any]) -> None:
    bits = space.to_bits(codes)
    assert bits.shape == (len(codes), 80)
    assert set(np.unique(bits)) <= {0, 1}
    assert (space.from_bits(bits) == codes).all()
    assert (space.from_bits(bits[0]) == codes[:1]).all()


@given(bits=st.lists(st.integers(0, 1), min_size=80, max_size=80))
def test_all_bits_are_codes(bits: list[int]) -> None:
    assert space.to_bits(space.from_bits(bits)).tolist() == [bits]


def test_bits_by_hand() -> None:
    # i1 = i2 = 48: index 5, 0101; b1 = 1: 00; n1 = 4: 11; c1 = 112: index 13, 1101.
    assert "".join(map(str, space.to_bits(CODE)[0][:16])) == "0101010100111101"


@pytest.mark.parametrize("bits", [np.zeros((2, 79)), np.full(80, 2), np.full(80, np.nan), [[[0] * 80]]])
def test_bad_bits(bits: object) -> None:
    with pytest.raises(OutOfSpaceError, match="80"):
        space.from_bits(bits)


# --- making codes -------------------------------------------------------------------------------------


def test_graded_codes_have_a_width_and_a_depth_of_their_own() -> None:
    codes = space.sample(4000, seed=0, scheme="graded")
    widths = codes[:, list(space.CHANNEL_DIMS)].max(axis=1)
    depths = codes[:, list(space.DEPTH_DIMS)].max(axis=1)
    # A code of largest width 8 has all channels 8: a tenth of all. Depth 1: 35%. None is deeper than 3.
    assert np.mean(widths == 8) == pytest.approx(0.1, abs=0.015)
    assert np.mean(depths == 1) == pytest.approx(0.35, abs=0.025)
    assert depths.max() == 3
    assert widths.max() == 128


@pytest.mark.parametrize("scheme", space.SCHEMES)
def test_samples_are_codes_and_repeatable(scheme: str) -> None:
    codes = space.sample(200, seed=3, scheme=scheme)
    assert codes.shape == (200, 27)
    assert space.check(codes) is codes
    assert (space.sample(200, seed=3, scheme=scheme) == codes).all()
    assert (space.sample(200, seed=4, scheme=scheme) != codes).any()
    assert (space.sample(200, np.random.default_rng(3), scheme) == codes).all()
    assert space.sample(0, scheme=scheme).shape == (0, 27)


def test_uniform_samples_reach_every_value() -> None:
    codes = space.sample(4000, seed=0)
    for k, values in enumerate(VALUES):
        counts = Counter(codes[:, k].tolist())
        assert set(counts) == set(values)
        # 5 standard deviations of a binomial count.
        p = 1 / len(values)
        for count in counts.values():
            assert abs(count - 4000 * p) < 5 * math.sqrt(4000 * p * (1 - p))


def test_published_strata() -> None:
    """The ranges of the three strata, as the published list of codes has them."""
    coarse, deep, fine = (space.sample(2000, seed=0, scheme=s) for s in ("coarse", "deep", "fine"))
    by_letter = {
        letter: [k for k, name in enumerate(NAMES) if name[0] in letter] for letter in ("i", "co", "b", "n")
    }

    def found(codes: np.ndarray[Any, Any], letter: str) -> set[int]:
        return set(codes[:, by_letter[letter]].ravel().tolist())

    for codes, b in ((coarse, {1, 2, 3}), (deep, {1, 2, 3, 4})):
        assert found(codes, "i") == {16, 32, 48, 64}
        assert found(codes, "co") == set(range(16, 129, 16))
        assert found(codes, "n") == {1, 2, 3, 4}
        assert found(codes, "b") == b
    assert (deep[:, by_letter["b"]] == 4).any(axis=1).all()
    # 0.25 + 0.75 * 0.25 of all b are 4; 8,000 draws.
    assert abs((deep[:, by_letter["b"]] == 4).mean() - 0.4375) < 0.03
    assert found(fine, "i") == {8, 16, 24, 32}
    assert found(fine, "co") == set(range(8, 65, 8))
    assert found(fine, "b") == found(fine, "n") == {1, 2}


def test_in_stratum() -> None:
    for scheme in ("coarse", "deep", "fine"):
        assert space.in_stratum(space.sample(100, scheme=scheme), scheme).all()
    # i = 48 and c = 8: coarse stems are multiples of 16 up to 64, coarse channels multiples of 16.
    assert [space.in_stratum(CODE, scheme).tolist() for scheme in ("coarse", "deep", "fine")] == [[False]] * 3
    on_both = (16, 16, 1, 1, 16, 1, 1, 1, 16, 16, 1, 1, 1, 1, 16, 16, 16, 1, 1, 1, 1, 1, 16, 16, 16, 16, 16)
    assert all(space.in_stratum([on_both], scheme).all() for scheme in ("coarse", "deep", "fine"))
    with pytest.raises(OutOfSpaceError, match="no stratum 'uniform'"):
        space.in_stratum([CODE], "uniform")


def test_published_mixture() -> None:
    codes = space.sample(5000, seed=0, scheme="published")
    fine = (codes[:, list(space.DEPTH_DIMS)] <= 2).all(axis=1) & (codes[:, list(space.STEM)] <= 32).all(
        axis=1
    )
    assert abs(fine.mean() - 500 / 2500) < 0.03
    deep = (codes[:, [stage.b for stage in space.STAGES]] == 4).any(axis=1)
    assert abs(deep.mean() - 800 / 2500) < 0.03


def test_bad_samples() -> None:
    with pytest.raises(OutOfSpaceError, match="no sampling scheme 'uniforn': did you mean 'uniform'"):
        space.sample(1, scheme="uniforn")
    with pytest.raises(InvalidArgumentError, match="n is -1"):
        space.sample(-1)
    with pytest.raises(InvalidArgumentError, match="seed is -1; expected an integer, at least 0"):
        space.sample(1, seed=-1)


@given(code=any_code)
def test_neighbors_are_one_step_away(code: tuple[int, ...]) -> None:
    around = space.neighbors(code)
    space.check(around)
    steps = np.abs(around - np.array(code)) / space.STEP
    assert (steps.sum(axis=1) == 1).all()
    assert len({tuple(row) for row in around.tolist()}) == len(around)
    edges = sum(v == values[0] or v == values[-1] for v, values in zip(code, VALUES, strict=True))
    assert len(around) == 2 * 27 - edges


@given(codes=many_codes, seed=st.integers(0, 2**32), rate=st.sampled_from([1e-9, 1 / 27, 0.5, 1.0]))
def test_mutants_differ(codes: np.ndarray[Any, Any], seed: int, rate: float) -> None:
    before = codes.copy()
    children = space.mutate(codes, np.random.default_rng(seed), rate)
    space.check(children)
    changed = (children != codes).sum(axis=1)
    assert (changed >= 1).all()
    if rate == 1:
        assert (changed == 27).all()
    if rate < 1e-6:
        assert (changed == 1).all()
    assert (codes == before).all()
    assert (space.mutate(codes, np.random.default_rng(seed), rate) == children).all()


def test_mutation_reaches_every_other_value() -> None:
    parents = np.repeat([CODE], 2000, axis=0)
    children = space.mutate(parents, np.random.default_rng(0), rate=1.0)
    for k, values in enumerate(VALUES):
        assert set(children[:, k].tolist()) == set(values) - {CODE[k]}


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.5, float("nan")])
def test_bad_mutation_rates(rate: float) -> None:
    with pytest.raises(OutOfSpaceError, match=r"expected a probability in \(0, 1\]"):
        space.mutate(CODE, np.random.default_rng(0), rate)


@given(pair=st.tuples(many_codes, many_codes), seed=st.integers(0, 2**32))
def test_crossover_takes_from_both(pair: tuple[np.ndarray[Any, Any], ...], seed: int) -> None:
    n = min(map(len, pair))
    a, b = pair[0][:n], pair[1][:n]
    children = space.crossover(a, b, np.random.default_rng(seed))
    space.check(children)
    assert ((children == a) | (children == b)).all()
    assert (space.crossover(a, a, np.random.default_rng(seed)) == a).all()


def test_crossover_of_unequal_numbers() -> None:
    with pytest.raises(OutOfSpaceError, match="a has 1 codes and b 2; expected as many"):
        space.crossover([CODE], [CODE, CODE], np.random.default_rng(0))


@given(codes=many_codes)
def test_project_undoes_relax(codes: np.ndarray[Any, Any]) -> None:
    points = space.relax(codes)
    assert points.dtype == np.float64
    assert (space.project(points) == codes).all()
    # Up to half a step away the nearest code is the same one.
    assert (space.project(points + 0.49 * space.STEP) == codes).all()


def test_project_clamps() -> None:
    assert (space.project(np.full((1, 27), -1e6)) == space.LOWER).all()
    assert (space.project(np.full((1, 27), 1e6)) == space.UPPER).all()


# --- ConfigSpace, and spaces --------------------------------------------------------------------------


def test_configspace() -> None:
    configs = space.configspace(seed=0)
    assert set(configs) == set(NAMES)
    codes = [space.parse(dict(c)) for c in configs.sample_configuration(20)]
    assert len(set(codes)) == 20
    assert [space.parse(c) for c in space.configspace(seed=0).sample_configuration(20)] == codes
    assert configs.estimate_size() == pytest.approx(2.0**80)


def test_configspace_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ConfigSpace", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nasbench-mr\[space\]'"):
        space.configspace()


@pytest.mark.parametrize("name", ["nasbench-mr", "nas-bench-201"])
def test_every_space_has_the_members(name: str) -> None:
    found = spaces.get(name)
    assert name == found.NAME
    assert len(found.NAMES) == found.DIM == len(found.LOWER) == len(found.UPPER) == len(found.STEP)
    assert math.prod(((found.UPPER - found.LOWER) // found.STEP + 1).tolist()) == found.SIZE
    codes = found.sample(20, seed=1)
    assert (found.check(codes) == codes).all()
    assert [found.parse(found.to_string(c)) for c in codes] == [tuple(c) for c in codes.tolist()]
    assert (found.project(found.relax(codes)) == codes).all()


def test_unknown_space() -> None:
    with pytest.raises(LookupError, match="no search space 'nasbench-101': did you mean"):
        spaces.get("nasbench-101")
