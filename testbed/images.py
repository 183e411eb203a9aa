"""Small images, written into image layouts in the cache by the product's own ``oci``, and pushed to the registry."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jupyterlab_ai_batch.oci.base_image import Platform
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.manifest import PLAIN_LAYER_MEDIA_TYPE, Layer, LayerRole, build_manifest
from jupyterlab_ai_batch.oci.port import MANIFEST_MEDIA_TYPE, BlobStore

from .binaries import locked
from .places import cache_directory

TAG = "v1"
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """A program in an image; ``path`` without a leading slash."""

    path: str
    source: Path
    links: Sequence[str] = ()


def image_of(name: str, key: str, write: Callable[[ImageLayout], None]) -> Path:
    """The layout of an image in the cache; written now when it is not there under this key. One image, tag ``v1``."""
    place = cache_directory() / "images"
    target = place / f"{name}-{key}"
    if not target.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        with locked(place / f"{name}.lock"):
            if not target.is_dir():
                partial = target.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                write(ImageLayout(partial))
                for other in place.glob(f"{name}-*[0-9a-f]"):
                    shutil.rmtree(other, ignore_errors=True)
                partial.rename(target)
    return target


def program_image(name: str, files: Sequence[ImageFile], *, command: Sequence[str], user: str = "65532") -> Path:
    """An image that is nothing but some static programs."""
    config = {"Entrypoint": list(command), "Env": ["PATH=/bin"], "User": user}
    digest = hashlib.sha256(repr((config, [(one.path, one.links) for one in files])).encode())
    for one in files:
        digest.update(_file_digest(one.source))

    def write(layout: ImageLayout) -> None:
        layer = write_layer(layout, lambda tar: _add_files(tar, files))
        write_image(layout, [layer], config)

    return image_of(name, digest.hexdigest()[:16], write)


def write_layer(store: BlobStore, fill: Callable[[tarfile.TarFile], None], *, name: str = "") -> Layer:
    """A layer of what ``fill`` adds. Not compressed: it never leaves the machine."""
    with store.write_blob() as blob:
        with tarfile.open(fileobj=_Writing(blob.write), mode="w|", format=tarfile.PAX_FORMAT) as tar:
            fill(tar)
        digest, size = blob.commit()
    return Layer(
        role=LayerRole.BASE, digest=digest, size=size, diff_id=digest, name=name, media_type=PLAIN_LAYER_MEDIA_TYPE
    )


def write_image(store: BlobStore, layers: Sequence[Layer], config: Mapping[str, object]) -> None:
    """Config and manifest of an image whose layers are there."""
    content = {
        "architecture": Platform.of_this_machine().architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    digest, size = store.put_blob(json.dumps(content).encode())
    store.put_manifest(build_manifest(digest, size, layers), tag=TAG, media_type=MANIFEST_MEDIA_TYPE)


def only_layer(store: BlobStore) -> Layer:
    """The layer of an image that was written with one."""
    (entry,) = json.loads(store.get_manifest(TAG)[0])["layers"]
    digest = entry["digest"]
    return Layer(
        role=LayerRole.BASE, digest=digest, size=entry["size"], diff_id=digest, media_type=PLAIN_LAYER_MEDIA_TYPE
    )


class _Writing(io.RawIOBase):
    """What tarfile wants to write to."""

    def __init__(self, write: Callable[[bytes], int]) -> None:
        super().__init__()
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return self._write(data)


def _add_files(tar: tarfile.TarFile, files: Sequence[ImageFile]) -> None:
    for one in files:
        entry = tarfile.TarInfo(one.path)
        entry.mode = 0o755
        entry.size = one.source.stat().st_size
        with one.source.open("rb") as stream:
            tar.addfile(entry, stream)
        for link in one.links:
            entry = tarfile.TarInfo(link)
            entry.type = tarfile.SYMTYPE
            entry.linkname = f"/{one.path}"
            tar.addfile(entry)


def _file_digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_COPY_BYTES):
            digest.update(chunk)
    return digest.digest()
