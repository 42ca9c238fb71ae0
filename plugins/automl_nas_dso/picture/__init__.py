"""Pictures of the blocks of an architecture, as SVG."""

from automl_nas_dso.picture.svg import block_picture, pictures

__all__ = ["block_picture", "pictures"]
