"""One repository of an OCI registry as a BlobStore.

Uploads run in the background: ``commit`` returns as soon as the digest is known, and ``put_manifest`` waits for all
that was committed. What failed meanwhile is raised by the next call. A blob that the registry has is never sent.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, cast

from ..errors import BlobMissingError, SnapshotCorruptError
from .answers import NOT_FOUND, OK, PARTIAL, Answer
from .credentials import Credentials, credential_files, find_credentials
from .downloads import BlobReader
from .port import BlobStore, Descriptor
from .reference import Reference
from .remote_manifests import Manifests
from .repository import SIZE_UNKNOWN, Repository, check_digest
from .sending import BlobSender
from .tagging import delete_tag, list_tags
from .transport import Transport
from .transport_settings import TransportSettings
from .trust import Origin
from .uploads import Spool, Uploads

THREADS = 4
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """How a repository is reached.

    Attributes:
        credentials: The user's, where they are given; else they are looked for in ``credential_files``.
        mount_from: Repositories of the same registry where a blob may be already; tried before it is sent.
        spool_directory: Where blobs of more than 16 MB wait until they are sent; None: the system's temporary files.
    """

    transport: TransportSettings = field(default_factory=TransportSettings)
    credentials: Credentials | None = None
    credential_files: tuple[Path, ...] = ()
    mount_from: tuple[str, ...] = ()
    spool_directory: Path | None = None

    @classmethod
    def of_user(cls, environ: Mapping[str, str], *, home: Path) -> RegistrySettings:
        """What container tools would use: their credentials, the environment's proxies and authorities."""
        return cls(transport=TransportSettings(environ=environ), credential_files=credential_files(environ, home=home))


def connect(reference: Reference, settings: RegistrySettings | None = None) -> Registry:
    """The repository that ``reference`` names; nothing is sent yet. To be closed."""
    chosen = settings or RegistrySettings()

    def find(repository: str) -> Credentials:
        if chosen.credentials is not None:
            return chosen.credentials
        environ = chosen.transport.environ
        return find_credentials(reference.host, repository, files=chosen.credential_files, environ=environ)

    transport = Transport(reference.endpoint, find=find, settings=chosen.transport)
    return Registry(
        transport, reference.repository, mount_from=chosen.mount_from, spool_directory=chosen.spool_directory
    )


class Registry:
    """Repository ``name`` in the registry at the other end of ``transport``. For several threads of one process.

    Raises:
        RegistryUnreachableError, RegistryDeniedError, RegistryError: every method; see Transport.
    """

    def __init__(
        self,
        transport: Transport,
        name: str,
        *,
        mount_from: tuple[str, ...] = (),
        spool_directory: Path | None = None,
    ) -> None:
        self._repository = Repository(transport, name)
        self._manifests = Manifests(self._repository)
        self._spool_directory = spool_directory
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="registry")
        self._sender = BlobSender(self._repository, mount_from)
        self._uploads = Uploads(self._sender.send, self._threads)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up uploads that nobody waits for, and the connections."""
        self._uploads.close()
        self._repository.transport.close()

    @property
    def sent_bytes(self) -> int:
        """Content of blobs sent so far; what the registry had already does not count."""
        return self._sender.sent_bytes

    @property
    def origin(self) -> Origin:
        return self._repository.transport.origin

    def try_upload(self) -> None:
        """Whether a blob could be stored; none is.

        Raises:
            RegistryDeniedError: this user may not.
        """
        self._sender.try_upload()

    def has_blob(self, digest: str) -> bool:
        check_digest(digest)
        self._uploads.finish(digest)
        return digest in self._repository.present or self._repository.blob_size(digest) is not None

    @contextmanager
    def write_blob(self) -> Iterator[RegistryBlobWriter]:
        """Open a new blob; what is not committed when the context ends is discarded."""
        self._uploads.raise_failed()
        writer = RegistryBlobWriter(Spool(self._spool_directory), self._take)
        try:
            yield writer
        finally:
            writer.discard()

    def put_blob(self, content: bytes) -> tuple[str, int]:
        with self.write_blob() as writer:
            writer.write(content)
            return writer.commit()

    def flush(self) -> None:
        """Wait until everything committed is there."""
        self._uploads.finish()

    def open_blob(self, digest: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(self._open(digest)[0], _READ_BYTES))

    def read_blob(self, digest: str, *, limit_bytes: int) -> bytes:
        reader, size = self._open(digest)
        with io.BufferedReader(reader, _READ_BYTES) as stream:
            if size > limit_bytes:
                raise SnapshotCorruptError(
                    "A stored record is larger than it may be.", details={"digest": digest, "limit_bytes": limit_bytes}
                )
            return stream.read()

    def mount_blob(self, descriptor: Descriptor, source: BlobStore) -> bool:
        if not isinstance(source, Registry):
            return False
        other = source._repository  # noqa: SLF001 - one of us
        if other.transport.origin != self._repository.transport.origin:
            return False
        if other.name == self._repository.name:
            return self.has_blob(descriptor.digest)
        source._uploads.finish(descriptor.digest)  # noqa: SLF001
        self._repository.will_push()
        return self._sender.try_mount(descriptor.digest, other.name)

    def put_manifest(self, manifest: bytes, *, tag: str | None, media_type: str) -> str:
        self._repository.will_push()
        self._uploads.finish()
        if not self._manifests.has(f"sha256:{sha256(manifest).hexdigest()}"):
            self._manifests.check_mentioned(manifest, media_type, self._threads)
        return self._manifests.put(manifest, tag, media_type)

    def get_manifest(self, reference: str) -> tuple[bytes, str]:
        manifest = self._manifests.get(reference)
        return manifest.content, manifest.digest

    def tags(self) -> Iterator[tuple[str, str]]:
        """(tag, manifest digest) pairs; the digests are what the registry says."""
        for names in list_tags(self._repository):
            digests = self._threads.map(self._manifests.digest_of, names)
            yield from ((name, digest) for name, digest in zip(names, digests, strict=True) if digest is not None)

    def tag_names(self) -> Iterator[str]:
        """Names, as the registry lists them."""
        for names in list_tags(self._repository):
            yield from names

    def delete_tag(self, tag: str) -> None:
        """Idempotent; what other tags name stays, also where they name the same manifest.

        Raises:
            RegistryError: the registry does not allow deletion; its own rules for keeping tags are left to do it.
        """

        def put_now(content: bytes) -> tuple[str, int]:
            stored = self.put_blob(content)
            self.flush()
            return stored

        delete_tag(tag, repository=self._repository, manifests=self._manifests, put_blob=put_now)

    def _take(self, spool: Spool) -> None:
        self._repository.will_push()
        if spool.digest in self._repository.present:
            spool.close()
        else:
            self._uploads.start(spool)

    def _open(self, digest: str) -> tuple[BlobReader, int]:
        check_digest(digest)
        self._uploads.finish(digest)
        answer = self._get_blob(digest, 0)
        size = self._repository.blob_size(digest) if answer.length is None else answer.length
        if size in (None, SIZE_UNKNOWN):
            answer.close()
            raise self._repository.transport.nonsense("it does not say how large a blob is")
        transport = self._repository.transport
        reader = BlobReader(
            answer,
            digest=digest,
            size=size,
            ask=lambda start: self._get_blob(digest, start),
            policy=transport.settings.retry,
            pause=transport.pause,
        )
        return reader, size

    def _get_blob(self, digest: str, start: int) -> Answer:
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self._repository.request("GET", self._repository.path(f"blobs/{digest}"), headers=headers)
        if answer.status == NOT_FOUND:
            answer.close()
            self._repository.present.discard(digest)
            raise BlobMissingError.of([digest])
        if answer.status != OK and not (start and answer.status == PARTIAL):
            raise self._repository.transport.error(answer, "hand out a blob")
        return answer


class RegistryBlobWriter:
    """A blob being written; see BlobWriter."""

    def __init__(self, spool: Spool, take: Callable[[Spool], None]) -> None:
        self._spool = spool
        self._take = take
        self._taken = False

    def write(self, data: bytes | memoryview) -> int:
        return self._spool.write(data)

    def commit(self) -> tuple[str, int]:
        """Digest and size; the upload goes on in the background."""
        digest, size = self._spool.digest, self._spool.size
        if not self._taken:
            self._taken = True
            self._take(self._spool)
        return digest, size

    def discard(self) -> None:
        if not self._taken:
            self._spool.close()
