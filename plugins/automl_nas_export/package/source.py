"""Writing a network as stand-alone Python source: `network_source`."""

from __future__ import annotations

import copy
import keyword
import math
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn

from automl_nas_export.package.layers import NoSourceError, call, literal, torch_layer
from automl_nas_export.places import place
from automl_nas_export.verify import brief

MOST_VALUES = 256
"""Number of values of a constant tensor up to which they are written in the source."""

_HEADER = '''"""{title}

The network in evaluation mode, as modules of PyTorch. It needs torch, and safetensors to read its weights:

    network = load("model.safetensors")
    outputs = network(inputs)    # inputs: {inputs}
"""

from __future__ import annotations

{imports}


'''

_FOOTER = '''

def build() -> nn.Module:
    """Return the network with fresh weights."""
    network = {root}
{ties}    return network


def load(file: str = "model.safetensors") -> nn.Module:
    """Return the network with the weights of a file, in evaluation mode."""
    from safetensors.torch import load_model

    network = build()
    load_model(network, file)
    return network.eval()
'''


def network_source(network: nn.Module, title: str, inputs: str) -> str:
    """Return Python source with the functions ``build`` and ``load`` that make the network; it imports torch only.

    Modules of torch are written as calls of their constructors, all others as classes: their ``forward`` is what
    torch.fx records. The names of parameters and buffers are those of the network.

    Args:
        network: in evaluation mode; it is not changed.
        title: the first line of the docstring.
        inputs: a description of the inputs, for the docstring.

    Raises:
        NoSourceError: a module cannot be written as source; names the module and the reason.
    """
    source = _Source()
    root = source.expression(copy.deepcopy(network), "")
    ties = "".join(f"    {line}\n" for line in _ties(network))
    body = "\n\n".join(source.classes)
    text = body + _FOOTER.format(root=root.replace("\n", "\n    "), ties=ties)
    imports = ["import math"] if re.search(r"\bmath\.", text) else []
    imports += ["from collections import OrderedDict"] if "OrderedDict(" in text else []
    imports += [*([""] if imports else []), "import torch", "from torch import nn"]
    if not re.search(r"\btorch\.", text):
        imports.remove("import torch")
    return (_HEADER.format(title=title, inputs=inputs, imports="\n".join(imports)) + text).replace("\n\n\n\n", "\n\n\n")


def _ties(network: nn.Module) -> list[str]:
    """Return the statements that make parameters and buffers with several names one tensor."""
    lines: list[str] = []
    seen: dict[int, str] = {}
    for kind in (network.named_parameters, network.named_buffers):
        for name, tensor in kind(remove_duplicate=False):
            if id(tensor) in seen:
                lines.append(f"{_attribute(network, name)} = {_attribute(network, seen[id(tensor)])}")
            else:
                seen[id(tensor)] = name
    return lines


def _attribute(network: nn.Module, name: str) -> str:
    """Return the expression of a parameter, such as ``network.body[0].weight``."""
    text, module = "network", network
    *path, last = name.split(".")
    for part in path:
        text += _step(module, part)
        module = module.get_submodule(part)
    return f"{text}.{last}"


def _step(parent: nn.Module, name: str) -> str:
    """Return how a child is reached from its parent: ``.name``, ``[0]`` or ``["name"]``."""
    container = _container_class(parent)
    if container in ("Sequential", "ModuleList") and name.isdigit():
        return f"[{name}]"
    if container == "ModuleDict":
        return f'["{name}"]'
    return f".{name}" if _identifier(name) else f'.get_submodule("{name}")'


def _container_class(module: nn.Module) -> str:
    """Return the class of torch that a container is written as; empty: the module is written otherwise."""
    for cls in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
        own = module._parameters or module._buffers
        if isinstance(module, cls) and type(module).forward is cls.forward and not own:
            return cls.__name__
    return ""


def _identifier(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


class _Source:
    """Collects the classes of a network; modules of equal code share a class."""

    def __init__(self) -> None:
        self.classes: list[str] = []
        self._names: dict[str, str] = {}  # the code of a class without its name -> its name

    def expression(self, module: nn.Module, path: str) -> str:
        """Return the expression that makes a module.

        Raises:
            NoSourceError: the module cannot be written as source.
        """
        where = place(path, type(module).__name__)
        if module._forward_hooks or module._forward_pre_hooks:
            raise NoSourceError(f"{where} has forward hooks")
        if "forward" in vars(module):
            raise NoSourceError(f"{where} has a forward of its own instead of that of its class")
        children = {name: child for name, child in module._modules.items() if child is not None}
        if container := _container_class(module):
            parts = {name: self.expression(child, _join(path, name)) for name, child in children.items()}
            return _container(container, parts)
        layer = torch_layer(module)
        return layer if layer is not None else self._class(module, children, path, where)

    def _class(self, module: nn.Module, children: Mapping[str, nn.Module], path: str, where: str) -> str:
        """Write a class for a module and return the call that makes it."""
        # A copy of the module itself: tracing adds the constants it meets to the module.
        forward, constants = ("", {}) if _only_holds(module) else _forward(module, where)
        lines = ["super().__init__()"]
        for name, child in children.items():
            built = self.expression(child, _join(path, name)).replace("\n", "\n        ")
            lines.append(f"self.{name} = {built}" if _identifier(name) else f'self.add_module("{name}", {built})')
        for name, parameter in module._parameters.items():
            if parameter is not None and name not in constants:
                grad = "" if parameter.requires_grad else ", requires_grad=False"
                lines.append(f"self.{name} = nn.Parameter({_empty(parameter)}{grad})")
        for name, buffer in (*module._buffers.items(), *constants.items()):
            if buffer is None:
                continue
            if name in constants or name in module._non_persistent_buffers_set:
                lines.append(f'self.register_buffer("{name}", {_written(buffer, where)}, persistent=False)')
            else:
                lines.append(f'self.register_buffer("{name}", {_empty(buffer)})')
        initial = "    def __init__(self) -> None:\n" + "".join(f"        {line}\n" for line in lines)
        code = initial + (f"\n{forward}" if forward else "")
        if code not in self._names:
            self._names[code] = name = self._free_name(type(module).__name__)
            self.classes.append(f"class {name}(nn.Module):\n{code}")
        return f"{self._names[code]}()"

    def _free_name(self, name: str) -> str:
        name = re.sub(r"\W", "_", name).lstrip("_") or "Part"
        taken = {*self._names.values(), "OrderedDict", "torch", "nn", "math", "build", "load"}
        if name not in taken and _identifier(name):
            return name
        return next(f"{name}{number}" for number in range(2, len(taken) + 3) if f"{name}{number}" not in taken)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _container(name: str, parts: Mapping[str, str]) -> str:
    if list(parts) == [str(number) for number in range(len(parts))]:
        listed = list(parts.values())
        return call(f"nn.{name}", listed if name == "Sequential" else [_bracketed(listed)])
    pairs = [f'("{key}", {value})' for key, value in parts.items()]
    if name == "Sequential":
        return call("nn.Sequential", [call("OrderedDict", [_bracketed(pairs)])])
    if name == "ModuleDict":
        return call("nn.ModuleDict", [_bracketed(pairs)])
    raise NoSourceError(f"a {name} has missing positions")


def _bracketed(parts: list[str]) -> str:
    return call("", parts, "[]")


def _only_holds(module: nn.Module) -> bool:
    """Whether a module only holds others and has no forward."""
    return type(module).forward is nn.Module.forward


class _Shallow(fx.Tracer):
    """Records the forward of one module; its submodules stay calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _forward(module: nn.Module, where: str) -> tuple[str, dict[str, Tensor]]:
    """Return the source of a module's forward, indented, and the constant tensors that it uses.

    Raises:
        NoSourceError: torch.fx cannot record the forward, or it calls functions that are not torch's.
    """
    before = set(vars(module))
    try:
        graph = _Shallow().trace(module)
    except Exception as error:
        raise NoSourceError(
            f"torch.fx cannot record the forward of {where} ({brief(error)}); a forward must not depend on values, "
            "shapes in conditions or int() of tensors"
        ) from error
    constants = {name: value for name, value in vars(module).items() if name not in before}
    for name, value in constants.items():
        if not isinstance(value, Tensor):
            raise NoSourceError(f"the forward of {where} uses {name}, a {type(value).__name__}")
    for node in graph.nodes:
        node.type = None
        if node.op == "get_attr" and isinstance(owner := _owner(module, node.target), fx.GraphModule | nn.Module):
            value = getattr(owner, node.target.rpartition(".")[2], None)
            if not isinstance(value, Tensor):
                raise NoSourceError(f"the forward of {where} uses {node.target}, which is not a tensor")
            if owner is module and node.target not in {*module._parameters, *module._buffers}:
                constants[node.target] = value
    code = graph.python_code("self")
    for name, value in code.globals.items():
        if re.search(rf"\b{re.escape(name)}\b", code.src) and not _known(name, value):
            raise NoSourceError(f"the forward of {where} calls {name}, which is not a function of torch")
    return _clean(code.src, module), constants


def _owner(module: nn.Module, target: str) -> nn.Module:
    return module.get_submodule(target.rpartition(".")[0])


def _known(name: str, value: Any) -> bool:
    """Whether a global of recorded code exists in the written file."""
    return (isinstance(value, ModuleType) and value in (torch, math)) or name in ("inf", "nan", "device", "NoneType")


def _clean(code: str, module: nn.Module) -> str:
    """Return recorded code as people write it."""
    lines = []
    for line in code.strip().splitlines():
        line = re.sub(r"\s*;\s{2}(\w+ = )+None$", "", line)
        line = re.sub(r"\s+# .*$", "", line)
        if line.strip() and not line.startswith(("import ", "torch.fx._symbolic", "@")):
            lines.append(line)
    text = "\n".join(f"    {line}" for line in lines) + "\n"
    text = text.replace("torch.nn.functional.", "nn.functional.")
    text = re.sub(r"\binf\b", "math.inf", text)
    text = re.sub(r"\bnan\b", "math.nan", text)
    text = re.sub(r"(?<![\w.])device\(", "torch.device(", text)
    pattern = re.compile(r'getattr\((self(?:\.\w+|\[\w+\]|\["\w+"\])*), "(\w+)"\)')
    while match := pattern.search(text):
        parent = module
        for part in re.findall(r"[\w]+", match.group(1))[1:]:
            parent = parent.get_submodule(part)
        text = text[: match.start()] + match.group(1) + _step(parent, match.group(2)) + text[match.end() :]
    return text


def _empty(tensor: Tensor) -> str:
    shape = ", ".join(map(str, tensor.shape)) or "()"
    return f"torch.empty({shape}{_dtype(tensor)})"


def _written(tensor: Tensor, where: str) -> str:
    if tensor.numel() > MOST_VALUES:
        raise NoSourceError(
            f"{where} computes with a constant of {tensor.numel()} values that the weights do not contain; make it a "
            "persistent buffer (register_buffer)"
        )
    return f"torch.tensor({literal(tensor.tolist())}, dtype={tensor.dtype}){_shape(tensor)}"


def _shape(tensor: Tensor) -> str:
    return f".reshape({', '.join(map(str, tensor.shape))})" if tensor.numel() == 0 else ""


def _dtype(tensor: Tensor) -> str:
    return "" if tensor.dtype == torch.float32 else f", dtype={tensor.dtype}"
