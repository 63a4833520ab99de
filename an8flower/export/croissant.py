"""Export to Croissant 1.0: metadata that describes files and records to search engines and loaders."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from an8flower.export.base import ExportSpec, Source, exports
from an8flower.ground import files
from an8flower.manifest import COLUMNS, HEADER, KINDS, TABLE, read_verified

if TYPE_CHECKING:
    import mlcroissant

NAME = "croissant.json"
VERSION = "http://mlcommons.org/croissant/1.0"
DESCRIPTIONS = {
    "kind": "content of the file: " + ", ".join(KINDS),
    "class": "number of the class, from 1",
    "view": "number of the view, from 1",
    "crop": "number of the crop, from 1; 0 for a whole frame",
    "rotation": "number of the rotation, from 1; 0 for a whole frame",
    "path": "path of the file relative to this description",
    "sha256": "SHA-256 of the file",
    "size_bytes": "size of the file in bytes",
    "mask_area_px": "number of visible pixels of the part that decides the class",
}
WHOLE_NUMBERS = {"class", "view", "crop", "rotation", "size_bytes", "mask_area_px"}


def write(source: Source, folder: Path) -> None:
    """Copy the files of the dataset to `folder` and write `croissant.json` next to them.

    If `folder` is the dataset's own folder, nothing is copied. Other folders are not possible without a
    copy, because Croissant finds files only below its description. The record set "files" is the manifest,
    with one record per file; "pictures" holds the images; "classes" holds the names of the labels.

    Source: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html
    """
    manifest = source.manifest
    copied = folder != manifest.folder.resolve()
    for row in manifest.table.to_dict("records"):
        data = read_verified(manifest, row["path"], row["sha256"])
        if copied:
            (folder / row["path"]).parent.mkdir(parents=True, exist_ok=True)
            (folder / row["path"]).write_bytes(data)
        if row["kind"] == "image":
            source.advance(1)
    sha256 = {}
    for name in (HEADER, TABLE):
        data = (manifest.folder / name).read_bytes()
        sha256[name] = hashlib.sha256(data).hexdigest()
        if copied:
            (folder / name).write_bytes(data)
    files.write_json(folder / NAME, describe(source, sha256))


def describe(source: Source, sha256: dict[str, str]) -> dict[str, Any]:
    """Return the description as JSON-LD, checked by mlcroissant.

    Args:
        source: the dataset.
        sha256: hashes of the two files of the manifest, by file name.
    """
    import mlcroissant as mlc

    ctx = mlc.Context(conforms_to=VERSION)
    header = source.manifest.header
    metadata = mlc.Metadata(
        ctx=ctx,
        name=f"an8flower-{header['variant']}",
        description=f"Rendered plants of {len(source.classes)} classes, with the exact pixels that "
        f"decide the class. Based on {header['source']}.",
        cite_as=header["source"],
        license=["https://opensource.org/license/mit"],
        version=header["versions"]["an8flower"],
        distribution=[
            mlc.FileObject(
                ctx=ctx, id=HEADER, name=HEADER, content_url=HEADER, sha256=sha256[HEADER],
                encoding_formats=["application/json"],
                description="how the files were generated: classes, seed, versions, renderers",
            ),
            mlc.FileObject(
                ctx=ctx, id=TABLE, name=TABLE, content_url=TABLE, sha256=sha256[TABLE],
                encoding_formats=["application/x-parquet"],
                description="one row per file, with its SHA-256",
            ),
            *(
                mlc.FileSet(
                    ctx=ctx, id=folder, name=folder, includes=[f"{folder}/*/*.png"],
                    encoding_formats=["image/png"], description=f"the files of kind {kind!r}",
                )
                for kind, folder in KINDS.items()
            ),
        ],
        record_sets=[_files(ctx), _pictures(ctx), _classes(ctx, source.classes)],
    )  # fmt: skip
    document: dict[str, Any] = metadata.to_json()
    return document


def _files(ctx: mlcroissant.Context) -> mlcroissant.RecordSet:
    import mlcroissant as mlc

    return mlc.RecordSet(
        ctx=ctx, id="files", name="files", description="the manifest: one record per file",
        fields=[
            mlc.Field(
                ctx=ctx, id=f"files/{name}", name=name, description=DESCRIPTIONS[name],
                data_types=[mlc.DataType.INTEGER if name in WHOLE_NUMBERS else mlc.DataType.TEXT],
                source=mlc.Source(ctx=ctx, file_object=TABLE, extract=mlc.Extract(ctx=ctx, column=name)),
            )
            for name in COLUMNS
        ],
    )  # fmt: skip


def _pictures(ctx: mlcroissant.Context) -> mlcroissant.RecordSet:
    import mlcroissant as mlc

    def field(name: str, data_type: str, extracted: str, description: str) -> mlc.Field:
        source = mlc.Source(
            ctx=ctx, file_set=KINDS["image"], extract=mlc.Extract(ctx=ctx, file_property=extracted)
        )
        return mlc.Field(
            ctx=ctx, id=f"pictures/{name}", name=name, data_types=[data_type], source=source,
            description=description,
        )  # fmt: skip

    return mlc.RecordSet(
        ctx=ctx, id="pictures", name="pictures", description="the images themselves",
        fields=[
            field("image", mlc.DataType.IMAGE_OBJECT, "content", "RGB pixels"),
            field("path", mlc.DataType.TEXT, "fullpath", "the same as files/path"),
        ],
    )  # fmt: skip


def _classes(ctx: mlcroissant.Context, names: tuple[str, ...]) -> mlcroissant.RecordSet:
    import mlcroissant as mlc

    number, name = "classes/number", "classes/name"
    return mlc.RecordSet(
        ctx=ctx, id="classes", name="classes", description="the name of each class", key=[number],
        fields=[
            mlc.Field(ctx=ctx, id=number, name="number", data_types=[mlc.DataType.INTEGER]),
            mlc.Field(ctx=ctx, id=name, name="name", data_types=[mlc.DataType.TEXT]),
        ],
        data=[{number: class_id, name: text} for class_id, text in enumerate(names, start=1)],
    )  # fmt: skip


exports.add(
    ExportSpec(
        name="croissant",
        write=write,
        source="https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html",
        extra="croissant",
        library="mlcroissant",
        splits=False,
        in_place=True,
    )
)
