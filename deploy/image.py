#!/usr/bin/env python3
"""Packs a prefix as a container image: the programs, what they are linked to, and a user.

usage: image.py PREFIX FILE VERSION

FILE is an archive for `podman load` and `docker load`, and as `oci-archive:FILE` for skopeo and
buildah. It has no shell and no package manager; the shared libraries are those of this host. Who
needs more puts the programs into an image of their own. The same files give the same bytes, and
neither root nor a container engine is needed.
"""

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from datetime import datetime, timezone
from pathlib import Path

USER = 10001
EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])
PROGRAMS = ["giostra", "giostra-broker", "giostra-worker"]
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# The broker finds nothing to write to but these, each to be a volume: with a read-only root the
# rest stays as it is.
FOLDERS = {"var/lib/giostra": 0o750, "var/log/giostra": 0o750, "etc/giostra": 0o755}
FILES = {
    "etc/passwd": f"root:x:0:0:root:/:/sbin/nologin\ngiostra:x:{USER}:{USER}:Giostra:/var/lib/giostra:/sbin/nologin\n",
    "etc/group": f"root:x:0:\ngiostra:x:{USER}:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def libraries(programs: list[Path]) -> dict[str, Path]:
    """The shared libraries and the loader, by the paths at which the programs look for them."""
    listed = subprocess.run(["ldd", *programs], check=True, capture_output=True, text=True).stdout
    found = re.findall(r"(?:=> )?(/\S+) \(0x", listed)
    if "not found" in listed or not found:
        sys.exit(f"a program's libraries are not all here:\n{listed}")
    return {path.lstrip("/"): Path(path).resolve() for path in found}


class Layer:
    """A tar archive whose folders and owners are those that it is told of."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w", format=tarfile.GNU_FORMAT)
        self.known: set[str] = set()

    def folder(self, path: str, mode: int = 0o755, owner: int = 0) -> None:
        if not path or path in self.known:
            return
        self.folder(path.rpartition("/")[0])
        self.known.add(path)
        self.entry(path, mode, owner, tarfile.DIRTYPE)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self.folder(path.rpartition("/")[0])
        self.entry(path, mode, 0, tarfile.REGTYPE, content)

    def entry(self, path: str, mode: int, owner: int, kind: bytes, content: bytes = b"") -> None:
        about = tarfile.TarInfo(path)
        about.mode, about.uid, about.gid, about.type = mode, owner, owner, kind
        about.mtime, about.size = EPOCH, len(content)
        self.tar.addfile(about, io.BytesIO(content) if content else None)

    def bytes(self) -> bytes:
        self.tar.close()
        return self.buffer.getvalue()


def layer(prefix: Path) -> bytes:
    made = Layer()
    programs = [prefix / "bin" / name for name in PROGRAMS]
    made.folder("tmp", 0o1777)
    for path, mode in FOLDERS.items():
        made.folder(path, mode, USER if path.startswith("var/") else 0)
    for path, text in FILES.items():
        made.file(path, text.encode())
    for program in programs:
        made.file(f"usr/bin/{program.name}", program.read_bytes(), 0o755)
    for path, source in sorted(libraries(programs).items()):
        made.file(path, source.read_bytes(), 0o755)
    doc = prefix / "share" / "doc" / "giostra"
    for name in ["LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY.txt", "giostra.cdx.json"]:
        made.file(f"usr/share/doc/giostra/{name}", (doc / name).read_bytes())
    for package in ["libc6", "libstdc++6", "libgcc-s1"]:
        if (text := Path(f"/usr/share/doc/{package}/copyright")).exists():
            made.file(f"usr/share/doc/{package}/copyright", text.read_bytes())
    return made.bytes()


def configuration(version: str, diff: str) -> dict:
    created = datetime.fromtimestamp(EPOCH, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "created": created,
        "architecture": ARCHITECTURES[os.uname().machine],
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "Env": ["PATH=/usr/bin"],
            # The broker unless another program is named: `podman run giostra giostra-worker ..`.
            "Cmd": ["giostra-broker"],
            "ExposedPorts": {"5555/tcp": {}, "5556/tcp": {}},
            "WorkingDir": "/var/lib/giostra",
            "StopSignal": "SIGTERM",
            "Labels": {
                "org.opencontainers.image.title": "giostra",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [diff]},
        "history": [{"created": created, "created_by": "deploy/image.py"}],
    }


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    prefix, target, version = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    plain = layer(prefix)
    packed = gzip.compress(plain, 9, mtime=0)
    config = encoded(configuration(version, f"sha256:{digest(plain)}"))
    oci = "application/vnd.oci.image"

    def describe(kind: str, content: bytes) -> dict:
        return {"mediaType": f"{oci}.{kind}", "digest": f"sha256:{digest(content)}", "size": len(content)}

    manifest = encoded({
        "schemaVersion": 2,
        "mediaType": f"{oci}.manifest.v1+json",
        "config": describe("config.v1+json", config),
        "layers": [describe("layer.v1.tar+gzip", packed)],
    })
    name = f"localhost/giostra:{version}"
    annotations = {"org.opencontainers.image.ref.name": version, "io.containerd.image.name": name}
    index = encoded({
        "schemaVersion": 2,
        "manifests": [{**describe("manifest.v1+json", manifest), "annotations": annotations}],
    })
    # What `docker load` reads, beside the layout of OCI; both name the same blobs.
    blob = "blobs/sha256/"
    docker = encoded([{"Config": blob + digest(config), "RepoTags": [name], "Layers": [blob + digest(packed)]}])
    archive = Layer()
    archive.file("oci-layout", encoded({"imageLayoutVersion": "1.0.0"}))
    archive.file("index.json", index)
    archive.file("manifest.json", docker)
    for content in [config, manifest, packed]:
        archive.file(blob + digest(content), content)
    target.write_bytes(archive.bytes())


if __name__ == "__main__":
    main()
