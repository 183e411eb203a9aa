"""Restore one part of a Snapshot from a registry: ``python snapshot_restore.py work|environment REFERENCE TARGET``.

A program of its own, so that its whole process can be measured. Prints where the part lies, by the path that it was
captured at, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from jupyterlab_ai_batch.oci.reference import parse_reference
from jupyterlab_ai_batch.oci.registry import connect
from jupyterlab_ai_batch.snapshot.restore import materialise_environment, restore_work


def restore(part: str, reference: str, target: Path) -> dict[str, str]:
    """Write the work tree to ``target``, or the environment's roots below it; nothing is linked to live files."""
    parsed = parse_reference(reference)
    with connect(parsed) as store:
        manifest, _ = store.get_manifest(parsed.target)
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        if part == "work":
            target.mkdir()
            restore_work(store, digest, target)
            return {"": str(target)}
        view = materialise_environment(store, digest, target)
        return {str(mount.path): str(mount.source) for mount in view.mounts}


if __name__ == "__main__":
    print(json.dumps(restore(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
