"""The image of users' servers in the registry; pushed while the rest starts, nothing else waits for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..component import Cluster, Component
from ..images import TAG
from ..instance import Settings
from ..push import push
from ..user_image import user_image

IMAGE = f"base/user:{TAG}"


class UserImage(Component):
    name = "user-image"
    after = ("images",)

    def build(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, user_image=str(user_image()))

    def start(self, cluster: Cluster) -> None:
        push(cluster.instance, Path(cluster.settings.user_image), IMAGE)

    def ready(self, cluster: Cluster) -> bool:
        return True
