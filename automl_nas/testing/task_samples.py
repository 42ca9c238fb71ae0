"""Clauses of tasks about which samples a split has: `TaskSamples`."""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from automl_nas.evaluation.task import SPLITS, Task
from automl_nas.testing.contract import require
from automl_nas.testing.task_base import BASIC, TaskUses

CLOSE = 0.5
"""An input is recognised as an augmented sample below this fraction of the typical distance between samples."""
MOST = 400
"""The largest number of samples that are compared with all others."""


class TaskSamples(TaskUses):
    """The samples of a split are its own, in scores and in training batches."""

    def test_splits_are_disjoint(self) -> None:
        """No sample is in two of train, search and test; train+search has exactly the samples of both.

        Way out: split the indices once, in the constructor. If the data set has duplicates, set ``shared``.
        """
        task = self.make_task()
        seen = {split: _fingerprints(self._scored_inputs(task, split)) for split in SPLITS}
        for one, two in (("train", "search"), ("train", "test"), ("search", "test")):
            common = (seen[one] & seen[two]).total()
            require(common <= self.shared, f"{common} samples are in '{one}' and in '{two}'")
        both = seen["train"] + seen["search"]
        require(seen["train+search"] == both, "train+search has not the samples of train and search")

    def test_training_batches_have_samples_of_their_split(self) -> None:
        """The images of training batches are, perhaps augmented, those that `score` shows for the same split.

        Way out: `batches` and `score` use the same indices of a split.
        """
        task = self.make_task()
        owners, samples = self._all_samples(task)
        if len(samples) < 2:
            return
        limit = CLOSE * _typical_distance(samples)
        for split in (*BASIC, "train+search"):
            if not task.batches_per_epoch(split):
                continue
            inputs = torch.cat([batch for batch, _ in task.batches(split, 0, 0)])[:MOST]
            distance, nearest = _nearest(inputs, samples)
            foreign = [
                far
                for place, far in zip(nearest.tolist(), distance.tolist(), strict=True)
                if far <= limit and owners[place] not in split.split("+")
            ]
            same = sum(far <= 1e-6 * limit for far in foreign)
            require(same <= self.shared, f"{same} of {len(inputs)} images of '{split}' are those of another split")
            # Augmented images may by chance be closest to another split's; a split that leaks has more.
            allowed = self.shared + len(inputs) // 5
            text = f"{len(foreign)} of {len(inputs)} images of '{split}' are nearest to those of another split"
            require(len(foreign) <= allowed, text)

    def test_scores_and_batches_have_inputs_of_one_scale(self) -> None:
        """The numbers of training batches have about the mean and the deviation of those that `score` shows.

        Way out: normalise inputs in the same way in `batches` and in `score`.
        """
        task = self.make_task()
        if self.integers or not task.batches_per_epoch("train"):
            return
        trained = torch.cat([inputs for inputs, _ in task.batches("train", 0, 0)])[:MOST].double()
        scored = self._scored_inputs(task, "train")[:MOST].double()
        (mean, spread), (usual, expected) = ((float(x.mean()), float(x.std())) for x in (trained, scored))
        text = f"trained are {mean:.3g} +- {spread:.3g}, scored {usual:.3g} +- {expected:.3g}"
        # Augmentation changes brightness and contrast and covers parts of images; it does not double their spread.
        require(expected / 2.5 <= spread <= expected * 2.5, text)
        require(abs(mean - usual) <= 1.5 * max(spread, expected), text)

    def test_a_sample_keeps_its_target(self) -> None:
        """An image has the same target in every epoch, and with every seed.

        Way out: index inputs and targets by the same order; shuffle neither alone.
        """
        task = self.make_task()
        if not task.batches_per_epoch("train"):
            return
        samples = self._scored_inputs(task, "train")
        if len(samples) < 2 or len(samples) > MOST:
            return
        limit = 0.5 * CLOSE * _typical_distance(samples)
        targets_of: dict[int, Tensor] = {}
        wrong = recognised = 0
        for epoch, seed in ((0, 0), (1, 0), (0, 1)):
            for inputs, targets in task.batches("train", epoch, seed):
                distance, nearest = _nearest(inputs, samples)
                for place, far, target in zip(nearest.tolist(), distance.tolist(), targets, strict=True):
                    if far <= limit:
                        recognised += 1
                        wrong += not torch.equal(targets_of.setdefault(place, target), target)
        require(wrong <= recognised // 20, f"{wrong} of {recognised} images have another target at another time")

    def test_known_targets_have_the_best_scores(self) -> None:
        """A network that returns the targets of training batches scores better than one that returns their opposite.

        Way out: `score` compares outputs with the targets of the same samples, and `metrics` has the right directions.
        """
        task = self.make_task()
        samples, classes = self._scored_inputs(task, "train"), task.num_classes
        if classes is None or classes < 2 or not 2 <= len(samples) <= MOST or self._output_shape(task) != (classes,):
            return
        limit = CLOSE * _typical_distance(samples)
        answers = torch.zeros(len(samples), classes)
        for epoch in range(6):
            for inputs, targets in task.batches("train", epoch, 0):
                if targets.is_floating_point() or targets.dim() != 1:
                    return
                distance, nearest = _nearest(inputs, samples)
                near = distance <= limit
                answers[nearest[near]] = torch.nn.functional.one_hot(targets[near], classes).float()
        if (answers.sum(1) > 0).float().mean() < 0.8:
            return
        right = task.score(lambda inputs: 8 * answers[_nearest(inputs, samples)[1]], "train")
        wrong = task.score(lambda inputs: -8 * answers[_nearest(inputs, samples)[1]], "train")
        for name, direction in task.metrics.items():
            better = right[name] >= wrong[name] if direction == "maximize" else right[name] <= wrong[name]
            values = f"{right[name]:.4g} with the targets and {wrong[name]:.4g} with their opposite"
            require(better, f"{name} is {values}, and is to {direction}")

    def test_an_epoch_covers_the_split(self) -> None:
        """Epochs together use many samples of the split, not the same few.

        Way out: shuffle all indices of the split, then cut them into batches.
        """
        task = self.make_task()
        per_epoch = task.batches_per_epoch("train")
        if not per_epoch:
            return
        samples = self._scored_inputs(task, "train")
        if len(samples) > MOST or len(samples) < 2:
            return
        limit = CLOSE * _typical_distance(samples)
        used, size, count = set(), 0, 0
        for epoch in range(4):
            for inputs, _ in task.batches("train", epoch, 0):
                distance, nearest = _nearest(inputs, samples)
                size += len(inputs)
                recognised = [p for p, far in zip(nearest.tolist(), distance.tolist(), strict=True) if far <= limit]
                count += len(recognised)
                used |= set(recognised)
        if size == 0 or count < size / 2:  # augmentation has made them unrecognisable
            return
        # Of n samples drawn with replacement k times, about n (1 - exp(-k / n)) are distinct; half of that is required.
        expected = len(samples) * (1 - math.exp(-count / len(samples)))
        require(len(used) >= expected / 2, f"{size} images of 4 epochs are only {len(used)} of {len(samples)} samples")

    def _all_samples(self, task: Task) -> tuple[list[str], Tensor]:
        parts = {split: self._scored_inputs(task, split) for split in BASIC}
        owners = [split for split, inputs in parts.items() for _ in range(len(inputs))]
        return owners, torch.cat(list(parts.values()))


def _fingerprints(inputs: Tensor) -> Counter[bytes]:
    return Counter(sample.contiguous().numpy().tobytes() for sample in inputs)


def _flat(inputs: Tensor) -> Tensor:
    """Return inputs as rows without their mean, so that brightness does not matter."""
    rows = inputs.flatten(1).double()
    return rows - rows.mean(1, keepdim=True) if rows.shape[1] > 8 else rows


def _nearest(inputs: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance to, and the number of, the sample nearest to each input or to its mirror image."""
    rows = _flat(samples)
    distance = torch.cdist(_flat(inputs), rows)
    if inputs.dim() == 4:
        distance = torch.minimum(distance, torch.cdist(_flat(inputs.flip(-1)), rows))
    nearest = distance.min(1)
    return nearest.values, nearest.indices


def _typical_distance(samples: Tensor) -> float:
    """Return the median distance from a sample to its nearest other one."""
    rows = _flat(samples[:MOST])
    distances = torch.cdist(rows, rows)
    distances.fill_diagonal_(float("inf"))
    return float(distances.min(1).values.median())
