import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dal.functional.blocks import ELEMENTS, blocks, by_blocks

CPU = torch.device("cpu")


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_blocks_cover_every_row_once_and_in_order(rows, width):
    if rows * width > 10**10:
        rows = rows % 1000
    cuts = list(blocks(rows, width, CPU))
    assert [cut.start for cut in cuts] == [0, *(cut.stop for cut in cuts)][: len(cuts)]
    assert (cuts[-1].stop if cuts else 0) == rows


@given(st.integers(1, 3000), st.integers(1, 10**5))
def test_a_block_of_several_rows_stays_within_its_size(rows, width):
    for cut in blocks(rows, width, CPU):
        assert cut.stop - cut.start == 1 or (cut.stop - cut.start) * width <= ELEMENTS


def test_an_accelerator_gets_larger_blocks():
    assert next(blocks(10**9, 10, torch.device("cuda"))).stop > next(blocks(10**9, 10, CPU)).stop


@pytest.mark.parametrize("rows", [0, 1, 5, 12])
def test_the_results_of_blocks_are_joined(rows):
    x = torch.arange(3.0 * rows).view(rows, 3)
    assert torch.equal(by_blocks(lambda block: x[block] + 1, rows, ELEMENTS // 2, CPU), x + 1)
    assert torch.equal(by_blocks(lambda block: x[block].sum(1).int(), rows, ELEMENTS, CPU), x.sum(1).int())


def test_no_result_of_a_block_is_kept_apart():
    made = []

    def function(block):
        assert all(part() is None for part in made)
        part = torch.ones(block.stop - block.start)
        made.append(weakref.ref(part))
        return part

    assert by_blocks(function, 4, ELEMENTS, CPU).sum() == len(made) == 4
