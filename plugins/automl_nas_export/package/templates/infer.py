"""Predictions of ``model.onnx`` for files. It needs onnxruntime and numpy, and Pillow for images.

    python infer.py photo.jpg other.png      # prints a line for each image
    python infer.py --json rows.csv          # a table with a header
    python infer.py --int8 photo.jpg         # with model.int8.onnx, if the folder has it
    python infer.py sequences.npy            # inputs of the network; also a .csv of numbers without header

In Python:

    from infer import Model
    predictions = Model().predict(["photo.jpg"])

``preprocessing.json`` says how inputs are computed from files and what outputs mean.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

BATCH = 64
"""The number of inputs that are computed at once."""

DAMAGED = "is missing, damaged, or of another version; copy the package again, as a whole"
"""What is wrong with a file of the package that cannot be read."""


class InputError(ValueError):
    """A file cannot be used; the message names the file and the reason."""


class Model:
    """The network in ONNX Runtime.

    Args:
        folder: of ``model.onnx`` and ``preprocessing.json``; default: the folder of this file.
        threads: number of threads; 0: ONNX Runtime chooses.
        size: height and width to which images are brought, if the network accepts any; None: those of the training.
        int8: whether ``model.int8.onnx`` is used.

    Raises:
        InputError: the network accepts images of one size only, there is no ``model.int8.onnx``, or a file of the
            package is damaged.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        threads: int = 0,
        size: Sequence[int] | None = None,
        int8: bool = False,
    ) -> None:
        folder = Path(__file__).parent if folder is None else Path(folder)
        file = folder / "preprocessing.json"
        try:
            self.description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            self.input: dict[str, Any] = self.description["input"]
            self.output: dict[str, Any] = self.description["output"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} {DAMAGED} ({type(error).__name__}: {error})") from error
        if size is not None:
            if not self.input.get("dynamic_size") or self.input["kind"] != "image":
                raise InputError("the network accepts inputs of one size only; leave the size out")
            height, width = size
            if min(height, width) < 1:
                raise InputError(f"height and width must be at least 1, not {height} x {width}")
            self.input = {**self.input, "size": [height, width], "shape": [self.input["shape"][0], height, width]}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        file = folder / ("model.int8.onnx" if int8 else "model.onnx")
        if not file.is_file():
            raise InputError(f"{file.name} is not in {folder}{'; leave --int8 out' if int8 else ''}")
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's classes of errors differ between versions
            raise InputError(f"{file} {DAMAGED} ({error})") from error

    def inputs(self, file: str | Path) -> np.ndarray:
        """Return the inputs in a file, of shape ``(number, *shape)``: an image is one input, a table one for each row.

        Raises:
            InputError: the file cannot be read, or does not have the shape or the columns.
        """
        path = Path(file)
        try:
            if path.suffix.lower() == ".npy":
                array = np.load(path, allow_pickle=False)
            elif self.input["kind"] == "image":
                return self._image(path)
            elif self.input["kind"] == "table":
                return self._table(path)
            else:
                array = _numbers(path)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
        except (ValueError, UnicodeDecodeError, csv.Error) as error:
            raise error if isinstance(error, InputError) else InputError(f"{path}: {error}") from error
        return self._shaped(array, path)

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """Return the first output of the network for inputs of any number."""
        parts = [self._run(inputs[first : first + BATCH]) for first in range(0, len(inputs), BATCH)]
        return np.concatenate(parts)

    def _run(self, inputs: np.ndarray) -> Any:
        try:
            return self.session.run(None, {"input": inputs})[0]
        except Exception as error:  # ONNX Runtime's classes of errors differ between versions
            raise InputError(f"the network does not accept inputs of shape {inputs.shape[1:]}: {error}") from error

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return outputs as probabilities (classes: softmax over axis 1, labels: sigmoid), or numbers in their unit."""
        values: np.ndarray = outputs.astype(np.float64)
        if self.output["kind"] == "classes" and self.output["logits"]:
            powers: np.ndarray = np.exp(values - values.max(axis=1, keepdims=True))
            powers /= powers.sum(axis=1, keepdims=True)
            return powers
        if self.output["kind"] == "labels" and self.output["logits"]:
            chances: np.ndarray = np.exp(-np.logaddexp(0.0, -values))
            return chances
        scale = self.output.get("target_scale")
        return values if scale is None else values * np.asarray(scale["deviation"]) + np.asarray(scale["mean"])

    def predict(self, files: Sequence[str | Path]) -> list[dict[str, Any]]:
        """Return a prediction for every input in the files.

        Raises:
            InputError: a file cannot be used, or outputs for it are not finite.
        """
        predictions = []
        for file in files:
            inputs = self.inputs(file)
            values = self.probabilities(self.outputs(inputs))
            if not np.isfinite(values).all():
                bad = int(np.argwhere(~np.isfinite(values))[0][0])
                raise InputError(f"{file}: the outputs for input {bad} (the first is 0) are not finite numbers")
            for row, value in enumerate(values):
                place = {"file": str(file), **({"row": row} if len(inputs) > 1 else {})}
                predictions.append({**place, **self._prediction(value)})
        return predictions

    def _prediction(self, values: np.ndarray) -> dict[str, Any]:
        kind = self.output["kind"]
        if kind == "classes" and values.ndim == 1:
            best = int(values.argmax())
            return {
                "class": self._name(best),
                "probability": float(values[best]),
                "probabilities": {self._name(k): float(value) for k, value in enumerate(values)},
            }
        if kind == "classes":
            classes = values.argmax(axis=0)
            present, counts = np.unique(classes, return_counts=True)
            shares = {self._name(int(k)): float(n) / classes.size for k, n in zip(present, counts, strict=True)}
            return {"shape": list(classes.shape), "shares": shares, "classes": classes.tolist()}
        if kind == "labels" and values.ndim == 1:
            named = {self._name(k): float(value) for k, value in enumerate(values)}
            return {"labels": [name for name, value in named.items() if value >= 0.5], "probabilities": named}
        return {"values": values.tolist()}

    def _name(self, number: int) -> str:
        names = self.output.get("class_names")
        return str(number) if names is None else str(names[number])

    def _shaped(self, array: np.ndarray, path: Path) -> np.ndarray:
        """Return an array of one or several inputs with the type of the network's input."""
        shape, kind = tuple(self.input["shape"]), np.dtype(self.input["dtype"])
        if array.dtype.kind not in "biuf":
            raise InputError(f"{path}: an array of {array.dtype} instead of numbers")
        limits = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind)
        unusable = ~(np.isfinite(array) & (array >= limits.min) & (array <= limits.max))
        if unusable.any():
            index = np.argwhere(unusable)[0].tolist()
            value = array[tuple(index)]
            raise InputError(f"{path}: {value} at the index {index} is not a finite number of type {kind}")
        if array.shape == shape:
            array = array[None]
        elif array.ndim == 2 and array.shape[1] == int(np.prod(shape)):
            array = array.reshape(len(array), *shape)
        if array.shape[1:] != shape or not len(array):
            raise InputError(
                f"{path}: an array of shape {array.shape} instead of (number, {', '.join(map(str, shape))})"
            )
        if kind.kind in "iu" and not np.array_equal(array, np.trunc(array)):
            raise InputError(f"{path}: the network needs whole numbers")
        return np.ascontiguousarray(array, dtype=kind)

    def _image(self, path: Path) -> np.ndarray:
        try:
            from PIL import Image, ImageOps
        except ImportError as error:
            raise InputError(f"{path}: images are read with Pillow, which is missing: pip install pillow") from error

        rule = self.input
        height, width = rule["size"]
        try:
            with Image.open(path) as opened:
                opened.load()
                image = ImageOps.exif_transpose(opened)
        except FileNotFoundError:
            raise
        except Exception as error:  # Pillow raises errors of many classes for damaged content
            raise InputError(f"{path}: not a readable image ({type(error).__name__}: {error})") from error
        try:
            image = _coloured(image, rule["channels"], rule["background"])
            image = _resized(image, rule["resize"], width, height, rule["fill"])
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        pixels = np.asarray(image, dtype=np.float64).reshape(height, width, -1).transpose(2, 0, 1)
        low, high = rule["value_range"]
        mean, std = (np.asarray(rule[name], dtype=np.float64).reshape(-1, 1, 1) for name in ("mean", "std"))
        inputs: np.ndarray = ((low + pixels / 255 * (high - low)) - mean) / std
        return inputs[None].astype(rule["dtype"])

    def _table(self, path: Path) -> np.ndarray:
        rule = self.input
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=rule.get("separator", ","))
            header = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
        if absent := [each["column"] for each in rule["features"] if each["column"] not in header]:
            raise InputError(f"{path}: the column {absent[0]!r} is missing; the file has {', '.join(header)}")
        if twice := [each["column"] for each in rule["features"] if header.count(each["column"]) > 1]:
            raise InputError(f"{path}: the header has the column {twice[0]!r} twice")
        if not rows:
            raise InputError(f"{path}: no rows")
        missing, largest = set(rule["missing_values"]), float(np.finfo(rule["dtype"]).max)
        inputs, strange = [], dict[str, list[str]]()
        for line, row in rows:
            if len(row) != len(header):
                raise InputError(f"{path}, line {line}: {len(row)} cells instead of {len(header)}")
            cells = {name: None if cell in missing else cell for name, cell in zip(header, row, strict=True)}
            try:
                inputs.append([value for each in rule["features"] for value in _feature(each, cells, largest)])
            except InputError as error:
                raise InputError(f"{path}, line {line}, {error}") from None
            for each in rule["features"]:
                cell = cells[each["column"]]
                if "categories" in each and cell is not None and cell not in each["categories"]:
                    strange.setdefault(each["column"], []).append(f"line {line}: {cell!r}")
        for name, cells_of_column in strange.items():
            more = f", and {len(cells_of_column) - 1} more" if len(cells_of_column) > 1 else ""
            warnings.warn(
                f"{path}, column '{name}', {cells_of_column[0]}{more}: not in the training data, so the "
                "prediction is made without this value",
                stacklevel=2,
            )
        return np.asarray(inputs, dtype=np.float64).astype(rule["dtype"])


def _coloured(image: Any, channels: str, background: Sequence[int]) -> Any:
    """Return an image in the colours of the inputs; what is behind transparent pixels is seen."""
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        colour = tuple(background) if len(background) == 3 else (background[0],) * 3
        behind = Image.new("RGBA", image.size, (*colour, 255))
        image = Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")
    if channels not in ("L", "RGB"):
        raise InputError(f"images of {channels} channels are read from .npy files")
    return image.convert(channels)


def _eight_bits(image: Any) -> Any:
    """Return a grey image of 16 bits with 8 bits."""
    from PIL import Image

    values = np.asarray(image)
    if image.mode == "F" or (values.size and (values.min() < 0 or values.max() > 65535)):
        raise InputError(f"pixels from {values.min():g} to {values.max():g} have no known range; convert to 8 bits")
    return Image.fromarray(((values.astype(np.int64) + 128) // 257).astype(np.uint8))


def _resized(image: Any, policy: str, width: int, height: int, fill: Sequence[int]) -> Any:
    from PIL import Image, ImageOps

    if image.size == (width, height):
        return image
    if policy == "squash":
        return image.resize((width, height), Image.Resampling.BILINEAR)
    if policy == "crop":
        return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    if policy == "pad":
        colour = fill[0] if len(fill) == 1 else tuple(fill)
        return ImageOps.pad(image, (width, height), Image.Resampling.BILINEAR, color=colour)
    raise InputError(f"{image.width} x {image.height} pixels instead of {width} x {height}")


def _feature(rule: dict[str, Any], cells: dict[str, str | None], largest: float) -> Iterator[float]:
    """Yield the inputs that are computed from a cell, numbers up to a largest one; None is a missing value.

    Raises:
        InputError: the cell is not a number that the network takes.
    """
    name = rule["column"]
    cell = cells[name]
    if cell is None and not rule["missing"]:
        raise InputError(f"column '{name}': the value is missing, and was never missing in the training data")
    if "categories" in rule:
        for category in rule["categories"]:
            yield float(cell == category)
        return
    try:
        # Python accepts 1_000, other programs do not, nor does the training.
        number = 0.0 if cell is None else (float(cell.replace("_", "?")) - rule["mean"]) / rule["deviation"]
    except ValueError:
        number = float("nan")
    if not abs(number) <= largest:  # also true for NaN
        raise InputError(f"column '{name}': {cell!r} is not a finite number")
    yield number
    if rule["missing"]:
        yield float(cell is None)


def _numbers(path: Path) -> np.ndarray:
    """Return the numbers of a CSV file without header, one input in a row."""
    return np.loadtxt(path, delimiter=",", ndmin=2)


def _line(prediction: dict[str, Any]) -> str:
    place = prediction["file"] + (f" [{prediction['row']}]" if "row" in prediction else "")
    if "class" in prediction:
        others = sorted(prediction["probabilities"].items(), key=lambda item: -item[1])[1:3]
        rest = "".join(f", {name} {value:.4f}" for name, value in others)
        return f"{place}: {prediction['class']} {prediction['probability']:.4f}{rest}"
    if "labels" in prediction:
        values = ", ".join(f"{name} {value:.4f}" for name, value in prediction["probabilities"].items())
        return f"{place}: {' '.join(prediction['labels']) or 'no label'} ({values})"
    if "shares" in prediction:
        return f"{place}: " + ", ".join(f"{name} {share:.1%}" for name, share in prediction["shares"].items())
    return f"{place}: {prediction['values']}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print predictions for files; return 0, or 2 if a file cannot be used."""
    parser = argparse.ArgumentParser(description="Predictions of model.onnx for files.")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print one JSON list with every probability")
    parser.add_argument("--threads", type=int, default=0, help="number of threads (default: ONNX Runtime chooses)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size of the images for the network, if it accepts any (default: that of the training)",
    )
    parser.add_argument("--int8", action="store_true", help="use model.int8.onnx instead of model.onnx")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", module="PIL")  # of oddities that do not change pixels
    warnings.formatwarning = lambda message, *rest: f"infer.py: warning: {message}\n"
    predictions, unusable = [], 0
    try:
        model = Model(threads=options.threads, size=options.size, int8=options.int8)
    except InputError as error:
        print(f"infer.py: {error}", file=sys.stderr)
        return 2
    for file in options.files:
        try:
            results = model.predict([file])
        except InputError as error:  # the other files are predicted
            unusable += 1
            print(f"infer.py: {error}", file=sys.stderr)
            continue
        if options.json:
            predictions += results
        else:
            print("\n".join(map(_line, results)), flush=True)
    if options.json:
        print(json.dumps(predictions, indent=1, allow_nan=False))
    return 2 if unusable else 0


if __name__ == "__main__":
    sys.exit(main())
