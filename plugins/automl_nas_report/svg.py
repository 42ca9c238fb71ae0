"""Drawing in SVG: elements whose text is escaped, scales and axes. Colours are CSS classes of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from automl_nas.run import human

WIDTH, HEIGHT = 640.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 14.0, 12.0, 42.0


def element(tag: str, *content: str, **attributes: object) -> Markup:
    """Return an element; ``class_`` and the like lose their underscore, other underscores become hyphens.

    Args:
        tag: of the element.
        content: inner elements as `Markup`; other strings are escaped.
        attributes: numbers are rounded to a tenth.
    """
    pairs = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _attribute(value))
        for name, value in attributes.items()
    )
    return Markup("<{}{}>{}</{}>").format(tag, pairs, Markup("").join(map(escape, content)), tag)


def _attribute(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def text(x: float, y: float, content: str, **attributes: object) -> Markup:
    """Return a string at a point."""
    return element("text", content, x=x, y=y, **attributes)


def drawing(content: Sequence[Markup], label: str, width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """Return a whole drawing, which scales with the page but not beyond its size.

    Args:
        content: its elements.
        label: what it shows, for readers who do not see it.
        width: in user units.
        height: in user units.
    """
    return element(
        "svg",
        *content,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
        style=f"max-width:{width:g}px",
        xmlns="http://www.w3.org/2000/svg",
    )


@dataclass(frozen=True)
class Scale:
    """Values to positions.

    Attributes:
        low: the value at ``start``.
        high: the value at ``end``.
        start: position in user units.
        end: position in user units.
    """

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float, *, margin: float = 0.04) -> Scale:
        """Return the scale on which all values have a place, with a margin relative to their range."""
        low, high = min(values), max(values)
        width = high - low
        if not math.isfinite(width):  # the range of floats beyond the largest float
            low, high, width = low / 2, high / 2, high / 2 - low / 2
        if width == 0:
            width = abs(low) or 1.0
            return cls(low - width / 2, high + width / 2, start, end)
        return cls(low - margin * width, high + margin * width, start, end)

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values: about as many as asked for."""
        width = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(width))
        step = min((factor * power for factor in (1, 2, 2.5, 5, 10)), key=lambda step: abs(step - width))
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [position * step for position in range(first, last + 1)] if last - first < 20 else []


def axes(x: Scale, y: Scale, x_title: str, y_title: str) -> list[Markup]:
    """Return a frame with ticks, lines of the grid and titles."""
    bottom, items = y.start, list[Markup]()
    for value, label in _labels(y):
        items.append(element("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), class_="grid"))
        items.append(text(x.start - 6, y(value) + 4, label, class_="tick", text_anchor="end"))
    for value, label in _labels(x):
        items.append(element("line", x1=x(value), x2=x(value), y1=bottom, y2=bottom + 4, class_="axis"))
        items.append(text(x(value), bottom + 17, label, class_="tick", text_anchor="middle"))
    items.append(element("line", x1=x.start, x2=x.end, y1=bottom, y2=bottom, class_="axis"))
    items.append(text((x.start + x.end) / 2, bottom + 35, x_title, class_="title", text_anchor="middle"))
    middle = (y.start + y.end) / 2
    items.append(
        text(13.0, middle, y_title, class_="title", text_anchor="middle", transform=f"rotate(-90 13 {middle})")
    )
    return items


def _labels(scale: Scale) -> list[tuple[float, str]]:
    """Return tick and label; labels have as many digits as it takes to differ."""
    ticks = scale.ticks()
    labels = [human(tick + 0.0) for tick in ticks]
    if len(set(labels)) < len(labels):
        labels = [f"{tick:.8g}" for tick in ticks]
    return list(zip(ticks, labels, strict=True))


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """Return connected lines."""
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def dot(x: float, y: float, radius: float, class_: str, title: str = "") -> Markup:
    """Return a circle, with a title that appears under the mouse."""
    inner = [element("title", title)] if title else []
    return element("circle", *inner, cx=x, cy=y, r=radius, class_=class_)
