"""A language model as a learner: it conforms, it is label-free, and examples are chosen near the text."""

import dataclasses

import pytest
import speaking
import torch

from dal.config import build as building
from dal.config import settings_tree as tree
from dal.data import Rows, Splits
from dal.errors import ConfigError, LearnerError, NeedError
from dal.experiments.experiment import Experiment
from dal.learners.tfidf_learner import TfidfLearner
from dal.llm.llm_learner import LLMLearner
from dal.llm.local_models.local_client import LocalClient
from dal.llm.prompting.nearest_examples import ExamplePool
from dal.llm.prompting.prompts import Example
from dal.oracles.llm_oracle import LLMOracle
from dal.oracles.router import Router
from dal.oracles.simulated import Simulated
from dal.oracles.weak_labels import LLMWeakLabels
from dal.outputs import closure
from dal.session import Session
from dal.store.events import SKIP
from dal.strategies import LowestConfidence, Margin, Random, VoteEntropy
from dal.testing import check_learner, default_rows

KEYWORDS = speaking.KeywordClient(
    tuple((word, "fruit") for word in ("apple", "pear", "plum", "grape"))
    + tuple((word, "vehicles") for word in ("train", "bus", "boat", "tram"))
)
BROKEN = dataclasses.replace(KEYWORDS, broken=0.3)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return LocalClient(str(speaking.write_tiny_llama(tmp_path_factory.mktemp("llama") / "model")), device="cpu")


@pytest.mark.parametrize(
    "learner",
    [
        LLMLearner(KEYWORDS),
        LLMLearner(KEYWORDS, examples=2, descriptions={"fruit": "grows on trees"}),
        LLMLearner(KEYWORDS, "consistency", samples=3),
        LLMLearner(BROKEN, "consistency", samples=4, vary=("wording", "order")),
    ],
    ids=["verbalized", "examples", "consistency", "broken"],
)
def test_it_conforms(learner):
    assert check_learner(learner).ok


@pytest.mark.parametrize("options", [{"mode": "likelihood", "calibrate": True}, {"mode": "likelihood", "examples": 1}])
def test_a_local_model_conforms(local, options):
    assert check_learner(LLMLearner(local, **options), default_rows(count=9)).ok


def test_what_each_mode_provides_is_label_free_unless_labels_are_shown(local):
    verbalized, votes = LLMLearner(KEYWORDS), LLMLearner(KEYWORDS, "consistency")
    assert verbalized.label_free == verbalized.provides == {"logits", "confidence", "dollars", "unread"}
    assert votes.label_free == votes.provides == {"logits", "mc_logits", "dollars", "unread"}
    assert LLMLearner(local, "likelihood").provides == {"logits"}
    assert LLMLearner(KEYWORDS, examples=3).label_free == frozenset()
    assert "joint_mc_logits" not in closure(votes.provides)


def test_answers_that_cannot_be_read_are_a_column_of_their_own():
    learner, rows = LLMLearner(BROKEN, "consistency", samples=5), default_rows()
    data = learner.prepare(rows)
    outputs = learner.untrained(data).outputs(data, names={"logits", "mc_logits", "vote_shares"})
    assert outputs.mc_logits.shape == (40, 5, 3)
    assert outputs.logits.shape == (40, 2)
    answers = learner.untrained(data).answers(data)
    unread = torch.tensor([[each.label is None for each in row] for row in answers])
    assert torch.equal(outputs.vote_shares[:, 2], unread.float().mean(1))
    assert 0 < unread.float().mean() < 0.6
    assert {each.verbatim for row in answers for each in row if each.label is None} == {"I would rather not say."}


@pytest.mark.parametrize(
    ("learner", "strategy"),
    [
        (LLMLearner(KEYWORDS), LowestConfidence()),
        (LLMLearner(KEYWORDS), Margin()),
        (LLMLearner(BROKEN, "consistency"), VoteEntropy()),
    ],
)
def test_a_session_asks_by_its_doubt_with_nothing_labeled(learner, strategy):
    from dal.data import Splits

    rows = default_rows()
    with Session(Splits(rows), learner, strategy, hide_labels=True) as session:
        asked = session.ask(5)
        data = session.prepared
        outputs = learner.untrained(data).outputs(data, names=strategy.needs)
        score = {
            "LowestConfidence": lambda: 1 - outputs["confidence"],
            "Margin": lambda: -outputs["probs"].sort(descending=True).values.diff().neg().flatten(),
            "VoteEntropy": lambda: torch.special.entr(outputs["vote_shares"]).sum(1),
        }[type(strategy).__name__]()
        assert score[asked].min() >= score.sort(descending=True).values[4] - 1e-6


def test_texts_are_asked_about_several_to_a_call():
    learner = LLMLearner(KEYWORDS, per_call=3, examples=1)
    data = learner.prepare(default_rows())
    predictor = learner.fit(data, torch.arange(4), torch.tensor([0, 1, 0, 1]), seed=0)
    requests = predictor.requests(data.texts[:7])
    assert len(requests) == 3
    assert [f"Text {n}:" in requests[0].prompt for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert requests[0].max_tokens == 3 * learner.max_tokens


def test_a_text_is_never_its_own_example():
    rows = Rows.from_inputs(["a red apple", "a red apple", "a green pear", "a bus"], ["f", "f", "f", "v"])
    learner = LLMLearner(KEYWORDS, examples=2)
    data = learner.prepare(rows)
    predictor = learner.fit(data, torch.arange(4), rows.labels, seed=0)
    for text, near in zip(data.texts, predictor.nearest(data.texts), strict=True):
        assert len(near) == 2
        assert text not in [each.text for each in near]


def test_the_nearest_example_stands_last_and_rows_of_no_weight_are_left_out():
    examples = tuple(Example(text, "x") for text in ("wild horses", "red apple pie", "red apple"))
    near = ExamplePool(examples, 2).nearest(["the red apple fell", "horses", "?!", ""])
    assert [[each.text for each in some] for some in near] == [
        ["red apple pie", "red apple"],
        ["red apple pie", "wild horses"],
        ["red apple pie", "wild horses"],
        ["red apple pie", "wild horses"],
    ]
    assert ExamplePool((), 2).nearest(["a"]) == [[]]
    learner, rows = LLMLearner(KEYWORDS, examples=2), default_rows()
    data = learner.prepare(rows)
    weights = torch.tensor([1.0, 0.0, 1.0])
    predictor = learner.fit(data, torch.arange(3), rows.labels[:3], seed=0, weights=weights)
    assert [each.text for each in predictor.shots.examples] == [data.texts[0], data.texts[2]]


def test_examples_can_be_near_by_embeddings(tiny_bert):
    examples = tuple(Example(text, "x") for text in ("my invoice is late", "my password is lost"))
    near = ExamplePool(examples, 1, str(tiny_bert)).nearest(["my password is lost", "my invoice is late"])
    assert [some[0].text for some in near] == ["my invoice is late", "my password is lost"]
    near = ExamplePool((*examples, Example("my password is lost again", "y")), 1, str(tiny_bert)).nearest(
        ["my password is lost"]
    )
    assert near[0][0].label == "y"


def test_neither_seed_nor_exactness_buys_other_answers():
    learner = LLMLearner(BROKEN, "consistency")
    data = learner.prepare(default_rows())
    predictor = learner.untrained(data)
    one = predictor.outputs(data, names={"mc_logits"}, seed=1).mc_logits
    assert torch.equal(one, predictor.outputs(data, names={"mc_logits"}, seed=2, exact=True).mc_logits)
    assert predictor.outputs(data, torch.zeros(0, dtype=torch.int64)).logits.shape == (0, 2)


def test_what_cannot_be_is_refused_in_one_line(local):
    rows = Rows.from_inputs(["a", "b"], [["x"], ["y"]], multilabel=True)
    with pytest.raises(LearnerError, match="one label per text"):
        LLMLearner(KEYWORDS).prepare(rows)
    with pytest.raises(ConfigError, match="needs a LocalClient, not KeywordClient"):
        LLMLearner(KEYWORDS, "likelihood")
    with pytest.raises(ConfigError, match="samples of LLMLearner must be at least 2"):
        LLMLearner(KEYWORDS, samples=1)
    with pytest.raises(ConfigError, match="all answers are identical"):
        LLMLearner(KEYWORDS, "consistency", temperature=0)
    weighed = LLMLearner(local, "likelihood")
    predictor = weighed.untrained(weighed.prepare(default_rows()))
    with pytest.raises(LearnerError, match="computes probabilities and generates no answers"):
        predictor.answers(weighed.prepare(default_rows()))
    learner = LLMLearner(KEYWORDS, examples=1)
    data = learner.prepare(default_rows())
    with pytest.raises(NeedError, match="examples come from labeled rows"):
        learner.untrained(data).outputs(data)


def test_a_config_names_the_client_and_its_options(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "data: {path: a.csv}\nstrategy: LowestConfidence\n"
        "learner: {LLMLearner: {client: {LocalClient: {model: x, batch: 3}}, descriptions: {a: b}, vary: [order]}}\n"
    )
    made, _ = building.build(Experiment, tree.read(path), tree.options([("learner.examples", "2")]))
    expected = LLMLearner(LocalClient("x", batch=3), descriptions={"a": "b"}, vary=("order",), examples=2)
    assert dataclasses.replace(made.learner, vary=tuple(made.learner.vary)) == expected


@pytest.mark.parametrize(
    ("learner", "each"),
    [
        (LLMLearner(dataclasses.replace(KEYWORDS, each=0.5)), 0.5),
        (LLMLearner(dataclasses.replace(KEYWORDS, each=0.5), "consistency", samples=3), 1.5),
        (LLMLearner(dataclasses.replace(KEYWORDS, each=0.5), per_call=2), 0.25),
    ],
)
def test_says_what_the_answers_to_a_text_cost(learner, each):
    rows = Rows.from_inputs(["an apple", "a bus", "a pear", "the tram"], ["fruit", "vehicles", "fruit", "vehicles"])
    prepared = learner.prepare(rows)
    dollars = learner.untrained(prepared).outputs(prepared, None, {"dollars"}).dollars
    assert dollars.tolist() == [each] * 4


SHY = dataclasses.replace(KEYWORDS, unsaid="pear")
FEW = ["an apple", "a bus", "a pear", "the tram"]


def test_says_whose_answers_could_not_be_read_and_keeps_them_verbatim():
    learner = LLMLearner(SHY)
    prepared = learner.prepare(Rows.from_inputs(FEW, classes=["fruit", "vehicles"]))
    predictor = learner.untrained(prepared)
    assert predictor.unparsed_responses == {}
    assert predictor.outputs(prepared, None, {"unread"})["unread"].tolist() == [0, 0, 1, 0]
    assert predictor.unparsed_responses == {2: "I would rather not say."}
    assert predictor.outputs(prepared, torch.tensor([2, 0]), {"unread"})["unread"].tolist() == [1, 0]
    assert predictor.unparsed_responses.keys() == {0}
    predictor.outputs(prepared, torch.tensor([0]), {"unread"})
    assert predictor.unparsed_responses == {}


def test_of_repeated_answers_it_says_the_share_and_keeps_those_to_texts_without_any():
    learner = LLMLearner(dataclasses.replace(SHY, broken=0.5), "consistency", samples=4)
    prepared = learner.prepare(Rows.from_inputs(FEW, classes=["fruit", "vehicles"]))
    predictor = learner.untrained(prepared)
    outputs = predictor.outputs(prepared, None, {"unread", "mc_logits"})
    assert outputs["unread"].tolist() == outputs["mc_logits"].argmax(-1).eq(2).float().mean(1).tolist()
    assert outputs["unread"][2] == 1
    assert 0 < outputs["unread"].mean() < 1
    assert predictor.unparsed_responses.keys() == set((outputs["unread"] == 1).nonzero().flatten().tolist())
    assert predictor.unparsed_responses[2].count("I would rather not say.") == 4


@pytest.mark.parametrize("mode", ["verbalized", "consistency"])
def test_as_an_oracle_it_declines_what_could_not_be_read(mode):
    rows = Rows.from_inputs(FEW, classes=["fruit", "vehicles"])
    said = LLMOracle(LLMLearner(SHY, mode)).answer(torch.arange(4), rows)
    assert [each.value is SKIP for each in said] == [False, False, True, False]
    assert "I would rather not say." in said[2].text
    assert said[0].text is None


def test_every_round_says_which_share_of_the_answers_could_not_be_read():
    rows = default_rows(count=40)
    test, pool = rows.take(torch.arange(10)), rows.take(torch.arange(10, 40))
    data = Splits(pool, test)
    learner = LLMLearner(dataclasses.replace(KEYWORDS, unsaid="saw"))
    run = Experiment(data, learner, Margin(), baseline=None, start=6, batch=4, rounds=2, quiet=True).run()
    lines = run.cells["Margin-seed0"]
    lost = ["saw" in text for text in test.texts()]
    assert 0 < sum(lost) < 10
    for line in lines:
        assert line["unread"] == {"share": pytest.approx(sum(lost) / 10), "count": 10}
        assert line["pool"]["unread"]["count"] == line["pool"]["count"]
    asked: set[str] = set()
    for line in lines:
        left = [text for row, text in zip(pool.ids, pool.texts(), strict=True) if row not in asked]
        assert line["notes"]["unread"] == pytest.approx(sum("saw" in text for text in left) / len(left))
        asked |= set(line["rows"])


@pytest.mark.parametrize(
    "options",
    [
        {"learner": LLMLearner(KEYWORDS)},
        {"oracle": LLMOracle(LLMLearner(KEYWORDS), hide_labels=True)},
        {"oracle": Router([LLMOracle(LLMLearner(KEYWORDS))], Simulated())},
        {"weak_labels": LLMWeakLabels(LLMLearner(KEYWORDS), rows=5)},
    ],
    ids=["learner", "oracle", "router", "weak_labels"],
)
def test_texts_that_may_have_several_labels_are_refused_in_one_line(options):
    rows = Rows.from_inputs([f"{text} {i}" for i in range(5) for text in FEW], [["fruit"]] * 20, multilabel=True)
    splits = Splits(rows.take(torch.arange(12)), rows.take(torch.arange(12, 20)))
    settings = {"learner": TfidfLearner(), "start": 3, "batch": 2, "rounds": 1, "quiet": True} | options
    with pytest.raises(LearnerError, match="are multi-label: use a learner for multi-label") as found:
        Experiment(splits, strategy=Random(), baseline=None, **settings).run()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("temperature", [float("nan"), float("inf"), -1.0])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ConfigError, match="temperature of LLMLearner must be 0 or more"):
        LLMLearner(speaking.KeywordClient(()), mode="consistency", temperature=temperature, vary=("wording",))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 5000,
        b'{"classes": ["fruit"], "examples": ' + b"9" * 5000 + b"}",
        b'{"classes": 3, "examples": 1}',
        b'{"classes": ["fruit"], "examples": [["a pear"]]}',
        b'{"classes": ["fruit"], "examples": [["a pear", "vehicles"]]}',
        b'{"classes": ["fruit"], "examples": [["a pear", ["fruit"]]]}',
        b'{"classes": ["fruit"], "examples": [[null, "fruit"]]}',
    ],
)
def test_examples_that_cannot_be_read_are_one_line(tmp_path, content):
    (tmp_path / "llm.json").write_bytes(content)
    learner = LLMLearner(speaking.KeywordClient(()))
    data = learner.prepare(Rows.from_inputs(["a pear"], ["fruit"]))
    with pytest.raises(LearnerError, match=r"saved model in .*\(llm.json\) is missing or damaged: ") as caught:
        learner.load(tmp_path, data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
