"""What the Hub of the tests holds: repositories with commits, tags and files, users with tokens, faults."""

import hashlib
import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

BRANCH = "main"
LARGE = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Files with these endings are kept as large files (LFS), as the real Hub's `.gitattributes` says."""


@dataclass(frozen=True)
class Entry:
    """One file of a commit."""

    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git itself keeps of a large file."""
        lines = (
            "version https://git-lfs.github.com/spec/v1",
            f"oid sha256:{self.sha256}",
            f"size {len(self.content)}",
        )
        return ("\n".join(lines) + "\n").encode()

    @property
    def blob_id(self) -> str:
        """Git's SHA-1 of the file, for a large one that of its pointer."""
        return git_hash(self.pointer if self.lfs else self.content)

    @property
    def upload_oid(self) -> str:
        """What the upload compares: SHA-256 of a large file, git's SHA-1 of another."""
        return self.sha256 if self.lfs else self.blob_id

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id


@dataclass(frozen=True)
class Commit:
    """A state of a repository."""

    oid: str
    parent: str | None
    message: str
    files: dict[str, Entry]


@dataclass
class Repo:
    """One model repository. `granted` are the users who may read it where it is gated."""

    repo_id: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    head: str | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, Entry], message: str = "change", oid: str | None = None) -> Commit:
        """Make these the files of a new commit, which becomes the branch's head."""
        parts = [str(self.head), message, *(f"{name}:{entry.blob_id}" for name, entry in files.items())]
        oid = oid or hashlib.sha1("\n".join(parts).encode()).hexdigest()
        self.commits[oid] = Commit(oid, self.head, message, dict(files))
        self.head = oid
        return self.commits[oid]

    def put(self, contents: dict[str, bytes], message: str = "change", oid: str | None = None) -> Commit:
        """As somebody's edit on the website: these files on top of what is there."""
        entries = {name: make_entry(name, content) for name, content in contents.items()}
        return self.commit({**self.files, **entries}, message, oid)

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch, tag or full commit stands for."""
        oid = self.head if revision == BRANCH else self.tags.get(revision, revision)
        return self.commits.get(oid or "")

    @property
    def files(self) -> dict[str, Entry]:
        return dict(self.commits[self.head].files) if self.head else {}


@dataclass(frozen=True)
class User:
    """Whom a token belongs to, and in whose names they may write."""

    name: str
    orgs: tuple[str, ...] = ()
    can_write: bool = True

    def owns(self, repo_id: str) -> bool:
        return repo_id.partition("/")[0] in (self.name, *self.orgs)


@dataclass
class Fault:
    """Something that goes wrong.

    Args:
        kind: ``cut`` (the connection closes early), ``reset`` (it breaks), ``flip`` (one byte is wrong),
            ``content`` (other bytes come), ``status`` (an error code), ``slow`` (the answer takes `seconds`,
            or until `released`), ``commit`` (another commit is named), ``headers`` (the Hub's are missing).
        file: pattern of the request's path.
        method: of the request, "*" for all.
        times: how often; None always.
        at: share of the body after which ``cut`` and ``reset`` happen.
    """

    kind: str
    file: str = "*"
    method: str = "*"
    times: int | None = None
    at: float = 0.5
    status: int = 500
    code: str = ""
    retry_after: int | None = None
    content: bytes = b""
    seconds: float = 60.0
    happened: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def fits(self, method: str, path: str) -> bool:
        left = self.times is None or self.happened < self.times
        return left and self.method in ("*", method) and fnmatchcase(path, self.file)


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def make_entry(name: str, content: bytes) -> Entry:
    return Entry(content, lfs=name.endswith(LARGE))
