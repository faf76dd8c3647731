"""`dal export --model` and `dal predict` with its folder: elsewhere, damaged, hostile, and interrupted."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Command, fill, probe, read_rows, running, write_tickets

from dal.experiments.saved_model import is_saved_model

TRANSFORMER = (
    "{{TransformerLearner: {{model: {model}, learning_rate: 0.003, min_steps: 5, max_steps: 5, max_length: 32, "
    "precision: float32, samples: 2}}}}"
)


@pytest.fixture
def dal(with_tickets: Command) -> Command:
    """The command in a folder with a project of 120 texts, the first 60 of which have imported labels."""
    write_tickets(Path("tickets.csv"), 120)
    lines = Path("tickets.csv").read_text("utf-8").splitlines()
    half = [line if number <= 60 else line.rpartition(",")[0] + "," for number, line in enumerate(lines)]
    Path("half.csv").write_text("\n".join(half) + "\n", "utf-8")
    write_tickets(Path("new.csv"), 8, labels=False, seed=3)
    return with_tickets


def project(dal: Command, learner: str = "TfidfLearner", folder: str = "project") -> None:
    dal.configured(learner=f"learner: {learner}\nstrategy: Random\n")
    options = ["--data", "half.csv", "--id", "id", "--text", "text", "--label", "label", "--config", "learner.yaml"]
    ended = dal("init", folder, *options)
    assert ended.code == 0, ended.err


def refused(dal: Command, *arguments: object) -> str:
    """The single line of error of a command."""
    ended = dal(*arguments)
    assert ended.code == 2, ended.out + ended.err
    assert [line for line in ended.messages if "error" in line] == ended.messages[-1:]
    assert "Traceback" not in ended.err
    return ended.messages[-1]


def test_model_of_a_project_predicts_without_it(dal: Command, tmp_path_factory: pytest.TempPathFactory) -> None:
    project(dal)
    assert dal("predict", "project", "new.csv", "-o", "before.csv").code == 0
    ended = dal("export", "project", "--model", "model")
    assert ended.code == 0, ended.err
    assert "TfidfLearner, trained on 60 labels; every class has a label" in ended.err
    assert "written: model, the model; `dal predict model FILE`" in ended.err
    assert not Path("labels.csv").exists()
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.move("model", elsewhere)
    shutil.rmtree("project")
    Path("half.csv").unlink()
    ended = dal("predict", elsewhere, "new.csv", "-o", "after.csv")
    assert ended.code == 0, ended.err
    assert "trained on 60 labels" in ended.messages[0]
    assert Path("after.csv").read_bytes() == Path("before.csv").read_bytes()
    assert dal("predict", elsewhere, "new.csv", "-o", "-").out == Path("after.csv").read_bytes().decode("utf-8-sig")


def test_answers_given_after_an_export_are_in_the_next_one(dal: Command) -> None:
    project(dal)
    assert dal("export", "project", "--model", "model").code == 0
    assert dal("ask", "project", "-n", 12, "-o", "todo.csv").code == 0
    truth = {row["id"]: row["label"] for row in read_rows("tickets.csv")}
    fill(Path("todo.csv"), [truth[row["id"]] for row in read_rows("todo.csv")])
    assert dal("tell", "project", "todo.csv", "--who", "ana").code == 0
    assert "already holds a saved model" in refused(dal, "export", "project", "--model", "model")
    ended = dal("export", "project", "--model", "model", "--force", "-o", "labels.csv")
    assert ended.code == 0, ended.err
    assert len(read_rows("labels.csv")) == 72
    card = Path("model/README.md").read_text("utf-8")
    assert "- pool: 120 texts, of which 72 have a label" in card
    assert "Labels came from imported labels (60), people (12)." in card
    assert "Texts were selected in 1 round by `Random` (12).\n" in card
    assert "60 labels are of texts that nobody was asked about" in card
    assert all(f"## {title}" in card for title in ("Data", "Accuracy", "Calibration and thresholds", "Limits"))


def test_models_of_runs_and_of_their_cells_are_exported(dal: Command) -> None:
    dal.configured(run=running(rounds=1, batch=10, start=20, seeds=[0, 1], report=False, baseline=None, quiet=True))
    assert dal("run", "run.yaml", "--folder", "run").code == 0
    for folder, options in (("run", []), ("run", ["--cell", "Margin-seed1"]), ("run/Margin-seed0", [])):
        ended = dal("export", folder, "--model", "model", "--force", *options)
        assert ended.code == 0, ended.err
        assert dal("predict", "model", "new.csv").code == 0
    assert "has no cell 'x'" in refused(dal, "export", "run", "--model", "other", "--cell", "x")
    assert "is a saved model, which has no cells" in refused(dal, "predict", "model", "new.csv", "--cell", "x")
    assert not Path("other").exists()


def test_columns_are_those_of_the_data_unless_others_are_named(dal: Command) -> None:
    project(dal)
    assert dal("export", "project", "--model", "model").code == 0
    text = Path("new.csv").read_text("utf-8").replace("id,text", "number,body")
    Path("new.csv").write_text(text, "utf-8")
    assert "has no column 'text'" in refused(dal, "predict", "model", "new.csv")
    ended = dal("predict", "model", "new.csv", "--text", "body", "--id", "number")
    assert ended.out.splitlines()[1].startswith("t0,")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "half.csv"], "is a file, not a folder"),
        (["--model", "half.csv/model"], "is a file"),
        (["--model", "."], "cannot be replaced"),
        (["--model", "project"], "one of dal's own folders"),
        (["--model", "project/model"], "one of dal's own folders"),
        (["--model", "other", "--force"], "already exists, and is no saved model"),
        (["--model", "model", "--all"], "--all is about the labels"),
        (["--model", "model", "-o", "model/labels.csv"], "is inside the folder of --model"),
        (["--model", "model", "-o", "half.csv"], "already exists"),
        (["--model", "model", "-o", "labels.xlsx"], "the suffix decides the format"),
        (["--model", ""], "the name is empty"),
    ],
)
def test_wrong_folder_of_a_model_is_refused_before_anything_is_trained(
    dal: Command, arguments: list[str], message: str
) -> None:
    project(dal)
    Path("other").mkdir()
    Path("other/mine.txt").write_text("mine")
    assert message in refused(dal, "export", "project", *arguments)
    assert not Path("model").exists()
    assert Path("other/mine.txt").read_text() == "mine"


def test_project_without_labels_has_no_model(dal: Command) -> None:
    assert dal("init", "empty", "--data", "half.csv", "--text", "text", "--classes", "a,b").code == 0
    assert "nothing is labeled yet" in refused(dal, "export", "empty", "--model", "model")
    assert not Path("model").exists()


def test_what_a_saved_model_cannot_do_is_said(dal: Command) -> None:
    project(dal)
    assert dal("export", "project", "--model", "model").code == 0
    assert "without texts: name the file" in refused(dal, "predict", "model")
    assert "needs held-out labels" in refused(dal, "predict", "model", "new.csv", "--max-error", 0.1)
    assert "needs held-out labels" in refused(dal, "predict", "model", "new.csv", "--min-recall", "billing=0.9")
    message = refused(dal, "predict", "model", "new.csv", "-o", "model/README.md", "--force")
    assert "one of dal's own files" in message
    assert "`dal predict model FILE` predicts new texts" in refused(dal, "export", "model", "-o", "x.csv")
    Path("foreign").mkdir()
    Path("foreign/config.json").write_text('{"model_type": "bert"}')
    assert "it has no config.yaml" in refused(dal, "predict", "foreign", "new.csv")


# -- damage and attacks ----------------------------------------------------------------------------------------------


def _halved(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "halved": _halved,
    "empty": lambda file: file.write_bytes(b""),
    "noise": lambda file: file.write_bytes(bytes(range(256)) * 20),
    "list": lambda file: file.write_text("[]"),
    "object": lambda file: file.write_text("{}"),
}


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*isinstance.treespec, LeafSpec")
@pytest.mark.parametrize("learner", ["TfidfLearner", "PROBE", "TRANSFORMER"])
def test_damaged_file_is_one_line_or_changes_no_prediction(dal: Command, tiny_bert: Path, learner: str) -> None:
    project(dal, learner.replace("PROBE", probe(tiny_bert)).replace("TRANSFORMER", TRANSFORMER.format(model=tiny_bert)))
    assert dal("export", "project", "--model", "model").code == 0
    before = dal("predict", "model", "new.csv").out
    harmless = set()
    for file in sorted(path for path in Path("model").rglob("*") if path.is_file()):
        for name, damage in DAMAGES.items():
            shutil.copytree("model", "damaged")
            damage(Path("damaged") / file.relative_to("model"))
            ended = dal("predict", "damaged", "new.csv")
            assert "Traceback" not in ended.err, (file, name)
            if ended.code == 0:
                assert ended.out == before, (file, name)
                harmless.add(file.name)
            else:
                assert ended.messages[-1].startswith("dal: error: "), (file, name, ended.err)
                assert len([line for line in ended.messages if "error" in line]) == 1, (file, name, ended.err)
                assert "the model is fitted again" not in ended.messages[-1]
            shutil.rmtree("damaged")
    assert not {"dal_model.json", "model.safetensors", "head.safetensors", "tfidf.safetensors"} & harmless
    assert "README.md" in harmless


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*isinstance.treespec, LeafSpec")
def test_no_pickle_and_no_code_in_a_saved_model_is_read(dal: Command, tiny_bert: Path) -> None:
    import torch

    project(dal, TRANSFORMER.format(model=tiny_bert))
    assert dal("export", "project", "--model", "model").code == 0

    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, ("touch attacked",)

    def hostile(name: str, content: object = None, text: str = "") -> str:
        shutil.copytree("model", "hostile")
        if content is not None:
            torch.save(content, Path("hostile") / name)
        else:
            (Path("hostile") / name).write_text(text)
        message = refused(dal, "predict", "hostile", "new.csv")
        shutil.rmtree("hostile")
        return message

    weights = "pytorch_model.bin"
    assert f"holds {weights}, which dal does not write" in hostile(weights, Attack())
    assert "holds adapter_config.json" in hostile("adapter_config.json", text='{"base_model_name_or_path": "x"}')
    config = json.loads(Path("model/config.json").read_text("utf-8"))
    named = json.dumps(config | {"auto_map": {"AutoConfig": "evil.Config"}})
    assert "names code (auto_map)" in hostile("config.json", text=named)
    recipe = json.loads(Path("model/dal_model.json").read_text("utf-8"))
    recipe["learner"] = {"class_path": "os.system", "init_args": {"command": "touch attacked"}}
    assert "learner" in hostile("dal_model.json", text=json.dumps(recipe))
    recipe = json.loads(Path("model/dal_model.json").read_text("utf-8")) | {"temperature": 0}
    assert "the temperature is 0" in hostile("dal_model.json", text=json.dumps(recipe))
    Path("model/model.safetensors").rename("model/weights.safetensors")
    assert "it has no model.safetensors" in refused(dal, "predict", "model", "new.csv")
    assert not Path("attacked").exists()


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*isinstance.treespec, LeafSpec")
def test_no_pickle_in_the_model_of_a_folder_is_read(dal: Command, tiny_bert: Path) -> None:
    import torch
    from safetensors.torch import load_file

    learner = TRANSFORMER.format(model=tiny_bert)
    dal.configured(run=running(learner, rounds=0, start=20, report=False, baseline=None, quiet=True))
    assert dal("run", "run.yaml", "--folder", "run").code == 0
    model = Path("run/Margin-seed0/model")
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    message = refused(dal, "predict", "run", "new.csv")
    assert "holds pytorch_model.bin, which dal does not write" in message
    assert "Delete that folder, and the model is fitted again" in message


def test_killed_export_leaves_no_half_folder(dal: Command) -> None:
    project(dal)
    program = (
        "import os, signal, sys\n"
        "import dal.experiments.saved_model as saved\n"
        "from dal.cli import main\n"
        "write = saved.write_whole\n"
        "def dying(path, text):\n"
        "    write(path, text)\n"
        "    if path.name == sys.argv[1]:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "saved.write_whole = dying\n"
        "main(['export', 'project', '--model', 'model', '--force'])\n"
    )
    for name in ("dal_model.json", "README.md"):
        ended = subprocess.run([sys.executable, "-c", program, name], capture_output=True, check=False)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert not Path("model").exists()
    assert dal("export", "project", "--model", "model").code == 0
    assert is_saved_model(Path("model"))
    assert [path.name for path in Path().iterdir() if path.name.startswith(".model")] == []
    before = sorted((path.name, path.read_bytes()) for path in Path("model").iterdir())
    ended = subprocess.run([sys.executable, "-c", program, "dal_model.json"], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert sorted((path.name, path.read_bytes()) for path in Path("model").iterdir()) == before
