import io
import itertools
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dal.evaluation import Curve, compare
from dal.report.png import png
from dal.report.series import PALETTE, Series, apart
from dal.report.svg import svg

RANDOM = Series("Random", (Curve((20, 45, 70), (0.5, 0.6, 0.7)), Curve((20, 45, 70), (0.52, 0.58, 0.68))), None)
MARGIN = Series("Margin", (Curve((20, 45, 70), (0.5, 0.7, 0.8)), Curve((20, 45, 70), (0.52, 0.66, 0.78))), 0)


def drawn(series, **options):
    return ET.fromstring(str(svg(series, "accuracy", name="p", standalone=True, **options)))


def found(root, tag, kind):
    return [e for e in root.iter("{http://www.w3.org/2000/svg}" + tag) if e.get("class") == kind]


def test_plot_draws_a_mean_a_band_and_the_single_seeds_of_each_strategy():
    root = drawn([MARGIN, RANDOM])
    assert len(found(root, "polyline", "mean")) == len(found(root, "polygon", "band")) == 2
    assert len(found(root, "polyline", "seed")) == 4


def test_many_strategies_are_drawn_without_their_single_seeds():
    names = ("Margin", "BADGE", "BALD")
    root = drawn([*(Series(name, MARGIN.curves, i) for i, name in enumerate(names)), RANDOM])
    assert not found(root, "polyline", "seed")


def test_one_seed_has_no_band():
    root = drawn([Series("Margin", MARGIN.curves[:1], 0)])
    assert not found(root, "polygon", "band")
    assert len(found(root, "polyline", "mean")) == 1


def test_seeds_that_do_not_overlap_are_still_drawn_and_named():
    root = drawn([Series("Margin", (Curve((20, 40), (0.5, 0.6)), Curve((100,), (0.9,))), 0)])
    assert len(found(root, "polyline", "seed")) == 2
    assert [e.text for e in found(root, "text", "name")] == ["Margin"]


def test_every_point_tells_its_figures_and_the_description_the_ends():
    root = drawn([MARGIN, RANDOM])
    tips = [e[0].text for e in found(root, "circle", "point")]
    assert "Margin, 45 labels: accuracy 0.680, 0.660 to 0.700 over 2 seeds" in tips
    description = root.find("{http://www.w3.org/2000/svg}desc").text
    assert "Margin: from 0.510 with 20 labels to 0.790 with 70, mean over 2 seeds." in description


def test_labels_saved_are_drawn_where_there_are_any():
    curves = {0: MARGIN.curves[0]}, {0: RANDOM.curves[0]}
    root = drawn([MARGIN, RANDOM], saving=compare(*curves, "accuracy"))
    assert [e.text for e in found(root, "text", "saving")] == ["45 labels, 25 fewer"]
    assert not found(drawn([MARGIN, RANDOM], saving=compare(*curves[::-1], "accuracy")), "text", "saving")


def test_markup_in_a_name_is_escaped():
    root = drawn([Series("<b>&", MARGIN.curves, 0)])
    assert [e.text for e in found(root, "text", "name")] == ["<b>&"]


@pytest.mark.parametrize("curves", [(), (Curve((), ()),), (Curve((20,), (0.5,)),), (Curve((20, 40), (0.5, 0.5)),)])
def test_plots_of_nothing_of_a_point_and_of_a_flat_line_can_be_drawn(curves):
    drawn([Series("Margin", curves, 0)])
    assert Image.open(io.BytesIO(png([Series("Margin", curves, 0)], "accuracy"))).size == (1440, 840)


def test_picture_shows_the_color_of_each_strategy_on_white_whatever_its_name():
    image = Image.open(io.BytesIO(png([Series("$x_{", MARGIN.curves, 0), RANDOM], "accuracy"))).convert("RGB")
    colors = {color for _, color in image.getcolors(1 << 20)}
    assert image.getpixel((2, 2)) == (255, 255, 255)
    assert tuple(bytes.fromhex(PALETTE[0][1:])) in colors


@given(st.lists(st.floats(0, 300), max_size=8))
def test_names_are_moved_apart_in_their_order_and_no_further_than_needed(heights):
    moved = apart(heights, 16)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    assert all(moved[b] - moved[a] >= 16 - 1e-9 for a, b in itertools.pairwise(order))
    assert all(m >= h for m, h in zip(moved, heights, strict=True))
    assert max(apart(heights, 16, 250), default=0) <= 250 + 1e-9
