import torch
from hypothesis import given
from hypothesis import strategies as st

from dal.functional.blocks import ELEMENTS, blocks

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
