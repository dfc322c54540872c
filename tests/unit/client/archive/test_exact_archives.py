"""Laws of archives with exact elements: they come back where they were, and damage of them is damage."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd import (
    CompressedTensor,
    CorruptStringError,
    DataLossError,
    InvalidRequestError,
    InvalidTensorError,
)
from entropyd.archive import Archive, ArchiveWriter, ExactElements
from entropyd.archive.pending import MAX_EXACT_BLOCK_ELEMENTS
from entropyd.archive.source import BytesSource
from entropyd.archive.verification import verify_source
from entropyd.contract.integrity import BLOCK_BYTES, damaged_units
from tests.support.archive_cases import SMALL, STRINGS, archive_bytes, same, tensor_of, with_flipped_bits

UNIT_SHAPE = (3, 2)
Case = tuple[CompressedTensor, npt.NDArray[np.float32], npt.NDArray[np.bool_]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A tensor, the array that it stands for, and which elements of that are exact."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=5))
    units = int(np.prod(shape))
    tensor = tensor_of(draw(st.lists(STRINGS, min_size=units, max_size=units)), shape)
    values = st.sampled_from([0x7FC00000, 0x7F800001, 0x80000000, 0xC61C3C00])
    bits = draw(hnp.arrays(np.uint32, shape + UNIT_SHAPE, elements=values))
    return tensor, bits.view(np.float32), draw(hnp.arrays(np.bool_, bits.shape))


def exact_bits(exact: ExactElements, shape: tuple[int, ...]) -> list[Any]:
    """The array of exact elements, ones elsewhere."""
    whole = exact.applied(np.full(shape, 0xFFFFFFFF, np.uint32).view(np.float32))
    return whole.view(np.uint32).tolist()  # type: ignore[no-any-return]


def archive_of(*cases: Case) -> bytes:
    parts = [ExactElements.of(array, mask) for _, array, mask in cases]
    return archive_bytes(*(tensor for tensor, _, _ in cases), exact=parts, exact_dtype="float32")


@given(cases(), st.data())
def test_exact_elements_are_indexed_as_the_array_is(case: Case, data: st.DataObject) -> None:
    tensor, array, mask = case
    archive = Archive.from_bytes(archive_of(case))
    key = data.draw(hnp.basic_indices(tensor.batch_shape))
    assert same(archive[key], tensor[key])
    units = np.arange(len(tensor.lengths)).reshape(tensor.batch_shape)[key]
    selected, selected_mask = (of.reshape(-1, *UNIT_SHAPE)[units] for of in (array, mask))
    expected = ExactElements.of(selected, selected_mask)
    assert exact_bits(archive.exact(key), selected.shape) == exact_bits(expected, selected.shape)
    assert archive.exact_dtype == "float32"
    assert verify_source(BytesSource(archive_of(case), "x")).good


@given(cases(), st.data())
def test_such_an_archive_is_the_same_in_however_many_parts_it_was_appended(
    case: Case, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(case[0])), max_size=4)))
    borders = [0, *cuts, len(case[0])]
    parts = [(case[0][a:b], case[1][a:b], case[2][a:b]) for a, b in pairwise(borders)]
    assert archive_of(*parts) == archive_of(case)


@given(cases())
def test_without_exact_elements_only_version_and_header_differ(case: Case) -> None:
    tensor, array, mask = case
    plain, able = archive_bytes(tensor), archive_of((tensor, array, np.zeros_like(mask)))
    added = len(b',"exact_dtype":"float32"')
    assert len(able) == len(plain) + added
    assert not any(head.exact_elements for head in Archive.from_bytes(able).block_headers())
    assert len(Archive.from_bytes(able).exact()) == 0
    assert len(Archive.from_bytes(plain).exact()) == 0
    assert Archive.from_bytes(plain).exact_dtype is None


def large() -> Case:
    """Four blocks, of which the second and the last have exact elements."""
    tensor = tensor_of([bytes([65 + unit]) * (BLOCK_BYTES // 2) for unit in range(8)], (8,))
    array = np.arange(48, dtype=np.float32).reshape(8, *UNIT_SHAPE)
    return tensor, array, (array % 5 == 0) & ((array // 12 == 1) | (array // 12 == 3))


def test_only_blocks_with_exact_elements_are_of_their_kind() -> None:
    content = archive_of(large())
    assert (content.count(b"BLCK"), content.count(b"BLKX")) == (2, 2)
    heads = list(Archive.from_bytes(content).block_headers())
    assert [head.exact_elements for head in heads] == [0, 2, 0, 2]
    assert [head.elements_per_unit for head in heads] == [0, 6, 0, 6]


def test_masks_and_lists_select_exact_elements_too() -> None:
    case = large()
    archive = Archive.from_bytes(archive_of(case))
    for key in (np.array([7, 0, 3, 3, 2, 6]), case[1][:, 0, 0] > 20):
        expected = ExactElements.of(case[1][key], case[2][key])
        assert archive.exact(key).positions.tolist() == expected.positions.tolist()
        assert archive.exact(key).values.tolist() == expected.values.tolist()


def test_a_unit_without_batch_axes_may_have_exact_elements() -> None:
    array = np.array([1.0, np.nan], np.float32)
    exact = ExactElements.of(array, np.isnan(array))
    archive = Archive.from_bytes(archive_bytes(tensor_of([b"a"], ()), exact=[exact], exact_dtype="float32"))
    assert np.isnan(archive.exact().applied(np.zeros(2, np.float32))).tolist() == [False, True]


def test_damaged_exact_elements_cost_their_blocks_units_and_no_others() -> None:
    case = large()
    content = bytearray(archive_of(case))
    content[content.index(b"BLCK", content.index(b"BLKX")) - 3] ^= (
        1  # the packed ones stand last in the block
    )
    archive = Archive.from_bytes(bytes(content))
    for read in (archive.read, archive.exact):
        with pytest.raises(CorruptStringError) as caught:
            read(slice(1, 6))
        assert caught.value.units == (2, 3)
    part = archive.read(on_error="skip")
    assert np.flatnonzero(damaged_units(part.payload, part.lengths, part.blocks)).tolist() == [2, 3]
    found = archive.exact(on_error="skip")
    assert found.positions.tolist() == np.flatnonzero(case[2] & (case[1] >= 36)).tolist()
    assert verify_source(BytesSource(bytes(content), "x")).damaged[0][:2] == (2, 3)


def test_blocks_with_exact_elements_are_found_without_the_index() -> None:
    case = large()
    content = bytearray(archive_of(case))
    content[-40] ^= 1  # the index
    content[content.index(b"AAA") - 4] ^= 1  # the head of the first block
    archive = Archive.of_source(BytesSource(bytes(content), "x"), recover=True)
    assert len(archive) == 8
    assert same(archive[2:], case[0][2:])
    expected = ExactElements.of(case[1][2:], case[2][2:])
    assert archive.exact(slice(2, None)).positions.tolist() == expected.positions.tolist()


def test_blocks_of_large_units_are_split_so_that_exact_elements_stay_few() -> None:
    per_unit = MAX_EXACT_BLOCK_ELEMENTS // 3
    tensor = tensor_of([b"a"] * 8, (8,))
    array = np.broadcast_to(np.float32(np.nan), (8, per_unit))
    mask = np.zeros(array.shape, np.bool_)
    mask[[1, 6], :] = True
    content = archive_bytes(tensor, exact=[ExactElements.of(array, mask)], exact_dtype="float32")
    archive = Archive.from_bytes(content)
    assert [len(head.lengths) for head in archive.block_headers()] == [3, 3, 2]
    assert [head.exact_elements for head in archive.block_headers()] == [per_unit, 0, per_unit]
    assert len(content) < 1000
    assert archive.exact(6).positions.tolist() == list(range(per_unit))
    assert len(archive.exact([2, 3, 4])) == 0


@pytest.mark.parametrize(
    ("options", "array", "message"),
    [
        ({}, np.ones((3, 2), np.float32), "no exact_dtype"),
        ({"exact_dtype": "float64"}, np.ones((3, 2), np.float32), "of dtype float32; expected float64"),
        ({"exact_dtype": "float32"}, np.ones(7, np.float32), "of 7 elements in 3 coding units"),
        ({"exact_dtype": "float32"}, np.ones(2, np.float32), "of 2 elements in 3 coding units"),
    ],
)
def test_exact_elements_that_do_not_fit_are_refused(
    options: dict[str, Any], array: npt.NDArray[Any], message: str
) -> None:
    exact = ExactElements.of(array, np.ones(array.shape, np.bool_))
    with pytest.raises(InvalidRequestError, match=message):
        archive_bytes(SMALL, exact=[exact], **options)


def test_units_of_another_size_than_before_are_refused() -> None:
    one, other = (ExactElements.of(np.ones(n, np.float32), np.ones(n, np.bool_)) for n in (6, 9))
    with pytest.raises(InvalidRequestError, match="of 9 elements in 3 coding units; expected 2 in each"):
        archive_bytes(SMALL, SMALL, exact=[one, other], exact_dtype="float32")


def test_a_dtype_that_exact_elements_cannot_have_is_refused() -> None:
    with pytest.raises(InvalidTensorError, match="int32"):
        archive_bytes(SMALL, exact_dtype="int32")


def test_exact_elements_are_not_dropped_by_loading_a_tensor(tmp_path: Any) -> None:
    exact = ExactElements.of(np.ones(6, np.float32), np.arange(6) == 2)
    for elements, name in ((exact, "some"), (None, "none")):
        with ArchiveWriter(tmp_path / name, exact_dtype="float32") as writer:
            writer.append(SMALL, elements)
    assert same(CompressedTensor.load(tmp_path / "none"), SMALL)
    with pytest.raises(InvalidRequestError, match="some has 1 exact elements"):
        CompressedTensor.load(tmp_path / "some")


@pytest.fixture(scope="module")
def small_archive() -> bytes:
    """Two blocks, one of either kind."""
    tensor = tensor_of([b"\x01\x02", b"", b"x" * BLOCK_BYTES], (3,))
    array = np.array([np.nan, 1, -0.0, 3, 4, 5], np.float32)
    exact = ExactElements.of(array, np.isnan(array) | (array == 0))
    return archive_bytes(tensor, metadata={"a": 1}, exact=[exact], exact_dtype="float32")


def test_every_flipped_bit_is_reported_and_changes_no_value(small_archive: bytes) -> None:
    archive = Archive.from_bytes(small_archive)
    strings, exact = archive[:].strings, exact_bits(archive.exact(), (3, 2))
    middle = small_archive.index(b"x" * 1000)
    for content in with_flipped_bits(small_archive, between=range(middle + 8, middle + BLOCK_BYTES - 8)):
        assert not verify_source(BytesSource(content, "x")).good
        try:
            archive = Archive.from_bytes(content)
        except (DataLossError, InvalidRequestError):
            continue
        part = archive.read(on_error="skip")
        bad = damaged_units(part.payload, part.lengths, part.blocks)
        assert bad.any()
        found = exact_bits(archive.exact(on_error="skip"), (3, 2))
        for unit in np.flatnonzero(~bad):
            assert part.strings[unit] == strings[unit]
            assert found[unit] == exact[unit]
