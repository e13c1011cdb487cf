"""Downloads that resume where they broke off, and appear under their name only whole and with the right hash.

    download("https://example.org/mini-1.0.0.tar.gz", path, sha256="8f43...")

What has come so far is in `<name>.part` beside the file, whichever process fetched it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import requests
from tqdm import tqdm

from nasbench_mr import __version__, escape, files
from nasbench_mr.errors import DownloadError, IntegrityError, InvalidArgumentError

MAX_BYTES = 64 << 30
#: Seconds without a byte after which a connection is given up.
TIMEOUT = 30.0
#: Seconds before another attempt: 1, 2, 4, ..., or what the server asks for; at most this.
MAX_WAIT = 30.0
#: HTTP statuses that may pass; others below 500 do not.
_PASSING = (408, 425, 429)
#: Bytes written at once; where a connection breaks, those of the last chunk are lost.
_CHUNK = 1 << 14
_sleep = time.sleep
_CERTIFICATES = (
    "if a proxy of your network answers with certificates of its own, set REQUESTS_CA_BUNDLE to the file of "
    "these certificates"
)

#: A hash: what it is called, its value, and what computes it.
_Check = tuple[str, str, Callable[[Path], str]]


def download(
    url: str,
    path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    blob_id: str | None = None,
    max_bytes: int = MAX_BYTES,
    attempts: int = 5,
    progress: bool = True,
) -> Path:
    """Download a file to `path`, unless it is there, and return that; of several processes one downloads.

    Args:
        url: an http(s) address.
        path: where the file goes; one with the right hash needs no network.
        sha256, blob_id: the hash it must have, as SHA-256 or as an id of a git blob. Without either, what is
            there is never used: the file is downloaded anew, and checking it is the caller's part.
        max_bytes: a larger file is refused.
        attempts: how often to try; each resumes where the last one broke off.
        progress: shows a bar, where the output is a terminal.

    Raises:
        DownloadError: no attempt succeeded, or the server refuses; what has come is kept for the next call.
        IntegrityError: the whole file has another hash, or is too large; it is not kept.
        StorageError: the disk is full or the folder can't be written.
        InvalidArgumentError: the address or hash is none.
    """
    path = Path(path)
    if not url.startswith(("https://", "http://")):
        raise InvalidArgumentError(f"{escape.address(url)!r} is not an http(s) address")
    try:
        return _download(url, path, _checks(sha256, blob_id), max_bytes, attempts, progress)
    except (DownloadError, IntegrityError) as error:
        # An address may have a password or a token; requests repeats it in its errors.
        raise type(error)(escape.without_secrets(str(error), url)) from None


def _download(
    url: str, path: Path, checks: list[_Check], max_bytes: int, attempts: int, progress: bool
) -> Path:
    if checks and path.is_file() and not _wrong(path, checks):
        return path
    part = path.with_name(f"{path.name}.part")
    with files.locked(path.with_name(f".{path.name}.lock")), files.explained(path):
        # Another process may have had the lock for just this file.
        if checks and path.is_file() and not _wrong(path, checks):
            return path
        if not checks:
            part.unlink(missing_ok=True)
        resumed = part.exists()
        _fetch(url, part, max_bytes, attempts, progress)
        if resumed and _wrong(part, checks):
            part.unlink()  # begun from another file of that name
            _fetch(url, part, max_bytes, attempts, progress)
        if wrong := _wrong(part, checks):
            part.unlink()
            raise IntegrityError(
                f"{url} has {wrong}: it has changed, or something on the way changes it; nothing was kept. "
                "Try another network or mirror"
            )
        files.sync(part)
        os.replace(part, path)
        files.sync(path.parent)
    return path


def _checks(sha256: str | None, blob_id: str | None) -> list[_Check]:
    checks: list[_Check] = []
    for name, value, digits, compute in (
        ("sha256", sha256, 64, files.sha256),
        ("git blob id", blob_id, 40, files.git_blob_id),
    ):
        if value is None:
            continue
        if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", value):
            raise InvalidArgumentError(f"{name} is {value!r}; expected {digits} hexadecimal digits")
        checks.append((name, value.lower(), compute))
    return checks


def _wrong(path: Path, checks: Sequence[_Check]) -> str | None:
    """Return what is wrong with the file's hash, if anything."""
    for name, expected, compute in checks:
        if (found := compute(path)) != expected:
            return f"{name} {found}; expected {expected}"
    return None


class _BrokenError(Exception):
    """An attempt failed, but another one may not."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


def _fetch(url: str, part: Path, max_bytes: int, attempts: int, progress: bool) -> None:
    """Completes `part`, in several attempts if need be."""
    name = part.name.removesuffix(".part")
    validator: dict[str, str] = {}
    reason = ""
    with (
        requests.Session() as session,
        tqdm(desc=name, unit="B", unit_scale=True, disable=None if progress else True) as bar,
    ):
        session.headers.update({"User-Agent": f"nasbench-mr/{__version__}", "Accept-Encoding": "identity"})
        for attempt in range(attempts):
            try:
                return _attempt(session, url, part, max_bytes, validator, bar)
            except _BrokenError as error:
                reason, wait = str(error), error.wait
            except requests.exceptions.SSLError as error:
                # Another attempt would meet the same certificate; only a connection that broke off may not.
                if "EOF" not in str(error):
                    raise DownloadError(f"can't download {url}: {_cause(error)}; {_CERTIFICATES}") from error
                reason, wait = _cause(error), 0.0
            except (
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as error:
                reason, wait = _cause(error), 0.0
            except requests.RequestException as error:
                raise DownloadError(f"can't download {url}: {error}") from error
            except OSError as error:
                if "CA certificate bundle" not in str(error):
                    raise
                raise DownloadError(f"can't download {url}: {error}; {_CERTIFICATES}") from error
            if attempt + 1 < attempts:
                _sleep(min(MAX_WAIT, max(wait, 2.0**attempt)))
    kept = "what has come is kept; rerun the command to resume" if part.exists() else "try later"
    raise DownloadError(f"can't download {url} in {attempts} attempts: {reason}; {kept}")


def _cause(error: requests.RequestException) -> str:
    """Return what went wrong; requests puts the address and its own objects around it."""
    cause = error.args[0] if error.args else error
    cause = getattr(cause, "reason", cause)
    words = [word for word in getattr(cause, "args", ()) if isinstance(word, str)]
    return words[0] if words else str(cause)


def _attempt(
    session: requests.Session,
    url: str,
    part: Path,
    max_bytes: int,
    validator: dict[str, str],
    bar: tqdm[Any],
) -> None:
    """Send one request, for what `part` lacks.

    Args:
        validator: the header by which the server knows whether the file is still the one that was begun;
            filled from its answers.
    """
    size = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={size}-", **validator} if size else {}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        status, said = response.status_code, f"HTTP {response.status_code} {response.reason}"
        if status in _PASSING or status >= 500:
            wait = response.headers.get("Retry-After", "")
            raise _BrokenError(said, float(wait) if re.fullmatch(r"\d{1,9}", wait) else 0.0)
        start, total = _range(response)
        if status == 416 and size and total == size:
            return  # nothing was lacking
        if (status == 416 and size) or (status == 206 and start != size):
            part.unlink(missing_ok=True)
            raise _BrokenError(f"{said}: the file there does not continue the one here")
        if status not in (200, 206):
            raise DownloadError(f"can't download {url}: {said}; is the address right?")
        if status == 200:
            size = 0  # the whole file, whatever was asked for
        validator.update(_validator(response))
        bar.reset(total)
        bar.update(size)
        too_large = IntegrityError(f"{url} is larger than {max_bytes:,} bytes; refused")
        if total is not None and total > max_bytes:
            raise too_large
        with open(part, "ab" if size else "wb") as file:
            for chunk in response.iter_content(_CHUNK):
                size += len(chunk)
                if size > max_bytes:
                    part.unlink()
                    raise too_large
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and size < total:
        raise _BrokenError(f"the connection broke off after {size:,} of {total:,} bytes")


def _range(response: requests.Response) -> tuple[int | None, int | None]:
    """Where the answer starts in the file, and the file's size, as far as the server says."""
    if match := re.fullmatch(
        r"bytes (?:(\d{1,18})-\d+|\*)/(?:(\d{1,18})|\*)", response.headers.get("Content-Range", "")
    ):
        return int(match[1]) if match[1] else None, int(match[2]) if match[2] else None
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    known = response.status_code == 200 and not encoded and re.fullmatch(r"\d{1,18}", length)
    return None, int(length) if known else None


def _validator(response: requests.Response) -> dict[str, str]:
    tag = response.headers.get("ETag", "W/")
    value = response.headers.get("Last-Modified") if tag.startswith("W/") else tag
    return {"If-Range": value} if value else {}
