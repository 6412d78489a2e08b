"""A place that several machines share: a folder, or a bucket that speaks S3 (by fsspec)."""

from __future__ import annotations

import contextlib
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from harness.core.errors import UnfinishedError, UserError
from harness.core.files import fsync

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)")
_AGAIN = "run the same command again: what was sent is kept, and it goes on from there"


class Place(Protocol):
    """Files by name ("objects/ab/ab12…"), each there whole or not at all, and never changed."""

    name: str
    """As the user wrote it; holds no secret."""

    def names(self, under: str) -> list[str]:
        """The names of all files under that folder, sorted; empty where there is none."""

    def has(self, name: str) -> bool: ...

    def put(self, name: str, file: Path) -> None:
        """Write a file there; nobody sees a part of it, at any moment."""

    def get(self, name: str, file: Path) -> None:
        """Copy a file from there. Raises UserError where there is none."""


def open_place(where: str) -> Place:
    """A folder's path, `s3://BUCKET/PREFIX`, or another URL that fsspec writes whole objects to.

    Raises UserError where the URL's kind isn't known, or its library isn't installed.
    """
    url = _URL.fullmatch(where)
    if url is None or url[1] == "file":
        return Folder(Path(url[2] if url else where).expanduser())
    if url[1] not in WHOLE_OBJECTS:
        raise UserError(
            f"{url[1]}:// is not a kind of place that can be shared",
            field=without_password(where),
            hint="name a folder (mounted, or by sshfs) or s3://BUCKET/PREFIX",
        )
    if not url[2].strip("/"):
        raise UserError("the bucket is missing", field=where, hint="write s3://BUCKET/PREFIX")
    return Bucket(url[1], url[2].strip("/"))


WHOLE_OBJECTS = {"s3": {"use_listings_cache": False}, "memory": {}}
"""Kinds of URL under which an object is there whole or not at all, with fsspec's options."""


def without_password(url: str) -> str:
    """The URL without a name and password before its host."""
    return re.sub(r"//[^/@]*@", "//", url)


class Folder:
    """A folder that all machines see: a disk, a mount, a synchronised folder."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder.absolute()

    def names(self, under: str) -> list[str]:
        place = self._folder / under
        with self._said("can't be read"):
            found = (path for path in place.rglob("*") if path.is_file())
            return sorted(
                path.relative_to(self._folder).as_posix()
                for path in found
                if not path.name.startswith(".")
            )

    def has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def put(self, name: str, file: Path) -> None:
        place = self._folder / name
        with self._said("can't be written"):
            place.parent.mkdir(parents=True, exist_ok=True)
            # In the same folder, since a rename is atomic only within one file system.
            part = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
            try:
                shutil.copyfile(file, part)
                fsync(part)
                part.replace(place)
            finally:
                part.unlink(missing_ok=True)
            fsync(place.parent)

    def get(self, name: str, file: Path) -> None:
        with self._said("can't be read"):
            shutil.copyfile(self._folder / name, file)

    @contextlib.contextmanager
    def _said(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"the shared folder {what}: {error.strerror or error}",
                file=error.filename or self._folder,
                hint=_AGAIN,
            ) from error


class Bucket:
    """A bucket by fsspec. Keys, region and endpoint are those of the environment (AWS_…)."""

    def __init__(self, kind: str, path: str) -> None:
        self.name = f"{kind}://{path}"
        self._path = path
        try:
            import fsspec

            self._files: Any = fsspec.filesystem(
                kind, skip_instance_cache=True, **WHOLE_OBJECTS[kind]
            )
        except ImportError as error:
            raise UserError(
                f"{kind}:// needs what is not installed: {error}",
                hint="pip install 'ratchet-eval[share]'",
            ) from error

    def names(self, under: str) -> list[str]:
        with self._said():
            try:
                found = self._files.find(f"{self._path}/{under}")
            except FileNotFoundError:
                # S3 has no folders: no object means an empty one, if the bucket itself is there.
                self._files.ls(self._path.partition("/")[0])
                return []
        return sorted(str(path).removeprefix(f"{self._path}/") for path in found)

    def has(self, name: str) -> bool:
        with self._said():
            return bool(self._files.exists(f"{self._path}/{name}"))

    def put(self, name: str, file: Path) -> None:
        with self._said():
            self._files.put_file(str(file), f"{self._path}/{name}")

    def get(self, name: str, file: Path) -> None:
        with self._said():
            self._files.get_file(f"{self._path}/{name}", str(file))

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise UserError(
                f"there is no such bucket or object: {error}",
                field=self.name,
                hint="make the bucket, or correct its name",
            ) from error
        except Exception as error:
            if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
                raise UserError(
                    f"the bucket refuses: {error}",
                    field=self.name,
                    hint="give a key that may read and write it: AWS_ACCESS_KEY_ID, AWS_PROFILE …",
                ) from error
            if not _of_the_network(error):
                raise
            raise UnfinishedError(
                f"the bucket can't be reached: {error}", field=self.name, hint=_AGAIN
            ) from error


def _of_the_network(error: Exception) -> bool:
    """Whether it is an error of the system, or of one of the libraries that speak to the bucket."""
    return isinstance(error, OSError) or type(error).__module__.startswith(
        ("botocore", "aiobotocore", "aiohttp", "fsspec", "s3fs")
    )
