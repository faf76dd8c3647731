"""`dal llm preview` shows the prompt of a row and asks nothing."""

import json

import pytest

from dal.cli import main


@pytest.fixture
def config(tmp_path):
    lines = [
        f"t{n},{'fruit' if n % 2 else 'vehicles'},{'a red apple' if n % 2 else 'an old bus'} {n}" for n in range(20)
    ]
    (tmp_path / "texts.csv").write_text("id,label,text\n" + "\n".join(lines) + "\n")
    path = tmp_path / "run.yaml"
    path.write_text(
        f"data: {{path: {tmp_path}/texts.csv, id: id, test: 0.2}}\nstrategy: Margin\n"
        "learner: {LLMLearner: {client: {LocalClient: {model: nowhere}}, examples: 2}}\n"
    )
    return path


def test_the_prompt_of_a_row_is_shown(config, capsys):
    assert main(["llm", "preview", str(config), "--learner.examples", "0"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("--- system\nClassify the text")
    assert "--- answer\nstructured, temperature 0.0, max_tokens 256, sample 0" in shown
    schema = json.loads(shown.partition("--- schema\n")[2])
    assert schema["properties"]["label"]["enum"] == ["fruit", "vehicles"]


def test_examples_are_those_of_the_data_without_the_row_itself(config, capsys):
    assert main(["llm", "preview", str(config), "--learner.instructions", "Be strict."]) == 0
    shown = capsys.readouterr().out
    text = shown.rsplit("<text>\n", 1)[1].split("\n</text>")[0]
    assert shown.count("\nLabel: ") == 2
    assert shown.count(text) == 1
    assert "Be strict." in shown


def test_what_there_is_not_is_said(config, capsys):
    assert main(["llm", "preview", str(config), "--row", "nobody"]) == 2
    assert "no row with the id 'nobody'" in capsys.readouterr().err
    assert main(["llm", "show"]) == 2
    assert "there is dal llm preview" in capsys.readouterr().err
    assert main(["llm", "preview", str(config), "--learner", "ProbeLearner", "--strategy", "Random"]) == 2
    assert "no part of it uses a language model" in capsys.readouterr().err
    assert main(["llm"]) == 0
    assert "dal llm preview CONFIG" in capsys.readouterr().out


def test_a_language_model_is_found_wherever_it_stands(config, capsys):
    other = "{LLMLearner: {client: {LocalClient: {model: other}}, instructions: Start.}}"
    assert main(["llm", "preview", str(config), "--weak_labels.labeler", other, "--learner.examples", "0"]) == 0
    first = capsys.readouterr()
    assert "Start." not in first.out
    assert first.err == "dal: learner; --place shows the others: weak_labels.labeler\n"
    place = ["--place", "weak_labels.labeler"]
    assert main(["llm", "preview", str(config), "--weak_labels.labeler", other, *place]) == 0
    assert "Start." in capsys.readouterr().out
    assert main(["llm", "preview", str(config), "--place", "9" * 5000]) == 2
    assert len(capsys.readouterr().err) < 500
    assert main(["llm", "preview", str(config), "--place", "oracle"]) == 2
    assert "there is one at learner" in capsys.readouterr().err


HOSTILE = {
    "\x1b[2J\x1b[31m": r"\x1b[2J\x1b[31m",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b2J": r"\x9b2J",
    "\u202e": r"\u202e",
    "\r": r"\r",
    "\x7f": r"\x7f",
    "\ud800": r"\ud800",
}


@pytest.mark.parametrize("written", HOSTILE, ids=ascii)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(tmp_path, capsysbinary, written):
    """In a text, an example and the instructions; a line break and a tab stay."""
    in_data = "" if written == "\ud800" else written  # which data files may not hold
    lines = [
        json.dumps({"id": f"t{n}", "label": "fruit" if n % 2 else "bus", "text": f"one\ttwo {n} {in_data}.\nthree"})
        for n in range(20)
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines) + "\n")
    learner = {"LLMLearner": {"client": {"LocalClient": {"model": "nowhere"}}, "instructions": f"x {written} y"}}
    learner["LLMLearner"]["examples"] = 2
    config = {"data": {"path": f"{tmp_path}/texts.jsonl", "id": "id", "test": 0.2}, "learner": learner}
    (tmp_path / "run.yaml").write_text(json.dumps(config | {"strategy": "Margin"}))
    assert main(["llm", "preview", str(tmp_path / "run.yaml")]) == 0
    shown = capsysbinary.readouterr().out.decode("utf-8")
    assert f"x {HOSTILE[written]} y" in shown
    assert shown.count(f"{HOSTILE[written] if in_data else ''}.\nthree") >= 3
    assert "one\ttwo" in shown
    assert all(char.isprintable() or char in "\n\t" for char in shown)
