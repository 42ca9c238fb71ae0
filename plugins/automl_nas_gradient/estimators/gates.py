"""The binary gates of ProxylessNAS: one path for the weights, two paths for alpha."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor

from automl_nas.space import Decision, Selection, Value, Weighted
from automl_nas_gradient.estimators.base import Draw, Estimator, gumbel_noise
from automl_nas_gradient.parameters import ArchitectureParameters


def gates(probabilities: Tensor, active: Tensor) -> Tensor:
    """Return one-hot gates of the active options; their gradient is that of the probabilities.

    With b = dL/dgate, this gives ``dL/dalpha_i = sum_j b_j p_j (delta_ij - p_i)`` (Cai et al. 2019, equation 4).

    Args:
        probabilities: p, shape ``(rows, options)``.
        active: the index of the active option, shape ``(rows, 1)``.
    """
    hard = torch.zeros_like(probabilities).scatter_(1, active, 1.0)
    return hard + (probabilities - probabilities.detach())


@final
class BinaryGates(Estimator):
    """Gates that are 1 for a drawn option and 0 for all others (Cai et al. 2019, arXiv 1812.00332, section 3.2).

    A step of the weights computes one option, drawn by its probability p. A step of alpha draws two options without
    replacement by p, renormalises their probabilities, computes both, and changes their alphas; then it shifts the two
    so that all other probabilities stay as they were.

    Args:
        alpha: the architecture parameters.
        decisions: of the space.
        computed: ``two``: the options that a step of alpha computes; ``all``: it computes all options, and changes all
            alphas.
    """

    def __init__(
        self, alpha: ArchitectureParameters, decisions: dict[str, Decision], computed: Literal["two", "all"] = "two"
    ) -> None:
        super().__init__(alpha)
        self._options = [decisions[name].options for name in alpha.names]
        self._computed = computed
        self._pairs: Tensor | None = None

    def path(self, temperature: float) -> Selection:
        """Return an option for each decision, drawn by its probability, without weights."""
        with torch.no_grad():
            logits = self.alpha.masked()
            places = (logits + gumbel_noise(logits.shape, logits)).argmax(1)
        names = zip(self.alpha.names, self._options, places.tolist(), strict=True)
        fixed = self.alpha.fixed(self.alpha.values.detach())
        return {**fixed, **{name: options[place] for name, options, place in names}}

    def draw(self, temperature: float) -> Draw:
        """Return two options for each decision with the gates 1 and 0; or all options, one of them with gate 1."""
        logits = self.alpha.masked()
        noisy = logits.detach() + gumbel_noise(logits.shape, logits)
        if self._computed == "all":
            probabilities = self.alpha.probabilities()
            selection = self.alpha.selection(gates(probabilities, noisy.argmax(1, keepdim=True)))
            return Draw(selection, self.alpha.selection(probabilities))
        # The two largest of log p + G are a draw without replacement (Vieira 2014; Kool et al. 2019).
        count = min(2, logits.shape[1])
        self._pairs = noisy.topk(count, dim=1).indices.sort(dim=1).values
        pair = torch.softmax(logits.gather(1, self._pairs), dim=1)
        log_pair = pair.detach().log()
        active = (log_pair + gumbel_noise(log_pair.shape, log_pair)).argmax(1, keepdim=True)
        opened = gates(pair, active)
        selection_of: dict[str, Value | Tensor | Weighted] = dict(self.alpha.fixed(opened))
        for name, options, places, row in zip(
            self.alpha.names, self._options, self._pairs.tolist(), opened.unbind(0), strict=True
        ):
            real = len([place for place in places if place < len(options)])
            selection_of[name] = Weighted(tuple(options[place] for place in places[:real]), row[:real])
        weights = torch.zeros_like(logits).scatter(1, self._pairs, pair)
        return Draw(selection_of, self.alpha.selection(weights))

    def stepped(self, before: Tensor) -> None:
        """Shift the two alphas of each decision so that the sum of their exponentials is as before the step."""
        if self._pairs is None:
            return
        values = self.alpha.values
        with torch.no_grad():
            moved = values.gather(1, self._pairs)
            real = self.alpha.mask.gather(1, self._pairs)
            new = moved.masked_fill(~real, -torch.inf).logsumexp(1, keepdim=True)
            old = before.gather(1, self._pairs).masked_fill(~real, -torch.inf).logsumexp(1, keepdim=True)
            # The others keep their alpha, whatever momentum or weight decay the optimiser has.
            values.copy_(before.scatter(1, self._pairs, torch.where(real, moved - (new - old), moved)))
        self._pairs = None
