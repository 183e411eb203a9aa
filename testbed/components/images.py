"""The images that the cluster itself runs on, and a small one for tests, in the registry's ``base/``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..binaries import PAUSE, built
from ..component import Cluster, Component
from ..debian import unpacked
from ..images import TAG, ImageFile, program_image
from ..instance import Settings
from ..push import push

PAUSE_IMAGE = f"base/pause:{TAG}"
SHELL_IMAGE = f"base/busybox:{TAG}"
# The programs that tests use by name; busybox has three hundred.
_APPLETS = """
sh cat chmod cp date dd df echo env grep head hostname id ls mkdir nc nslookup ping ps rm seq sleep tail
test timeout touch true false wc wget yes
"""


class Images(Component):
    name = "images"
    after = ("registry", "token-service")
    modules = (PAUSE,)

    def build(self, settings: Settings) -> Settings:
        pause = ImageFile(path="pause", source=built(PAUSE) / "pause")
        busybox = unpacked("busybox-static") / "bin/busybox"
        shell = ImageFile(path="bin/busybox", source=busybox, links=[f"bin/{name}" for name in _APPLETS.split()])
        return with_images(
            settings,
            {
                PAUSE_IMAGE: program_image("pause", [pause], command=["/pause"]),
                SHELL_IMAGE: program_image("busybox", [shell], command=[]),
            },
        )

    def start(self, cluster: Cluster) -> None:
        for image, layout in cluster.settings.images.items():
            push(cluster.instance, Path(layout), image)

    def ready(self, cluster: Cluster) -> bool:
        return True


def with_images(settings: Settings, images: dict[str, Path]) -> Settings:
    """The settings and more images to push."""
    added = {image: str(layout) for image, layout in images.items()}
    return dataclasses.replace(settings, images={**settings.images, **added})
