"""Which journal SQLite may use for a file: write-ahead logging does not work on network file systems.

Write-ahead logging needs memory that all processes share, so all of them must run on one computer
(https://sqlite.org/wal.html). A rollback journal needs only locks, which NFS 4, Lustre, GPFS and others have.
"""

import functools
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dal.errors import ConfigError, SessionError, printable
from dal.store.atomic_files import named

Journal = Literal["wal", "rollback"]

#: Environment variable that chooses the journal: "wal", "rollback", or empty for the choice by file system.
VARIABLE = "DAL_JOURNAL"

#: The mounted file systems on Linux.
MOUNTS = Path("/proc/self/mounts")

# Several computers, or a virtual machine and its host, see the files of these.
_NETWORK = re.compile(
    "9p|acfs|afpfs|afs|beegfs|ceph|cifs|coda|fakeowner|gfs2?|glusterfs|gpfs|juicefs|lustre|mmfs|ncpfs|nfs[34]?|ocfs2|"
    "orangefs|panfs|prl_fs|pvfs2|smb[23]|smbfs|vboxsf|virtiofs|webdav|wekafs|"
    r"fuse\.(?:afs|beegfs|ceph|ceph-fuse|cephfs|curvefs|glusterfs|grpcfuse|juicefs|lizardfs|mfs|moosefs|quobyte|"
    "seaweedfs|vmhgfs-fuse)"
)
# Their locks hold on one computer only.
_UNLOCKED = re.compile(r"fuse\.(?:blobfuse2?|gcsfs|gcsfuse|goofys|mount-s3|rclone|s3fs|sshfs)")
_UNLOCKED_OPTIONS = frozenset(("nolock", "nobrl", "local_lock=all", "local_lock=posix", "localflock", "noflock"))


@dataclass(frozen=True)
class Mount:
    """A mounted file system.

    Attributes:
        place: folder where it is mounted.
        kind: its type, such as "nfs4" or "fuse.sshfs".
        options: its mount options.
    """

    place: str
    kind: str
    options: frozenset[str] = frozenset()

    @property
    def is_network(self) -> bool:
        """Whether other computers may see the same files."""
        return bool(_NETWORK.fullmatch(self.kind) or _UNLOCKED.fullmatch(self.kind))

    @property
    def has_locks(self) -> bool:
        """Whether a lock holds on all computers that see the same files."""
        return not _UNLOCKED.fullmatch(self.kind) and not self.options & _UNLOCKED_OPTIONS


def journal_of(path: Path) -> Journal:
    """The journal that SQLite may use for a file, which need not exist yet.

    Raises:
        SessionError: the file is on a network file system whose locks hold on one computer only.
        ConfigError: the environment variable `DAL_JOURNAL` has another value than "wal" or "rollback".
    """
    chosen = os.environ.get(VARIABLE, "").strip()
    if chosen == "wal":
        return "wal"
    if chosen == "rollback":
        return "rollback"
    if chosen:
        raise ConfigError(f"{VARIABLE} is wal or rollback, not {printable(chosen)}")
    mount = network_mount(path)
    if mount is None:
        return "wal"
    if not mount.has_locks:
        raise SessionError(
            f"{named(path)} is on a network file system ({mount.kind} at {printable(mount.place)}) whose locks other "
            "computers do not see, so that two could write at once: use a local disk or a mount with locks, or set "
            f"{VARIABLE}=rollback if only this computer uses the folder"
        )
    return "rollback"


def network_mount(path: Path) -> Mount | None:
    """The network file system of a file or folder, which need not exist yet; None on a local one, or if unknown."""
    real = os.path.realpath(path)
    if sys.platform == "win32":  # mapped drives are resolved to the share
        return Mount(real[:2], "smb3") if _is_share(real) else None
    found = None
    for mount in _mounts():  # of several at one place, the last covers the others
        inside = real == mount.place or real.startswith(mount.place.rstrip("/") + "/")
        if inside and (found is None or len(mount.place) >= len(found.place)):
            found = mount
    return found if found is not None and found.is_network else None


def _is_share(path: str) -> bool:
    r"""Whether a resolved Windows path is on a network share: `\\server\share\file`."""
    return path.startswith("\\\\?\\UNC\\") or (path.startswith("\\\\") and not path.startswith(("\\\\?\\", "\\\\.\\")))


def _mounts() -> list[Mount]:
    try:
        if sys.platform == "darwin":
            return _macos_mounts(_mount_command())
        return _linux_mounts(MOUNTS.read_bytes())
    except OSError:
        return []


def _linux_mounts(text: bytes) -> list[Mount]:
    """Parse `/proc/mounts`: device, place, type and options, separated by spaces; spaces in names are octal escapes."""
    mounts = []
    for line in text.splitlines():
        fields = [re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), each) for each in line.split(b" ")]
        if len(fields) >= 4:
            place, kind, options = (os.fsdecode(each) for each in fields[1:4])
            mounts.append(Mount(place, kind, frozenset(options.split(","))))
    return mounts


@functools.cache
def _mount_command() -> str:
    """Output of `mount`, read once per process."""
    done = subprocess.run(["/sbin/mount"], capture_output=True, check=False, timeout=10)
    return os.fsdecode(done.stdout)


def _macos_mounts(text: str) -> list[Mount]:
    """Parse the output of `mount` on macOS: "server:/home on /Volumes/home (nfs, nodev, nosuid)"."""
    mounts = []
    for line in text.splitlines():
        if found := re.fullmatch(r".*? on (/.*) \(([^()]+)\)", line):
            kind, *options = found[2].split(", ")
            mounts.append(Mount(found[1], kind, frozenset(options)))
    return mounts
