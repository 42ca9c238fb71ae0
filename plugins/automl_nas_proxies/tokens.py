"""Networks whose inputs are token numbers: which tables look the tokens up, and how many different ones there are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError

TABLES = (nn.Embedding, nn.EmbeddingBag)


def look_up(network: nn.Module, inputs: Tensor, *, ones: bool = False) -> tuple[Tensor, int | None]:
    """Run a network, and watch which of its tables read the inputs.

    A table of positions, which reads numbers that the network makes itself, is not one of them.

    Args:
        network: is run once.
        inputs: shape ``(batch, *input_shape)``, floating or int64.
        ones: whether tables return ones instead of the vectors of the tokens.

    Returns:
        The outputs, and the number of different tokens that all these tables have; None if inputs are floating.

    Raises:
        ConfigurationError: inputs are integers, and no table reads them.
    """
    sizes: list[int] = []
    storage = inputs.untyped_storage().data_ptr()

    def watch(table: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        # A column of the tokens is a view of them.
        if not args or args[0].untyped_storage().data_ptr() != storage:
            return None
        sizes.append(int(table.num_embeddings))  # type: ignore[arg-type]
        return torch.ones_like(output) if ones else None

    handles = [module.register_forward_hook(watch) for module in network.modules() if isinstance(module, TABLES)]
    try:
        outputs: Tensor = network(inputs)
    except Exception as error:
        if inputs.is_floating_point() or sizes:
            raise
        raise _no_table() from error
    finally:
        for handle in handles:
            handle.remove()
    if inputs.is_floating_point():
        return outputs, None
    if not sizes:
        raise _no_table()
    return outputs, min(sizes)


def _no_table() -> ConfigurationError:
    return ConfigurationError(
        "the network takes token numbers, and no nn.Embedding or nn.EmbeddingBag reads them, so it is not known which "
        "vectors stand for them; let the network look its tokens up in such a table, or use another proxy (l2_norm "
        "as a cost; snip, grad_norm or nwot in the evaluator zero_cost)"
    )
