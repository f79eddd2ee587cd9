"""Commands about embeddings: encode a folder into a table, look after what is stored."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.cli_options import (
    Command,
    as_json_option,
    config_option,
    encoding,
    read_settings,
    require_folder,
    spoken,
    tell,
)

if TYPE_CHECKING:
    from loop.stores import Stores

BAD_STORE = 2  # exit status of a check that failed, like that of other bad input


def stored(command: Command) -> Command:
    """Give a command ``config`` and ``store``: the project's embeddings, or those of a folder."""
    for option in (
        click.option(
            "--store",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="A folder of embeddings that `loop encode` wrote, instead of a project's.",
        ),
        config_option(),
    ):
        command = option(command)
    return command


def _table_file(ctx: click.Context, option: click.Parameter, path: Path) -> Path:
    from loop.errors import BadInput

    if path.suffix.lower() != ".npz":
        raise BadInput(f"--out {path}: the table must end in .npz, as `loop simulate --features` reads it.")
    require_folder(ctx, option, path)
    return path


@click.command()
@click.argument("source", metavar="PATH", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--encoder",
    "spec",
    metavar="SPEC",
    required=True,
    help="Which model, as [encoder] spec, e.g. timm:tf_efficientnet_lite0.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_table_file,
    help="The table to write, an .npz; an older one is replaced when the new one is whole.",
)
@click.option(
    "--store",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the embeddings here, beside those of other encoders; PROJECT/features adds an encoder to a project.  "
    "[default: --out with .store instead of .npz]",
)
@click.option("--flat", is_flag=True, help="Name an image by its file's name alone, without folders.")
@encoding
@click.option(
    "--side",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Reduce larger images to this shorter side first, and keep the small copies; 0 = images as they are.",
)
@click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help="Encode on the Ray cluster at this address; auto = the running one, local = one on this machine. Images, "
    "weights and --store must have the same paths on all machines.",
)
@click.option(
    "--workers",
    "n_workers",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Ray workers at the same time, with a GPU each where the cluster has some.",
)
@spoken
@as_json_option
def encode(
    source: Path,
    spec: str,
    out: Path,
    store: Path | None,
    flat: bool,
    batch_size: int,
    devices: str,
    side: int,
    allow_pickle: str,
    address: str | None,
    n_workers: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Turn a folder, zip file or CSV manifest of images into the table that `loop simulate` reads.

    Stopped anywhere, it goes on where it was when run again; with more images it encodes the new ones. An image is
    named as the manifest's column `file` says it, else by its path in the folder or zip file.

    \b
    Example:
      loop encode images.zip --encoder timm:tf_efficientnet_lite0 --out features.npz
      loop simulate --features features.npz --labels labels.csv --group patient
    """
    from loop.encoders.embed import here
    from loop.encoders.on_ray import on_ray, ray_cluster
    from loop.encoders.reducing import load_reducing
    from loop.pictures import find_pictures
    from loop.reduced import ReducedImages
    from loop.show import Progress
    from loop.show_features import show_tabled
    from loop.table import encode_table

    # A wrong path should be known before weights are fetched; on other machines it must not be a relative one.
    pictures = find_pictures(source.absolute() if address else source, flat=flat)
    stores = store or out.with_suffix(".store")
    copies = ReducedImages.inside(stores, side)
    write = partial(encode_table, pictures, out=out, stores=stores, batch_size=batch_size)
    visible = not (quiet or as_json)
    if address is None:
        encoders = load_reducing(spec, devices, allow_pickle, copies)
        with Progress(visible) as progress:
            told = write(encoders[0], shows=progress, workers=here(encoders))
    else:
        encoder = load_reducing(spec, "cpu", allow_pickle, copies)[0]  # for its name; others compute
        load = partial(load_reducing, spec, devices, allow_pickle, copies)
        with ray_cluster(address, n_workers) as gpu, Progress(visible) as progress:
            workers = on_ray(load, encoder.fingerprint, n_workers, gpu=gpu and devices != "cpu")
            told = write(encoder, shows=progress, workers=workers)
    tell(told, show_tabled, quiet=quiet, as_json=as_json)


@click.group()
def features() -> None:
    """Look after the stored embeddings."""


@features.command("list")
@stored
@spoken
@as_json_option
def list_(config: Path, store: Path | None, quiet: bool, as_json: bool) -> None:
    """Show whose embeddings are stored: encoder, rows, size, which encoder the project works with.

    \b
    Example:
      loop features list -c loop.toml
      loop features list --store features.store --json
    """
    from loop.show_features import show_stores

    tell(_found(config, store, check=False), show_stores, quiet=quiet, as_json=as_json)


@features.command()
@stored
@spoken
@as_json_option
@click.pass_context
def verify(ctx: click.Context, config: Path, store: Path | None, quiet: bool, as_json: bool) -> None:
    """Check every stored batch of every encoder's embeddings against its checksums.

    \b
    Exit status:
      0   all is well
      2   something is damaged; the message says what to run

    \b
    Example:
      loop features verify -c loop.toml
    """
    from loop.show_features import show_verification

    checked = _found(config, store, check=True)
    tell(checked, show_verification, quiet=quiet and checked.ok, as_json=as_json)
    ctx.exit(0 if checked.ok else BAD_STORE)


def _found(config: Path, store: Path | None, *, check: bool) -> Stores:
    if store is not None:
        from loop.stores import list_stores

        return list_stores(store, check=check)
    from loop.errors import BadInput
    from loop.start import list_features

    if not config.exists():
        raise BadInput(
            f"There is no {config}. Name a project's with --config (`loop init` writes one), or what `loop encode` wrote with "
            "--store FOLDER."
        )
    return list_features(read_settings(config), check=check)
