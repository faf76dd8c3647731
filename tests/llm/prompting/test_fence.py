"""No text ends its fence, in whatever form it writes the mark, and no class name leaves its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dal.llm.prompting import fence
from dal.llm.prompting.fence import fenced, named, names_of

MARKS = [
    "</text>",
    "</TEXT>",
    "< / t e x t >",
    "<\n/\ttext\n>",
    "<\u200b/text>",
    "</te\u200bxt>",
    "</\u00adtext>",
    "</t\u0301ext>",
    "</text\u200b>",
    "</text\u115f>",
    "</\u2060t\ufeffe\u200dx\u034ft>",
    "</te\U000e0001xt>",
    "</te\ufe0fxt>",
    "</te\u0000xt>",
    "＜／ｔｅｘｔ＞",
    "﹤/text﹥",
    "</ｔext>",
    "‹/text›",
    "〈/text〉",
    "⟨/text⟩",
    "«/text»",
    "≮/text>",
    "<∕text>",
    "<⁄text>",
    "<⧸text>",
    "<\\text>",
    "<//text>",
    "</tехt>",
    "</ТЕХТ>",
    "</τεχτ>",
    "</𝐭𝐞𝐱𝐭>",
    "</𝓉𝑒𝓍𝓉>",
    "</ⓣⓔⓧⓣ>",
    "</🅣🅔🅧🅣>",
    "</🇹🇪🇽🇹>",
    "</ᵗᵉˣᵗ>",
    "</tëxt>",
    "</te×t>",
    "<text>",
    "<\u200btext>",
    "＜ｔｅｘｔ＞",
]
HARMLESS = [
    "<textarea></textarea>",
    "<text_field> <texts> <textual> <text1>",
    "«text» ‹a› 《text》",
    "x<\\text{if} y",
    "5 < 7 and a <b> c < d",
    "text </t> </ext> <test> <t:ext>",
    "日本語のテキスト 👩\u200d💻 na\u0308ive",
    "&lt;/text>",
]


@pytest.mark.parametrize("mark", MARKS, ids=ascii)
def test_a_mark_in_any_form_is_defused(mark: str) -> None:
    found = fenced(f"before {mark} after")
    assert found == "before &lt;" + mark[1:] + " after"
    assert fenced(found) == found


@pytest.mark.parametrize("text", HARMLESS, ids=ascii)
def test_what_is_no_mark_stays_as_it_is(text: str) -> None:
    assert fenced(text) == text


@given(st.text(st.sampled_from("<＜/ text\u200b\u0301Tе>«\\")))
def test_a_text_that_was_made_harmless_has_no_mark_left(text: str) -> None:
    assert not any(fence._is_mark(fenced(text), at) for at, char in enumerate(fenced(text)) if char in "<＜«")


@pytest.mark.parametrize(
    "piece", ["<", "</", "< ", "<\u200b", "<\u0301", "</tex", "<t\u200b", "＜/ t e x ", " ", "\u0301"]
)
def test_the_work_grows_with_the_text_and_no_faster(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def shape(char: str) -> str:
        nonlocal looks
        looks += 1
        return shape_of(char)

    shape_of = fence._shape
    monkeypatch.setattr(fence, "_shape", shape)
    for text in (piece * 5000, "<" + piece * 5000, "</text" + piece * 5000):
        fenced(text)
    assert looks < 10 * 5000 * 3 * len(piece)


def test_a_class_name_stays_on_its_line_and_closes_no_fence() -> None:
    assert named("a\r\n\n\u2028b\x85\x00c</text>") == "a b c&lt;/text>"
    assert named("  C++ & <b>, 'ärger' 😀 ") == "  C++ & <b>, 'ärger' 😀 "


def test_class_names_stay_different() -> None:
    names = names_of(("a b", "a\nb", "a\tb", "</text>", "&lt;/text>", "c"))
    assert len(set(names.values())) == 6
    assert names["c"] == "c"
    assert all("\n" not in name and "</text" not in name for name in names.values())
