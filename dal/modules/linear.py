"""`LinearClassifier`: a linear layer on vectors, such as the embeddings of a frozen encoder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dal.errors import LearnerError, one_line
from dal.modules.active_module import ActiveModule, Batch
from dal.modules.dropout import seeded
from dal.store.atomic_files import read_regular, replacing
from dal.store.bounded_json import parse_json


class LinearClassifier(ActiveModule):
    """Linear classifier of vectors `batch["inputs"]`, (B, D), which are also its features.

    Args:
        inputs: number of input dimensions D.
        classes: class names, or number of classes.
        multilabel: whether a row can have any subset of the C labels.
        dropout: dropout probability on the inputs, for MC samples and as regularisation; 0 for none.
        seed: seed of the weight initialisation.

    All other arguments are those of `ActiveModule`.

    Example:
        >>> module = LinearClassifier(8, ["good", "bad"])
        >>> module({"inputs": torch.zeros(5, 8)}).shape
        torch.Size([5, 2])
    """

    expands = True

    def __init__(
        self,
        inputs: int,
        classes: Sequence[str] | int,
        *,
        multilabel: bool = False,
        dropout: float = 0.0,
        seed: int = 0,
        learning_rate: float = 1e-2,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.1,
        class_weights: Tensor | None = None,
        mc_mode: Literal["head", "full"] = "head",
    ) -> None:
        names = [f"LABEL_{index}" for index in range(classes)] if isinstance(classes, int) else list(classes)
        super().__init__(
            len(names),
            multilabel=multilabel,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            warmup_ratio=warmup_ratio,
            class_weights=class_weights,
            mc_mode=mc_mode,
        )
        self.classes = names
        self.dropout = nn.Dropout(dropout)
        with seeded(seed):
            self.linear = nn.Linear(inputs, len(names))

    def features(self, batch: Batch) -> Tensor:
        """Input vectors after dropout, (B, D)."""
        out: Tensor = self.dropout(batch["inputs"])
        return out

    def head(self, features: Tensor) -> Tensor:
        """Logits (..., C) of features (..., D), computed in float32."""
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(features.float(), self.linear.weight.float(), self.linear.bias.float())

    def save(self, folder: Path | str) -> None:
        """Write `model.safetensors` and `config.json` atomically."""
        facts = {
            "inputs": self.linear.in_features,
            "classes": self.classes,
            "multilabel": self.multilabel,
            "dropout": self.dropout.p,
        }
        weights = {name: value.detach().cpu().contiguous() for name, value in self.linear.state_dict().items()}
        with replacing(Path(folder)) as partial:
            save_file(weights, partial / "model.safetensors")
            (partial / "config.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> "LinearClassifier":
        """Load a classifier written by `save`.

        Raises:
            LearnerError: the folder does not hold a valid classifier.
        """
        try:
            facts: Any = parse_json(read_regular(Path(folder) / "config.json"))
            weights = load_file(Path(folder) / "model.safetensors")
            if weights["weight"].shape != (len(facts["classes"]), facts["inputs"]):
                raise ValueError("the weights do not have the shape given in its config")
            if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
                raise ValueError("the weights are NaN or infinite")
            module = cls(facts["inputs"], facts["classes"], multilabel=facts["multilabel"], dropout=facts["dropout"])
            module.linear.load_state_dict(weights)
        except Exception as error:  # the readers raise arbitrary exceptions on damaged files
            raise LearnerError(f"{folder} does not hold a linear classifier: {one_line(error)}") from error
        return module.eval()
