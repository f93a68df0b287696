"""``geoseg vectorize``, ``regularize``, ``diff`` and ``labels``: layers of polygons without a model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from geoseg.cli.events import progress_option, steps
from geoseg.cli.options import debug_option, json_option, options_of, out_option, quiet_option
from geoseg.prediction.classraster import VectorizeOptions
from geoseg.vector.diff import DiffOptions
from geoseg.vector.straighten import RegularizeOptions


@click.command()
@click.argument("raster")
@out_option("Polygons; the suffix names the format, as of geoseg predict.")
@options_of(VectorizeOptions)
@json_option
@progress_option
@quiet_option
@debug_option
def vectorize(raster: str, out: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Make polygons of RASTER, a class map or probabilities that any tool has made.

    \b
    Examples:
      geoseg vectorize landcover.tif --out landcover.gpkg --classes 1=forest,2=water
      geoseg vectorize probability.tif --out roofs.gpkg --threshold 0.6 --min-area 12 --regularize
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    chosen = VectorizeOptions(**options)
    with steps("tracing", quiet=quiet) as display:
        from geoseg.cli.progress import duration
        from geoseg.prediction.vectorize import vectorize as run

        report = run(raster, out, chosen, display)
    area = "" if report.area_m2 is None else f", {report.area_m2:,.0f} m²"
    lines = [
        f"{report.features:,} features{area}",
        f"classes    {', '.join(report.classes)}",
        f"time       {duration(report.seconds)}",
        f"wrote      {report.file}",
    ]
    display.summarize(report, lines)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@out_option("The same layer: .gpkg, .fgb, .parquet, .geojson or .geojsonl.")
@options_of(RegularizeOptions)
@progress_option
@quiet_option
@debug_option
def regularize(file: Path, out: Path, quiet: bool, **options: Any) -> None:
    """Give the polygons of FILE straight walls, right angles and circles, within a bound.

    Attributes are kept; regularized and deviation_m say what happened to each feature.

    \b
    Examples:
      geoseg regularize traced.gpkg --out footprints.gpkg
      geoseg regularize traced.shp --out footprints.parquet --max-deviation 0.5
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    chosen = RegularizeOptions(**options)
    with steps("regularizing", quiet=quiet) as display:
        from geoseg.vector.straighten import regularize_file

        report = regularize_file(file, out, chosen, display)
    notes = [f"geoseg: note: {note}" for note in report.notes]
    done = f"{report.features:,} features, {report.regularized:,} of them regularized"
    display.summarize(report, [*notes, done, f"wrote      {report.file}"])


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@out_option("Changes, in the CRS of NEW: .gpkg (with a style), .fgb, .parquet, .geojson or .geojsonl.")
@options_of(DiffOptions)
@json_option
@progress_option
@quiet_option
@debug_option
def diff(old: Path, new: Path, out: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Tell which polygons of OLD and NEW are the same, changed, split, merged, added or removed.

    \b
    Example:
      geoseg diff buildings_2020.gpkg buildings_2024.gpkg --out changes.gpkg
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    diff_files(old, new, out, DiffOptions(**options), as_json=as_json, quiet=quiet)


def diff_files(old: Path, new: Path, out: Path, options: DiffOptions, *, as_json: bool, quiet: bool) -> None:
    """Compare two layers and say what came of it."""
    with steps("comparing", quiet=quiet) as display:
        from geoseg.vector.diff import diff as run

        report = run(old, new, out, options)
    display.summarize(report, [str(report)])
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))


@click.group()
@debug_option
def labels() -> None:
    """Exchange labels with other tools: COCO files, rasters of numbered objects."""


@labels.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@out_option("Polygons to train on: .gpkg, .fgb, .parquet, .geojson or .geojsonl.")
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder of the images; default: that of SOURCE."
)
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@debug_option
def import_(source: Path, out: Path, images: Path | None, overwrite: bool) -> None:
    """Make polygons of SOURCE: a COCO file (.json), or a raster whose values number the objects.

    \b
    Examples:
      geoseg labels import annotations.json --images tiles --out labels.gpkg
      geoseg labels import numbers.tif --out labels.gpkg
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    from geoseg.labels.coco import import_labels

    count, crowds = import_labels(source, out, images=images, overwrite=overwrite)
    left = f" ({crowds:,} crowds, which are no single objects, are left out)" if crowds else ""
    click.echo(f"{count:,} objects, wrote {out}{left}", err=True)


@labels.command("export")
@click.argument("layer", type=click.Path(path_type=Path))
@click.option("--scene", required=True, type=click.Path(path_type=Path), help="Image below the polygons.")
@out_option("A COCO file: .json.")
@click.option("--class-attribute", help="Attribute that holds the class; without it all are of one.")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@debug_option
def export(layer: Path, scene: Path, out: Path, class_attribute: str | None, overwrite: bool) -> None:
    """Write the polygons of LAYER that lie on a scene as a COCO file.

    \b
    Example:
      geoseg labels export buildings.gpkg --scene scene.tif --out annotations.json
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    from geoseg.labels.coco import export_coco

    count = export_coco(layer, scene, out, attribute=class_attribute, overwrite=overwrite)
    click.echo(f"{count:,} objects, wrote {out}", err=True)
