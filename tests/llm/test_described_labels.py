"""Descriptions of classes in the data: they are in the prompts of a language model, which otherwise do not change."""

import json
from pathlib import Path
from typing import Any

import pytest
import speaking
import torch

from dal.data import Rows
from dal.errors import LearnerError
from dal.llm import AnthropicClient
from dal.llm.clients.client import Request
from dal.llm.llm_learner import LLMLearner
from dal.llm.prompting.prompts import Task
from dal.oracles.labeler import label_rows

KEYWORDS = speaking.KeywordClient((("apple", "fruit"), ("train", "B2")))
TEXTS, LABELS = ["an apple", "a train", "a red apple"], ["fruit", "B2", None]


def requests(learner: LLMLearner, **given: Any) -> list[Request]:
    data = learner.prepare(Rows.from_inputs(TEXTS, LABELS, **given))
    return learner.untrained(data).requests(data.texts)


def system(learner: LLMLearner, **given: Any) -> str:
    return requests(learner, **given)[0].system


def test_given_descriptions_are_in_the_prompt_joined_and_the_learners_own_override_them() -> None:
    given = {"B2": ["trains", "vehicles on rails"], "fruit": "grows on trees"}
    prompt = system(LLMLearner(KEYWORDS), descriptions=given)
    assert "- B2: trains; vehicles on rails\n" in prompt
    assert "- fruit: grows on trees\n" in prompt
    prompt = system(LLMLearner(KEYWORDS, descriptions={"fruit": "to be eaten"}), descriptions=given)
    assert "- B2: trains; vehicles on rails\n" in prompt
    assert "- fruit: to be eaten\n" in prompt
    assert "grows on trees" not in prompt


@pytest.mark.parametrize("mode", ["verbalized", "consistency"])
@pytest.mark.parametrize("own", [{}, {"B2": "trains"}])
def test_requests_of_data_without_descriptions_stay_as_they_were(mode: Any, own: dict[str, str]) -> None:
    learner = LLMLearner(KEYWORDS, mode, samples=2, descriptions=own)
    task = Task(("B2", "fruit"), own)
    samples = range(2 if mode == "consistency" else 1)
    temperature = 0.7 if mode == "consistency" else 0.0
    expected = [task.request(mode, [text], sample=k, temperature=temperature) for text in TEXTS for k in samples]
    assert requests(learner) == expected
    assert requests(learner, description_template="This text is about {}.") == expected
    client = AnthropicClient()
    assert [client.digest(each) for each in requests(learner)] == [client.digest(each) for each in expected]


def test_fitted_predictor_and_the_answers_of_an_oracle_have_the_descriptions() -> None:
    seen: list[str] = []

    class Listening(speaking.KeywordClient):
        def _answer(self, request: Request) -> str:
            seen.append(request.system)
            return super()._answer(request)

    learner = LLMLearner(Listening(KEYWORDS.keywords), examples=1)
    rows = Rows.from_inputs(TEXTS, LABELS, descriptions={"B2": "vehicles on rails"})
    data = learner.prepare(rows)
    fitted = learner.fit(data, torch.tensor([0, 1]), torch.tensor([1, 0]), seed=0)
    fitted.outputs(data)
    label_rows(LLMLearner(Listening(KEYWORDS.keywords)), rows, torch.tensor([2, 1]))
    assert len(seen) == 5
    assert all("- B2: vehicles on rails\n" in prompt for prompt in seen)


def saved(folder: Path, learner: LLMLearner, **given: Any) -> dict[str, Any]:
    data = learner.prepare(Rows.from_inputs(TEXTS, LABELS, **given))
    learner.fit(data, torch.tensor([0, 1]), torch.tensor([1, 0]), seed=0).save(folder)
    facts: dict[str, Any] = json.loads((folder / "llm.json").read_text())
    return facts


def test_saved_model_keeps_the_descriptions_it_was_made_with(tmp_path: Path) -> None:
    learner = LLMLearner(KEYWORDS, examples=1)
    assert list(saved(tmp_path / "plain", learner)) == ["classes", "examples"]  # as in folders of earlier versions
    assert saved(tmp_path / "a", learner, descriptions={"B2": ["x", "y"]})["descriptions"] == {"B2": "x; y"}
    new = learner.prepare(Rows.from_inputs(["another"], classes=["B2", "fruit"]))
    assert "- B2: x; y\n" in learner.load(tmp_path / "a", new).requests(new.texts)[0].system
    assert "- B2\n" in learner.load(tmp_path / "plain", new).requests(new.texts)[0].system


@pytest.mark.parametrize("damage", [[1], {"B2": 3}, {"other": "x"}, 5])
def test_damaged_descriptions_of_a_saved_model_are_one_line(tmp_path: Path, damage: Any) -> None:
    learner = LLMLearner(KEYWORDS, examples=1)
    facts = saved(tmp_path / "a", learner)
    (tmp_path / "a" / "llm.json").write_text(json.dumps({**facts, "descriptions": damage}))
    data = learner.prepare(Rows.from_inputs(TEXTS, LABELS))
    with pytest.raises(LearnerError, match=r"llm\.json"):
        learner.load(tmp_path / "a", data)


def test_rows_prepared_by_another_learner_are_refused() -> None:
    from dal.learners.tfidf_learner import TfidfLearner

    data = TfidfLearner().prepare(Rows.from_inputs(TEXTS, LABELS))
    with pytest.raises(LearnerError, match="prepared by another learner"):
        LLMLearner(KEYWORDS).untrained(data)


def test_learners_say_whether_they_read_descriptions() -> None:
    from dal.learners.committee_learner import CommitteeLearner
    from dal.learners.tfidf_learner import TfidfLearner

    assert LLMLearner(KEYWORDS).reads_descriptions
    assert not TfidfLearner().reads_descriptions
    assert not CommitteeLearner(TfidfLearner(), members=2).reads_descriptions
