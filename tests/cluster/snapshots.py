"""A notebook as a Snapshot that a pod can run: the base image of users' servers with one work layer."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence

import nbformat

from jupyterlab_ai_batch.oci.manifest import Layer, LayerRole, build_manifest
from jupyterlab_ai_batch.oci.port import MANIFEST_MEDIA_TYPE
from jupyterlab_ai_batch.oci.transfer import copy_blob
from jupyterlab_ai_batch.oci.work_index import WORK_INDEX_PATH, WorkIndexEntry, write_work_index
from testbed.images import TAG, write_layer
from testbed.user_image import GROUP, HOME, USER

NOTEBOOK = "a.ipynb"
_MAX_CONFIG_BYTES = 1 << 20


def push_notebook(registry: Callable, cells: Sequence[str], *, user: str = "alice") -> str:
    """The digest of the image, in the user's repository."""
    content = nbformat.writes(_notebook(cells)).encode()
    with registry("base/user", user=user) as base, registry(f"users/{user}", user=user) as repository:
        manifest = json.loads(base.get_manifest(TAG)[0])
        config = json.loads(base.read_blob(manifest["config"]["digest"], limit_bytes=_MAX_CONFIG_BYTES))
        below = [
            Layer(
                role=LayerRole.BASE,
                digest=entry["digest"],
                size=entry["size"],
                diff_id=diff_id,
                media_type=entry["mediaType"],
            )
            for entry, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
        ]
        for layer in below:
            copy_blob(base, repository, layer.descriptor)
        work = write_layer(repository, lambda tar: _fill(tar, content))
        config["rootfs"]["diff_ids"].append(work.diff_id)
        digest, size = repository.put_blob(json.dumps(config).encode())
        tag = f"snapshot-{hashlib.sha256(content).hexdigest()[:16]}"
        return repository.put_manifest(
            build_manifest(digest, size, [*below, work]), tag=tag, media_type=MANIFEST_MEDIA_TYPE
        )


def _notebook(cells: Sequence[str]) -> nbformat.NotebookNode:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells], metadata={"kernelspec": kernel}
    )


def _fill(tar: tarfile.TarFile, notebook: bytes) -> None:
    entry = WorkIndexEntry(
        path=NOTEBOOK,
        type="file",
        size=len(notebook),
        mtime_ns=0,
        sha256=hashlib.sha256(notebook).hexdigest(),
        mode=0o644,
    )
    _add(tar, f"{HOME[1:]}/{NOTEBOOK}", notebook)
    _add(tar, WORK_INDEX_PATH, write_work_index([entry]))


def _add(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    member = tarfile.TarInfo(path)
    member.size, member.uid, member.gid, member.mode = len(content), USER, GROUP, 0o644
    tar.addfile(member, io.BytesIO(content))
