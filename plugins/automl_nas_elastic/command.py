"""The command ``automl-nas compress``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli import Configuration, Logs, Override, debug_option, quiet_libraries, working_plugins
from automl_nas.errors import ConfigurationError, RunDirectoryError

if TYPE_CHECKING:
    from automl_nas_elastic.compression import Teacher


@click.command(short_help="Make a trained model smaller under limits, and compare both.")
@click.argument("model")
@click.option(
    "--data",
    required=True,
    metavar="PATH",
    help="A folder with a folder of images for each class, an npz file, or digits.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    required=True,
    metavar="LIMIT",
    help='A limit on a cost, such as "flops <= 0.5 * largest" or "latency_ms <= 3". May be repeated.',
)
@click.option("--weights", metavar="FILE", help="The model's weights, a safetensors file.")
@click.option("--size", type=click.IntRange(1), default=224, show_default=True, help="Pixels of a side, for a folder.")
@click.option(
    "--importance",
    type=click.Choice(["l1", "bn_scale", "taylor"]),
    default="l1",
    show_default=True,
    help="Which channels stay: those of the largest weights or scales of batch normalisation, or those whose removal "
    "changes the loss most.",
)
@click.option(
    "--supernet-epochs",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Epochs in which all networks are trained together before the search; 0: they begin with MODEL's weights.",
)
@click.option(
    "--teacher",
    type=click.Choice(["largest", "original", "none"]),
    default="largest",
    show_default=True,
    help="Whose outputs smaller networks learn: MODEL's, in all trainings, or those of the whole network, which is in "
    "training with --supernet-epochs.",
)
@click.option(
    "--search-steps",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Batches on which each network of the search is trained before it is scored; 0: none.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The run directory (default: <MODEL>-compressed).")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting of the configuration, e.g. space.granularity=16, stages.search.budget.trials=50.",
)
@click.option("--resume", "again", is_flag=True, help="Continue the run in the run directory.")
@click.option("--quiet", is_flag=True, help="Print the result only.")
@debug_option
def compress(
    model: str,
    data: str,
    limits: tuple[str, ...],
    weights: str | None,
    size: int,
    importance: str,
    supernet_epochs: int,
    teacher: Teacher,
    search_steps: int,
    out: Path | None,
    overrides: tuple[str, ...],
    again: bool,
    quiet: bool,
) -> None:
    """Search, train and package a smaller network of MODEL, and print it beside MODEL itself.

    MODEL is a classification model of torchvision, timm/NAME, or package.module:Object. Networks have fewer channels,
    blocks and smaller kernels than MODEL, and begin with its weights. An interrupted run is continued with the same
    command and --resume.
    """
    constraints = dict(map(_limit, limits))
    directory = out or Path(f"{model.replace('/', '_').replace(':', '_')}-compressed")
    if not again and (directory / "config.yaml").exists():
        raise RunDirectoryError(f"{directory} contains a run; use another --out, or --resume to continue it")
    task = _task(data, size)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # package.module:Object is imported from there, too
    working_plugins()
    with quiet_libraries(), Logs(lambda text: click.echo(f"warning: {text}", err=True)):
        from automl_nas.run import Document
        from automl_nas_elastic.compression import configuration, run
        from automl_nas_elastic.preparation import prepared

        settings: dict[str, Any] = {"importance": importance}
        if weights is not None:
            settings["checkpoint"] = str(Path(weights).absolute())
        plain = configuration(
            model,
            task,
            limits=constraints,
            space=settings,
            supernet_epochs=supernet_epochs,
            search_steps=search_steps,
            teacher=teacher,
        )
        changed = Configuration(plain, Document(None, "the command line"))
        for override in map(Override.parse, overrides):
            changed.set(override)
        if ":" not in model and weights is None and not changed.value["space"].get("arguments"):
            text = (
                f"{model} has random weights, and nothing trained is compressed; give its weights with --weights FILE"
            )
            click.echo(f"warning: {text}", err=True)
        try:
            raw = prepared(changed.value, directory)
            compression = run(raw, out=directory, resume=again, progress="none" if quiet else "auto")
        except ConfigurationError as error:
            raise changed.locate(error) from error
    click.echo(str(compression))
    for file in compression.result.files:
        click.echo(f"exported: {file}")
    click.echo(f"run directory: {directory}")


def _limit(text: str) -> tuple[str, str]:
    cost, space, limit = text.strip().partition(" ")
    if not space or not cost.isidentifier():
        raise ConfigurationError(
            "write a cost and its limit, such as 'flops <= 0.5 * largest'", source=f"--limit {text}"
        )
    return cost, limit.strip()


def _task(data: str, size: int) -> dict[str, Any]:
    path = Path(data).expanduser().absolute()
    if path.is_dir():
        return {"name": "image_folder", "path": str(path), "size": size, "augment": "crop_flip"}
    if path.suffix.lower() == ".npz" and path.is_file():
        return {"name": "npz", "path": str(path)}
    if data == "digits":
        return {"name": "digits"}
    raise ConfigurationError(
        f"{data} is neither a folder of images nor an npz file; automl_nas_elastic.compress takes every task",
        source="--data",
    )
