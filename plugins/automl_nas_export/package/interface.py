"""What goes into a package's network and what comes out of it: the content of ``preprocessing.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from automl_nas.errors import RunFailedError
from automl_nas.evaluation import Delivery

READABLE = ("L", "RGB")
"""The channels of images that ``infer.py`` reads from image files."""

INTEGER_TOLERANCE = 0.05
"""By how much a pixel that is computed back from an input may differ from a whole number."""


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a package.

    Attributes:
        network_input: of the network in PyTorch: ``kind`` (``image``, ``table`` or ``array``), ``shape``, ``dtype``,
            and what the task says of its preprocessing.
        output: ``kind`` (``classes``, ``labels``, ``numbers`` or ``other``), ``logits`` (None: unknown),
            ``class_names``, perhaps ``target_scale``.
        normalization: whether ``model.onnx`` normalises.
        softmax: whether ``model.onnx`` has probabilities as outputs.
        dynamic_size: whether the programs accept images of any height and width.
    """

    network_input: dict[str, Any]
    output: dict[str, Any]
    normalization: bool
    softmax: bool
    dynamic_size: bool = False

    @classmethod
    def of(
        cls,
        delivery: Delivery,
        dtype: torch.dtype,
        *,
        normalization: bool,
        softmax: bool,
        dynamic_size: bool = False,
    ) -> Interface:
        """Return the interface of a network.

        Args:
            delivery: of the network.
            dtype: of its inputs.
            normalization: whether the ONNX model normalises; for images only.
            softmax: whether the ONNX model computes probabilities; for classes and labels only.
            dynamic_size: whether the programs accept images of any height and width.

        Raises:
            RunFailedError: an option does not fit the task.
        """
        rule = dict(delivery.preprocessing or {})
        kind = rule.pop("input", None)
        known_kind = kind in ("image", "table")
        inputs = {
            **(rule if known_kind else {"task": rule} if rule else {}),
            "kind": kind if known_kind else "array",
            "shape": list(delivery.input_shape),
            "dtype": str(dtype).removeprefix("torch."),
            **({"dynamic_size": True} if dynamic_size else {}),
        }
        output = {"kind": "other", "logits": None, **dict(delivery.outputs or {})}
        output["class_names"] = None if delivery.class_names is None else list(delivery.class_names)
        if normalization and kind != "image":
            raise RunFailedError("normalization: true needs a task of images that describes its preprocessing")
        if softmax and not output["logits"]:
            raise RunFailedError("softmax: true needs a task of classes or labels, whose outputs are logits")
        return cls(inputs, output, normalization, softmax, dynamic_size)

    @property
    def input(self) -> dict[str, Any]:
        """The inputs of ``model.onnx``."""
        if not self.normalization:
            return self.network_input
        channels = len(self.network_input["mean"])
        return {
            **self.network_input,
            "value_range": [0.0, 255.0],
            "mean": [0.0] * channels,
            "std": [1.0] * channels,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``preprocessing.json``."""
        output = {**self.output, "logits": False} if self.softmax else self.output
        return {
            "format": 1,
            "input": self.input,
            "output": output,
            "baked": {"normalization": self.normalization, "softmax": self.softmax},
            **({"network_input": self.network_input} if self.normalization else {}),
        }

    def deployed(self, network: nn.Module) -> nn.Module:
        """Return the network as ``model.onnx`` has it."""
        if not (self.normalization or self.softmax):
            return network
        normalize = _Normalize(self.network_input) if self.normalization else nn.Identity()
        activation = (
            {"classes": nn.Softmax(dim=1), "labels": nn.Sigmoid()}[self.output["kind"]] if self.softmax else None
        )
        return nn.Sequential(normalize, network, activation or nn.Identity()).eval()

    def levels(self, inputs: Tensor) -> Tensor:
        """Return inputs of the network, of images, in the range of pixels, 0 to 255; they need not be whole numbers."""
        rule = self.network_input
        low, high = rule["value_range"]
        mean, std = (torch.tensor(rule[name], dtype=torch.float64).view(-1, 1, 1) for name in ("mean", "std"))
        levels: Tensor = (inputs.double() * std + mean - low) / (high - low) * 255
        return levels

    def pixels(self, inputs: Tensor) -> Tensor:
        """Return the pixels, 0 to 255, that inputs of the network were computed from.

        Raises:
            RunFailedError: they are not whole numbers, so the inputs were computed in another way.
        """
        pixels = self.levels(inputs)
        nearest: Tensor = pixels.round()
        difference = float((pixels - nearest).abs().max())
        if not (difference <= INTEGER_TOLERANCE and float(nearest.min()) >= 0 and float(nearest.max()) <= 255):
            raise RunFailedError(
                "the task computes its inputs otherwise than its preprocessing() says: computed back from them, pixels "
                f"are not whole numbers from 0 to 255 (off by {difference:.3g}); correct mean, std or value_range"
            )
        return nearest

    def of_network(self, inputs: Tensor) -> Tensor:
        """Return inputs of the network as inputs of ``model.onnx``; those of images need not be whole pixels."""
        return self.levels(inputs).to(inputs.dtype) if self.normalization else inputs

    def to_network(self, outputs: Tensor) -> Tensor:
        """Return outputs of ``model.onnx`` as outputs of the network; for softmax up to a constant for each input."""
        if not self.softmax:
            return outputs
        chances = outputs.double().clamp(1e-300, 1.0)
        logits = chances.log() if self.output["kind"] == "classes" else chances.logit(eps=1e-15)
        return logits.to(outputs.dtype)

    def deployed_inputs(self, inputs: Tensor) -> Tensor:
        """Return inputs of the network as inputs of ``model.onnx``."""
        return self.pixels(inputs).to(inputs.dtype) if self.normalization else inputs

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return what ``infer.py`` makes of the outputs of the network."""
        values = outputs.double()
        if self.output["kind"] == "classes":
            return values.softmax(1)
        if self.output["kind"] == "labels":
            return values.sigmoid()
        scale = self.output.get("target_scale")
        if scale is None:
            return values
        mean, deviation = (torch.tensor(scale[name], dtype=torch.float64) for name in ("mean", "deviation"))
        return values * deviation + mean


class _Normalize(nn.Module):
    """Pixels from 0 to 255 -> inputs of the network."""

    def __init__(self, rule: dict[str, Any]) -> None:
        super().__init__()
        low, high = rule["value_range"]
        mean, std = (torch.tensor(rule[name], dtype=torch.float64).view(1, -1, 1, 1) for name in ("mean", "std"))
        dtype = getattr(torch, rule["dtype"])
        self.scale: Tensor
        self.offset: Tensor
        self.register_buffer("scale", ((high - low) / 255 / std).to(dtype))
        self.register_buffer("offset", ((low - mean) / std).to(dtype))

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels * self.scale + self.offset
