import io
import itertools
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dal.evaluation import Curve, compare
from dal.report.measures import Axis
from dal.report.plots.curve_plot import curves
from dal.report.plots.dot_plot import MAX_LINES, dot_plot, overlap_matrix
from dal.report.plots.pool_map import SCALE, MapPoint, color, pool_map
from dal.report.plots.reliability import Bins, pooled, reliability
from dal.report.png import png
from dal.report.series import PALETTE, Series, band_words, spread_apart
from dal.report.svg import svg

RANDOM = Series("Random", (Curve((20, 45, 70), (0.5, 0.6, 0.7)), Curve((20, 45, 70), (0.52, 0.58, 0.68))), None)
MARGIN = Series("Margin", (Curve((20, 45, 70), (0.5, 0.7, 0.8)), Curve((20, 45, 70), (0.52, 0.66, 0.78))), 0)


def drawn(series, **options):
    return parsed(curves(series, "accuracy", **options))


def parsed(drawing):
    return ET.fromstring(str(svg(drawing, name="p", standalone=True)))


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
    both = {0: MARGIN.curves[0]}, {0: RANDOM.curves[0]}
    root = drawn([MARGIN, RANDOM], saving=compare(*both, "accuracy"))
    assert [e.text for e in found(root, "text", "saving")] == ["45 labels, 25 fewer"]
    assert not found(drawn([MARGIN, RANDOM], saving=compare(*both[::-1], "accuracy")), "text", "saving")


def test_markup_in_a_name_is_escaped():
    root = drawn([Series("<b>&", MARGIN.curves, 0)])
    assert [e.text for e in found(root, "text", "name")] == ["<b>&"]


@pytest.mark.parametrize("points", [(), (Curve((), ()),), (Curve((20,), (0.5,)),), (Curve((20, 40), (0.5, 0.5)),)])
def test_plots_of_nothing_of_a_point_and_of_a_flat_line_can_be_drawn(points):
    drawing = curves([Series("Margin", points, 0)], "accuracy", width=720, height=420)
    parsed(drawing)
    assert Image.open(io.BytesIO(png(drawing))).size == (2 * 752, 2 * 452)


def test_picture_shows_the_color_of_each_strategy_on_white_whatever_its_name():
    drawing = curves([Series("$x_{", MARGIN.curves, 0), RANDOM], "accuracy")
    image = Image.open(io.BytesIO(png(drawing))).convert("RGB")
    colors = {color for _, color in image.getcolors(1 << 20)}
    assert image.getpixel((2, 2)) == (255, 255, 255)
    assert tuple(bytes.fromhex(PALETTE[0][1:])) in colors


@given(st.lists(st.floats(0, 300), max_size=8))
def test_names_are_moved_apart_in_their_order_and_no_further_than_needed(heights):
    moved = spread_apart(heights, 16)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    assert all(moved[b] - moved[a] >= 16 - 1e-9 for a, b in itertools.pairwise(order))
    assert all(m >= h for m, h in zip(moved, heights, strict=True))
    assert max(spread_apart(heights, 16, 250), default=0) <= 250 + 1e-9


def test_many_points_are_drawn_without_a_dot_on_each():
    line = Curve(tuple(range(1, 60)), tuple(0.5 + i / 200 for i in range(59)))
    root = drawn([Series("Margin", (line, line), 0)])
    assert not found(root, "circle", "point")
    assert len(found(root, "polyline", "mean")) == 1


def test_band_of_five_seeds_is_an_interval_and_narrower_than_the_range():
    five = Series("Margin", tuple(Curve((10, 20), (0.5, 0.6 + i / 100)) for i in range(5)), 0)
    assert band_words([five]) == "mean of 5 seeds, band: 95 % interval of the mean"
    assert band_words([MARGIN]) == "mean of 2 seeds, band: from lowest to highest"
    eight = Series("Margin", tuple(Curve((10, 20), (0.5, 0.6 + i / 100)) for i in range(8)), 0)
    assert 0.60 < eight.band.low[1] < 0.635 < eight.band.high[1] < 0.67


def test_curves_over_money_say_dollars():
    root = drawn([MARGIN], axis=Axis("money", "By money", "dollars", places=2))
    assert "Margin, 45.00 dollars: accuracy 0.680, 0.660 to 0.700 over 2 seeds" in [
        e[0].text for e in found(root, "circle", "point")
    ]


def test_bins_of_several_seeds_are_weighed_by_their_rows():
    one = Bins((0.5, 0.9), (0.4, 0.8), (10, 90))
    other = Bins((0.52,), (1.0,), (30,))
    both = pooled([one, other])
    assert both.count == (40, 90)
    assert both.confidence == pytest.approx((0.515, 0.9))
    assert both.accuracy == pytest.approx((0.85, 0.8))
    assert pooled([]) == Bins((), (), ())


def test_reliability_diagram_says_how_much_too_sure_the_model_is():
    drawing = reliability(Bins((0.5, 0.9), (0.4, 0.8), (10, 90)), "Margin", "s0")
    assert drawing.description == "On average the model is 0.100 more confident than it is right, over 2 bins."
    root = parsed(drawing)
    assert len(found(root, "circle", "point")) == len(found(root, "polygon", "bar")) == 2
    parsed(reliability(Bins((), (), ()), "Margin", "s0"))


def test_map_draws_every_row_once_and_labeled_ones_on_top():
    spots = [MapPoint(0, 0, 2, "late"), MapPoint(1, 1, 0, "never <b>"), MapPoint(2, 0, 1, "early")]
    root = parsed(pool_map(spots, "Margin, seed 0", "PCA"))
    groups = list(root.iter("{http://www.w3.org/2000/svg}g"))
    assert [(g.get("class"), [c[0].text for c in g if len(c)]) for g in groups if len(g[0])] == [
        ("pool", ["never <b>"]),
        ("labeled", ["early"]),
        ("labeled", ["late"]),
    ]
    assert "3 rows of the pool by PCA, 2 of them labeled in 2 rounds." in root[1].text


def test_rounds_go_from_the_first_to_the_last_color_of_the_scale():
    assert color(1, 5) == SCALE[0]
    assert color(5, 5) == SCALE[-1]
    assert color(1, 1) == SCALE[0]
    assert len({color(r, 9) for r in range(10)}) == 10


def test_marks_show_the_worst_classes_first_and_no_more_than_can_be_read():
    values = {f"class {i}": {"Margin": i / 100, "Random": i / 100} for i in range(MAX_LINES + 5)}
    root = parsed(dot_plot(values, [MARGIN, RANDOM], "F1 by class"))
    names = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text") if (e.text or "").startswith("class")]
    assert names == [f"class {i}" for i in range(MAX_LINES)]


def test_matrix_has_a_square_for_each_pair():
    both = {("A", "A"): 1.0, ("A", "B"): 0.25, ("B", "A"): 0.25, ("B", "B"): 1.0}
    drawing = overlap_matrix(["A", "B"], both, "Rows in common (%)")
    assert len(found(parsed(drawing), "polygon", "cell")) == 4
    assert drawing.description == "B and A: 25 %."
    assert png(drawing).startswith(b"\x89PNG")
