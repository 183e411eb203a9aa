"""Base images as registries hold them, hostile ones too, and what they become with a Snapshot on top."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest

from jupyterlab_ai_batch.errors import BaseImageError, SnapshotCorruptError
from jupyterlab_ai_batch.oci.base_image import MAX_IMAGE_LAYERS, Platform, compose, read_base_image
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.manifest import Layer, LayerRole, Program, SnapshotContent, SnapshotImage, parse_image
from jupyterlab_ai_batch.oci.port import INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE

AMD64 = Platform(architecture="amd64")
DOCKER = "application/vnd.docker"
DOCKER_MANIFEST = f"{DOCKER}.distribution.manifest.v2+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
VARIABLES = ["PATH=/opt/conda/bin:/usr/bin", "TOKEN=s3cret with = and spaces", "LANG=C.UTF-8"]
RUN = {
    "Env": VARIABLES,
    "User": "1000:100",
    "Labels": {"maintainer": "somebody"},
    "ExposedPorts": {"8888/tcp": {}},
    "Entrypoint": ["tini", "--"],
    "Cmd": ["start.sh"],
}


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def describe(content: bytes, media_type: str, **more) -> dict:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


class Publisher:
    """Puts images into a store as other tools write them."""

    def __init__(self, store: ImageLayout) -> None:
        self.store = store

    def image(self, tag="base", *, docker=False, count=2, manifest=None, config=None, layers=None, **run):
        contents = [gzip.compress(f"layer {number}".encode(), mtime=0) for number in range(count)]
        media_type = f"{DOCKER}.image.rootfs.diff.tar.gzip" if docker else f"{OCI_LAYER}+gzip"
        for content in contents:
            self.store.put_blob(content)
        described = {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {**RUN, **run},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(gzip.decompress(content)) for content in contents]},
            "history": [{"created_by": f"RUN {n}"} for n in range(count)]
            + [{"created_by": "CMD", "empty_layer": True}],
            **(config or {}),
        }
        encoded = json.dumps(described).encode()
        self.store.put_blob(encoded)
        kind = f"{DOCKER}.container.image.v1+json" if docker else "application/vnd.oci.image.config.v1+json"
        built = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else MANIFEST_MEDIA_TYPE,
            "config": describe(encoded, kind),
            "layers": [describe(content, media_type) for content in contents] if layers is None else layers(contents),
            **(manifest or {}),
        }
        return self.manifest(built, tag)

    def manifest(self, value, tag="base") -> bytes:
        """The manifest as another tool would store it: this store checks nothing that it mentions."""
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        digest, size = self.store.put_blob(content)
        index = {"schemaVersion": 2, "manifests": []}
        path = self.store.path / "index.json"
        if path.exists():
            index = json.loads(path.read_text())
        name = {"org.opencontainers.image.ref.name": tag}
        index["manifests"].append({"mediaType": "", "digest": digest, "size": size, "annotations": name})
        path.write_text(json.dumps(index))
        return content


@pytest.fixture
def store(tmp_path):
    return ImageLayout(tmp_path / "store")


@pytest.fixture
def publish(store):
    return Publisher(store)


def snapshot(*names: str, **content) -> SnapshotImage:
    values = {
        "work_root": "/home/u",
        "notebook": "p/n.ipynb",
        "kernel_name": "python3",
        "executable": "/env/bin/python",
    }
    layers = tuple(
        Layer(
            role=LayerRole.WORK,
            digest=digest_of(name.encode()),
            size=10,
            diff_id=digest_of(b"d" + name.encode()),
            name=name,
        )
        for name in names
    )
    return SnapshotImage(content=SnapshotContent(**{**values, **content}), layers=layers)


@pytest.mark.parametrize("docker", [False, True])
def test_both_kinds_of_manifest_are_read(store, publish, docker):
    """OCI and Docker schema 2; a Docker layer gets the OCI name of the same bytes."""
    manifest = publish.image(docker=docker)
    base = read_base_image(store, "base", platform=AMD64)
    assert (base.digest, [layer.media_type for layer in base.layers]) == (
        digest_of(manifest),
        [f"{OCI_LAYER}+gzip"] * 2,
    )
    assert [layer.diff_id for layer in base.layers] == [digest_of(b"layer 0"), digest_of(b"layer 1")]


def test_an_index_gives_the_image_of_the_platform(store, publish):
    """The exact variant goes first; an attestation is never chosen."""
    entries = []
    for architecture, variant in (("unknown", ""), ("arm64", ""), ("amd64", ""), ("arm64", "v8")):
        content = publish.image(f"{architecture}{variant}", config={"architecture": architecture, "variant": variant})
        place = {"os": "linux" if architecture != "unknown" else "unknown", "architecture": architecture}
        entries.append(
            describe(content, MANIFEST_MEDIA_TYPE, platform={**place, **({"variant": variant} if variant else {})})
        )
    publish.manifest({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": entries}, "all")
    chosen = [
        read_base_image(store, "all", platform=Platform(architecture=name, variant=variant)).digest
        for name, variant in (("amd64", ""), ("arm64", "v8"), ("arm64", ""))
    ]
    assert chosen == [entries[2]["digest"], entries[3]["digest"], entries[1]["digest"]]
    with pytest.raises(BaseImageError, match=r"none for linux/s390x"):
        read_base_image(store, "all", platform=Platform(architecture="s390x"))


REFUSED = {
    "another platform": ({"config": {"architecture": "arm64"}}, "for linux/arm64, not for linux/amd64"),
    "another system": ({"config": {"os": "windows"}}, "for windows/amd64"),
    "an artifact": (
        {"manifest": {"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json"}}},
        "not an image",
    ),
    "a wrong media type": ({"manifest": {"mediaType": INDEX_MEDIA_TYPE}}, "not an image"),
    "a media type that is no text": ({"manifest": {"mediaType": ["x"]}}, "not an image"),
    "the old format": ({"manifest": {"schemaVersion": 1}}, "old or unknown"),
    "image and index at once": ({"manifest": {"manifests": []}}, "neither an image nor an index"),
    "no layers": ({"count": 0}, "0 layers"),
    "too many layers": ({"count": MAX_IMAGE_LAYERS + 1}, "126 layers"),
    "missing diff ids": ({"config": {"rootfs": {"diff_ids": []}}}, "do not agree"),
    "strange diff ids": ({"config": {"rootfs": {"diff_ids": ["sha256:0", 5]}}}, "not a SHA-256 digest"),
    "no root filesystem": ({"config": {"rootfs": None}}, "do not agree"),
    "foreign layers": (
        {"layers": lambda found: [describe(c, f"{DOCKER}.image.rootfs.foreign.diff.tar.gzip") for c in found]},
        "may not be copied",
    ),
    "nondistributable layers": (
        {
            "layers": lambda found: [
                describe(c, "application/vnd.oci.image.layer.nondistributable.v1.tar") for c in found
            ]
        },
        "may not be copied",
    ),
    "unknown layers": (
        {"layers": lambda found: [describe(c, "text/plain") for c in found]},
        "unknown kind 'text/plain'",
    ),
    "layers that are no objects": ({"layers": lambda found: [None, 1]}, "unknown kind"),
    "a layer of no size": (
        {"layers": lambda found: [describe(c, f"{OCI_LAYER}+gzip", size=-1) for c in found]},
        "without a sensible size",
    ),
    "a layer of true bytes": (
        {"layers": lambda found: [describe(c, f"{OCI_LAYER}+gzip", size=True) for c in found]},
        "without a sensible size",
    ),
    "a huge layer": (
        {"layers": lambda found: [describe(c, f"{OCI_LAYER}+gzip", size=1 << 60) for c in found]},
        "without a sensible size",
    ),
    "another digest": (
        {"layers": lambda found: [describe(c, f"{OCI_LAYER}+gzip", digest="sha512:" + "0" * 128) for c in found]},
        "not a SHA-256 digest",
    ),
    "a path for a digest": (
        {"layers": lambda found: [describe(c, f"{OCI_LAYER}+gzip", digest="sha256:../../x") for c in found]},
        "not a SHA-256 digest",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_a_base_is_refused(store, publish, change, message):
    """With one sentence that says why."""
    publish.image(**change)
    with pytest.raises(BaseImageError, match=message):
        read_base_image(store, "base", platform=AMD64)


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b'{"schemaVersion":2}', b"\xff"])
def test_a_manifest_that_is_none_is_refused(store, publish, content):
    """Not JSON, not an object, too deep, or of no known shape."""
    publish.image("other")
    publish.manifest(content)
    with pytest.raises(BaseImageError):
        read_base_image(store, "base", platform=AMD64)


def test_an_index_of_itself_is_refused(store, publish):
    """Indexes are followed once."""
    inner = publish.manifest({"schemaVersion": 2, "manifests": []}, "inner")
    entry = describe(inner, MANIFEST_MEDIA_TYPE, platform={"os": "linux", "architecture": "amd64"})
    publish.manifest({"schemaVersion": 2, "manifests": [entry]})
    with pytest.raises(BaseImageError, match="index of indexes"):
        read_base_image(store, "base", platform=AMD64)


def test_a_config_of_another_size_is_refused(store, publish):
    """The size is checked as the digest is; a config that is too large is not even read."""
    publish.image(manifest={})
    manifest = json.loads(store.get_manifest("base")[0])
    manifest["config"]["size"] += 1
    publish.manifest(manifest, "longer")
    with pytest.raises(BaseImageError, match="not what its manifest says"):
        read_base_image(store, "longer", platform=AMD64)
    publish.image("large", Labels={"x": "y" * (1 << 20)})
    with pytest.raises(SnapshotCorruptError, match="larger"):
        read_base_image(store, "large", platform=AMD64)


def composed(store, image, **options):
    """(manifest, config) as parsed JSON."""
    base = read_base_image(store, "base", name="registry.example/base:1", platform=AMD64)
    built = compose(image, base=base, **options)
    return json.loads(built.manifest), json.loads(built.config)


def test_the_snapshot_lies_on_the_base(store, publish):
    """Layers, diff ids and history in order; what the base says stays; ours on top."""
    publish.image()
    manifest, config = composed(store, snapshot("one", "two"))
    roles = [layer["annotations"]["ai-batch.role"] for layer in manifest["layers"]]
    assert roles == ["base", "base", "work", "work"]
    assert len(config["rootfs"]["diff_ids"]) == sum(not entry.get("empty_layer") for entry in config["history"]) == 4
    assert config["rootfs"]["diff_ids"][:2] == [digest_of(b"layer 0"), digest_of(b"layer 1")]
    assert manifest["annotations"]["org.opencontainers.image.base.name"] == "registry.example/base:1"
    run = config["config"]
    kept = ("User", "ExposedPorts", "Entrypoint", "Cmd")
    assert {name: run[name] for name in kept} == {name: RUN[name] for name in kept}
    assert run["Env"] == ["PATH=/env/bin:/opt/conda/bin:/usr/bin", *VARIABLES[1:]]
    assert run["WorkingDir"] == "/home/u/p"
    assert run["Labels"].keys() == {"maintainer", "ai-batch.snapshot"}


def test_a_composed_image_is_a_snapshot(store, publish):
    """It is read back as what was put on the base."""
    publish.image(docker=True)
    image = snapshot("one")
    built = compose(image, base=read_base_image(store, "base", platform=AMD64))
    parsed = parse_image(built.manifest, built.config)
    assert (parsed.content, parsed.with_role(LayerRole.WORK)) == (image.content, image.layers)
    assert len(parsed.with_role(LayerRole.BASE)) == 2


def test_equal_inputs_give_equal_bytes(store, publish):
    """Nothing of when and where is in it."""
    publish.image()
    built = [compose(snapshot("one"), base=read_base_image(store, "base", platform=AMD64)) for _ in range(2)]
    assert built[0] == built[1]


@pytest.mark.parametrize(
    ("program", "entrypoint", "command"),
    [
        (Program(), ["tini", "--"], ["start.sh"]),
        (Program(entrypoint=("/run",)), ["/run"], None),
        (Program(entrypoint=("/run",), command=("n",)), ["/run"], ["n"]),
        (Program(command=("n",)), ["tini", "--"], ["n"]),
        (Program(entrypoint=(), command=("n",)), [], ["n"]),
    ],
)
def test_the_program_is_the_callers_choice(store, publish, program, entrypoint, command):
    """As in a Dockerfile: a new entrypoint drops the base's command."""
    publish.image()
    run = composed(store, snapshot("one"), program=program)[1]["config"]
    assert (run["Entrypoint"], run.get("Cmd")) == (entrypoint, command)


@pytest.mark.parametrize(
    "config", [{"config": None}, {"config": {}}, {"config": {"Env": None, "Labels": None}}, {"config": []}]
)
def test_a_base_that_says_nothing_starts_the_interpreter(store, publish, config):
    """With the usual PATH behind the interpreter's directory."""
    publish.image(config=config)
    run = composed(store, snapshot("one"))[1]["config"]
    assert run["Env"] == ["PATH=/env/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    assert run["Cmd"] == ["/env/bin/python"]


@pytest.mark.parametrize("history", [None, [], [{}], [{}, {}, {}], "none", [1, 2]])
def test_a_history_that_does_not_fit_is_replaced(store, publish, history):
    """Tools refuse an image whose history has not one entry for each layer."""
    publish.image(config={"history": history})
    config = composed(store, snapshot("one"))[1]
    assert [entry["created_by"] for entry in config["history"]] == ["base image", "base image", "ai-batch: work one"]


def test_more_layers_than_runtimes_take_are_refused(store, publish):
    """Together, not each alone."""
    publish.image(count=MAX_IMAGE_LAYERS - 2)
    base = read_base_image(store, "base", platform=AMD64)
    compose(snapshot("one", "two"), base=base)
    with pytest.raises(BaseImageError, match="123 layers and the snapshot's 3"):
        compose(snapshot("one", "two", "three"), base=base)
