"""The task of any map-style torch Dataset: `DatasetTask`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from automl_nas.errors import DataError
from automl_nas.evaluation.sampling import Indices, sample_draws, sample_generator
from automl_nas.evaluation.task import Batch
from automl_nas.evaluation.tasks.losses import Kind, LossFunction, make_loss
from automl_nas.evaluation.tasks.metrics import Metrics
from automl_nas.evaluation.tasks.samples import as_inputs, as_targets
from automl_nas.evaluation.tasks.split_task import ClassWeights, LossSettings, Sampler, Sizes, SplitSettings, SplitTask
from automl_nas.evaluation.tasks.supervised import RESAMPLES

PROBED = 8
"""The number of samples with which a Dataset is tried at construction."""
DIGESTED = 64
"""The number of samples of each Dataset that the fingerprint contains."""


class Samples(Protocol):
    """A map-style Dataset of torch, or any sequence, of samples (input, target)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class DatasetTask(SplitTask):
    """Any supervised task whose samples come from a map-style Dataset of torch; they are read when they are needed.

    A sample is ``(input, target)``; all inputs have one shape, and all targets, too. While a sample is read, the global
    generators of torch, NumPy and Python are seeded from (seed, epoch, index), so that random transforms give the same
    sample with 0 and with 4 loader workers and after a resume. A Dataset with a generator of its own is refused.

    See `TensorTask` for losses, metrics, types of inputs and targets, and for the settings not described here.

    Args:
        train: the training samples, with augmentation if wanted.
        search: the samples of the split ``search``; None: held out of ``train``.
        test: the samples of the split ``test``; None: held out of ``train``.
        unaugmented: the samples of ``train`` in the same order without augmentation, for scores; needed if ``train``
            augments and a split is held out.
        targets: the targets of ``train``; None: its attribute ``targets``, as torchvision's data sets have it, or else
            every sample is read once at construction.
        loss: a name or a function.
        metrics: names, and mappings from a name to ``(function, direction)``.
        num_classes: the number of classes; None: from the targets.
        class_names: for the report, each another one; None: the attribute ``classes`` of ``train``, in which a name
            that comes again gets its number, or numbers.
        batch_size: samples in a training batch.
        score_batch_size: samples in a batch when a network is scored.
        search_fraction: share of the samples outside the test split that is held out for the search.
        test_fraction: share of the training samples that is held out for the final report.
        split_seed: seed of the splits.
        label_smoothing: of ``cross_entropy``.
        class_weights: ``balanced``, or one weight for each class.
        sampler: ``shuffle`` or ``balanced``.
        ignore_index: the class number of targets that do not count.
        standardize_targets: whether networks learn standardised targets.
        resamples: the number of bootstrap resamples of an interval; 0: metrics that need them have no interval.
        preprocessing: what `Task.preprocessing` returns: how inputs are computed from raw data.
        workers: number of processes that read training samples; 0: the training process reads them.

    Raises:
        ConfigurationError: a setting is out of its range.
        DataError: a sample cannot be read or has another type or shape, or the Dataset draws random numbers from
            another generator than the global ones.
    """

    def __init__(
        self,
        train: Samples,
        *,
        search: Samples | None = None,
        test: Samples | None = None,
        unaugmented: Samples | None = None,
        targets: Any = None,
        loss: str | LossFunction = "cross_entropy",
        metrics: Metrics | None = None,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        batch_size: int = 64,
        score_batch_size: int = 256,
        search_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
        sampler: Sampler = "shuffle",
        ignore_index: int | None = None,
        standardize_targets: bool = False,
        resamples: int = RESAMPLES,
        preprocessing: Mapping[str, Any] | None = None,
        workers: int = 0,
    ) -> None:
        kind = make_loss(loss, ignore_index=ignore_index).kind
        datasets = {"train": train, "search": search, "test": test}
        for name, samples in datasets.items():
            _check_length(name, samples)
        if unaugmented is not None and len(unaugmented) != len(train):
            raise DataError(f"unaugmented has {len(unaugmented)} samples, and train has {len(train)}")
        parts = tuple((name, samples) for name, samples in datasets.items() if samples is not None)
        source = _Reader(parts, unaugmented or train, kind)
        augmented = _probe(source)
        if augmented and unaugmented is None and (search is None or test is None):
            held_out = " and ".join(name for name in ("search", "test") if datasets[name] is None)
            raise DataError(
                "the Dataset train augments its samples at random, so the held-out samples "
                f"({held_out}) would be scored with augmentation; give unaugmented=, the same Dataset without random "
                "transforms, or search= and test="
            )
        example = source.plain(np.zeros(1, dtype=np.int64))
        if class_names is None and num_classes is None and kind == "classes":
            class_names = _own_names(train)
            num_classes = None if class_names is None else len(class_names)
        super().__init__(
            source,
            Sizes(len(train), None if search is None else len(search), None if test is None else len(test)),
            _targets_of(train, targets, kind, source),
            tuple(example[0].shape[1:]),
            LossSettings(loss, metrics, num_classes, label_smoothing, class_weights, ignore_index, class_names),
            SplitSettings(batch_size, score_batch_size, search_fraction, test_fraction, split_seed, sampler, workers),
            standardize=standardize_targets,
            resamples=resamples,
            preprocessing=preprocessing,
        )
        self._reader = source

    def fingerprint(self) -> str:
        """Return the SHA-256 of the splits and of up to 64 evenly spaced samples of each Dataset.

        So a change of other samples remains unnoticed; reading all of a large data set would take too long.
        """
        digest = hashlib.sha256()
        start = 0
        for name, samples in self._reader.parts:
            digest.update(f"{name} {len(samples)}|".encode())
            places = np.unique(np.linspace(start, start + len(samples) - 1, DIGESTED).astype(np.int64))
            for tensor in self._reader.plain(places):
                digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
            start += len(samples)
        for split in ("train", "search", "test"):
            digest.update(self._splits[split].tobytes() + b"|")
        return digest.hexdigest()


@dataclass(frozen=True)
class _Reader:
    """Reads samples of several Datasets, which are numbered one after the other.

    Attributes:
        parts: name and Dataset.
        unaugmented: replaces the first part without augmentation.
        kind: what targets are.
    """

    parts: tuple[tuple[str, Samples], ...]
    unaugmented: Samples
    kind: Kind

    def __call__(self, indices: Indices, seed: int, epoch: int) -> Batch:
        return self._read(self.parts, indices, sample_draws(seed, "augment", epoch, indices)[:, 0].tolist())

    def plain(self, indices: Indices) -> Batch:
        """Return the samples without augmentation."""
        parts = ((self.parts[0][0], self.unaugmented), *self.parts[1:])
        return self._read(parts, indices, sample_draws(0, "read", 0, indices)[:, 0].tolist())

    def _read(self, parts: tuple[tuple[str, Samples], ...], indices: Indices, words: list[int]) -> Batch:
        inputs: list[Tensor] = []
        targets: list[Tensor] = []
        with sample_generator() as seed_sample:
            for index, word in zip(indices.tolist(), words, strict=True):
                seed_sample(word)
                sample, where = _sample(parts, index)
                inputs.append(as_inputs(sample[0], f"the input of {where}"))
                targets.append(as_targets(sample[1], self.kind, f"the target of {where}"))
                for what, tensors in (("input", inputs), ("target", targets)):
                    one, first = tensors[-1], tensors[0]
                    if one.shape != first.shape or one.dtype != first.dtype:
                        raise DataError(
                            f"the {what} of {where} is {one.dtype} of shape {tuple(one.shape)}, and that of another "
                            f"sample is {first.dtype} of shape {tuple(first.shape)}; all must be equal: resize or pad "
                            "them"
                        )
        return torch.stack(inputs), torch.stack(targets)


def _sample(parts: tuple[tuple[str, Samples], ...], index: int) -> tuple[tuple[Any, Any], str]:
    """Return a sample by its number, and what it is, for messages."""
    part = 0
    while index >= len(parts[part][1]):
        index -= len(parts[part][1])
        part += 1
    name, samples = parts[part]
    try:
        sample: Any = samples[index]
    except Exception as error:
        raise DataError(
            f"sample {index} of the Dataset {name} cannot be read: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        described = f"{type(sample).__name__} of {len(sample)}" if hasattr(sample, "__len__") else type(sample).__name__
        raise DataError(
            f"sample {index} of the Dataset {name} is a {described}, and not (input, target); wrap the Dataset in one "
            "whose __getitem__ returns this pair"
        )
    return (sample[0], sample[1]), f"sample {index} of the Dataset {name}"


def _check_length(name: str, samples: Samples | None) -> None:
    if samples is None:
        return
    try:
        size = len(samples)
        samples.__getitem__  # noqa: B018 - an IterableDataset has none, or one that raises
    except (TypeError, AttributeError, NotImplementedError):
        raise DataError(
            f"{name} is a {type(samples).__name__}, and not a map-style Dataset: it needs __len__ and __getitem__"
        ) from None
    if size < 1:
        raise DataError(f"the Dataset {name} is empty")


def _probe(reader: _Reader) -> bool:
    """Return whether training samples are augmented, after trying a few of them.

    Raises:
        DataError: a sample cannot be read, or it differs although the generators were seeded equally.
    """
    places = np.unique(np.linspace(0, len(reader.parts[0][1]) - 1, PROBED).astype(np.int64))
    first, again, other = reader(places, 0, 0), reader(places, 0, 0), reader(places, 0, 1)
    if not all(map(torch.equal, first, again)):
        raise DataError(
            "the Dataset train returns another sample each time, although the global generators of torch, NumPy and "
            "Python are seeded before: it draws from a generator of its own, such as numpy.random.default_rng(), or "
            "has a state; draw from numpy.random, random or torch instead"
        )
    return not all(map(torch.equal, first, other))


def _targets_of(train: Samples, targets: Any, kind: Kind, reader: _Reader) -> Tensor:
    """Return the targets of all training samples."""
    if targets is None:
        targets = getattr(train, "targets", None)
    if targets is not None:
        read = as_targets(targets, kind, "targets")
        if len(read) != len(train):
            raise DataError(f"targets has {len(read)} entries, and train has {len(train)} samples")
        mine = reader.plain(np.zeros(1, dtype=np.int64))[1][0]
        if not torch.equal(mine, read[0]):
            raise DataError(
                "the first of targets is not the target of the first sample of train; pass targets= as the Dataset "
                "returns them"
            )
        return read
    chunks = range(0, len(train), 256)
    return torch.cat([reader.plain(np.arange(k, min(k + 256, len(train)), dtype=np.int64))[1] for k in chunks])


def _own_names(train: Samples) -> tuple[str, ...] | None:
    """Return the names that a Dataset has for its classes; a name of several classes gets their numbers."""
    classes = getattr(train, "classes", None)
    if classes is None:
        return None
    # torchvision's ImageNet has a tuple of synonyms for each class, and two classes with the name "crane".
    names = [", ".join(map(str, each)) if isinstance(each, list | tuple) else str(each) for each in classes]
    counts = Counter(names)
    return tuple(f"{name} ({number})" if counts[name] > 1 else name for number, name in enumerate(names))
