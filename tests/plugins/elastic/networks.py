"""Small networks with every kind of coupling; each takes its sizes, so that a narrower one can be made anew."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, hidden, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class SmallResNet(nn.Module):
    """A stem of 5x5, residual blocks, a depthwise convolution, a classifier on maps that are flattened."""

    def __init__(
        self,
        width: int = 8,
        hidden: tuple[int, ...] = (8, 16),
        last: int = 16,
        kernel: int = 5,
        inputs: int = 3,
        classes: int = 3,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(inputs, width, kernel, padding=kernel // 2)
        self.blocks = nn.Sequential(*(Block(width, each) for each in hidden))
        self.depthwise = nn.Conv2d(width, width, 3, stride=2, padding=1, groups=width)
        self.head = nn.Conv2d(width, last, 1)
        self.norm = nn.GroupNorm(1, last)
        self.fc = nn.Linear(last * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.stem(x)))
        return self.fc(self.norm(self.head(self.depthwise(x))).flatten(1))


class Attention(nn.Module):
    """Attention whose code divides channels by a number of heads that it stores."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * (c // self.num_heads) ** -0.5
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


class Layer(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SmallTransformer(nn.Module):
    """Tokens, positions, layers that a loop calls, and a mean."""

    def __init__(self, dim: int = 32, heads: int = 4, hidden: tuple[int, ...] = (32, 16)) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, dim)
        self.positions = nn.Parameter(torch.randn(1, 6, dim))
        self.layers = nn.ModuleList(Layer(dim, heads, each) for each in hidden)
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(1))


class Branches(nn.Module):
    """Concatenation, grouped convolution, squeeze and excitation, a gated unit, and a module that is used twice."""

    def __init__(self, one: int = 8, two: int = 16, groups: int = 4, each: int = 4, gate: int = 16) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, one, 3, padding=1), nn.Conv2d(3, two, 1)
        self.enter = nn.Conv2d(one + two, groups * each, 1)
        self.grouped = nn.Conv2d(groups * each, groups * each, 3, padding=1, groups=groups)
        self.squeeze, self.excite = nn.Conv2d(groups * each, 8, 1), nn.Conv2d(8, groups * each, 1)
        self.gated = nn.Linear(groups * each, 2 * gate)
        self.twice = nn.Linear(gate, gate)
        self.fc = nn.Linear(gate, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.enter(torch.cat([self.one(x), self.two(x)], 1)))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        left, right = self.gated(x.mean((2, 3))).chunk(2, dim=1)
        return self.fc(F.relu(self.twice(F.relu(self.twice(left * torch.sigmoid(right))))))


class Branching(nn.Module):
    """Reads a value in one of its modules."""

    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            if x.mean() > 0:
                return self.one(x)
            return self.two(x)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.gate = nn.Linear(4, 32), nn.Linear(32, 16), self.Gate()
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.gate(self.inner(F.relu(self.first(x)))))


class Literal(nn.Module):
    """A reshape by a number that the code contains."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 32), nn.Linear(32, 32), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(F.relu(self.first(x))).reshape(-1, 4, 8).sum(1))
