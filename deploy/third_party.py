#!/usr/bin/env python3
"""Lists what of others is in the programs: notices for people, CycloneDX for scanners.

Writes THIRD-PARTY.txt and giostra.cdx.json to a folder. Both come from one walk over what Cargo
links into the three programs, or into the packages that --package names, and name the C and C++
libraries, which Cargo does not know of. A crate without the text of a licence is an error.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import uuid
from datetime import datetime, timezone
from pathlib import Path

PROGRAMS = ["giostra", "giostra-broker", "giostra-worker-cli"]
LICENCE_FILE = re.compile(r"(licen[cs]e|copying|unlicense|notice)", re.IGNORECASE)
# Of crates that leave the choice, MIT is chosen.
NOT_CHOSEN = re.compile(r"apache|boost|bsl|unlicense", re.IGNORECASE)
INTRODUCTION = """\
Giostra contains the work of others.

libzmq is under the Mozilla Public License 2.0. Its source is that of release {zmq}, which crate
zeromq-src carries; the files that Giostra puts in the place of libzmq's own are in the folder
common/zmq-sys of Giostra's source.

Below is each component with its licence, then each text with the components that it is for.
"""


def cargo(*args: str) -> str:
    return subprocess.run(["cargo", *args], check=True, capture_output=True, text=True).stdout


def host() -> str:
    about = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return re.search(r"^host: (.*)$", about, re.MULTILINE)[1]


def linked_crates(packages: list[str]) -> list[dict]:
    """The crates of the registry whose code is in one of the packages, as `cargo metadata` describes them."""
    target = host()
    chosen = [arg for package in packages for arg in ("-p", package)]
    tree = ["tree", "--locked", "--prefix", "none", "--target", target, "--format", "{p}"]
    lines = cargo(*tree, "-e", "normal,no-proc-macro", *chosen).splitlines()
    names = {tuple(line.split()[:2]) for line in lines if line}
    known = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    crates = [package for package in known["packages"] if package["source"]]
    # The source of libzmq is a dependency of a build script.
    linked = [c for c in crates if (c["name"], "v" + c["version"]) in names or c["name"] == "zeromq-src"]
    return sorted(linked, key=lambda crate: (crate["name"], crate["version"]))


def texts(folder: Path, all_of_them: bool = False) -> list[str]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and LICENCE_FILE.search(path.name))
    chosen = [path for path in files if all_of_them or not NOT_CHOSEN.search(path.name)]
    return [path.read_text(errors="replace") for path in chosen or files]


def crate_component(crate: dict) -> dict:
    name, version = crate["name"], crate["version"]
    licence = re.sub(r"\s*/\s*", " OR ", crate["license"] or "")
    return {
        "name": name,
        "version": version,
        "licence": licence or "see its text",
        "purl": f"pkg:cargo/{name}@{version}",
        "texts": texts(Path(crate["manifest_path"]).parent),
    }


def generic(name: str, version: str, licence: str, texts: list[str]) -> dict:
    purl = f"pkg:generic/{name}@{version}"
    return {"name": name, "version": version, "licence": licence, "purl": purl, "texts": texts}


def sodium(folder: Path) -> dict:
    """libsodium's version and licence stand in the headers of its archive."""
    listed = subprocess.run(
        ["tar", "-xzOf", folder / "LATEST.tar.gz", "--wildcards", "*/configure.ac", "*/LICENSE"],
        check=True, capture_output=True, text=True,
    ).stdout
    version = re.search(r"AC_INIT\(\[libsodium\],\s*\[([^\]]+)\]", listed)[1]
    licence = listed[listed.index("ISC License") - 4 :] if "ISC License" in listed else listed
    return generic("libsodium", version, "ISC", [licence[licence.index("/*") :].split("*/")[0] + "*/\n"])


def c_libraries(crates: list[dict], zig: Path | None) -> list[dict]:
    folders = {crate["name"]: Path(crate["manifest_path"]).parent for crate in crates}
    zmq = next(crate["version"] for crate in crates if crate["name"] == "zeromq-src").split("+")[1]
    found = [
        generic("libzmq", zmq, "MPL-2.0", texts(folders["zeromq-src"] / "vendor")),
        sodium(folders["libsodium-sys-stable"]),
    ]
    if folder := folders.get("libsqlite3-sys"):
        header = (folder / "sqlite3" / "sqlite3.h").read_text(errors="replace")
        version = re.search(r'#define SQLITE_VERSION\s+"([^"]+)"', header)[1]
        found.append(generic("sqlite", version, "blessing", ["SQLite is in the public domain.\n"]))
    if zig:
        version = subprocess.run([zig / "zig", "version"], check=True, capture_output=True, text=True).stdout.strip()
        parts = [text for name in ("libcxx", "libcxxabi", "libunwind") for text in texts(zig / "lib" / name)]
        found.append(generic("llvm-libcxx", f"zig-{version}", "Apache-2.0 WITH LLVM-exception", parts))
        found.append(generic("zig-compiler-rt", version, "MIT", texts(zig, True)))
    return found


def notices(components: list[dict]) -> str:
    by_text: dict[str, tuple[str, list[str]]] = {}
    for component in components:
        if not component["texts"]:
            sys.exit(f"no licence's text: {component['name']} {component['version']}")
        for text in component["texts"]:
            _, names = by_text.setdefault(" ".join(text.split()), (text, []))
            if (name := f"{component['name']} {component['version']}") not in names:
                names.append(name)
    zmq = next(c["version"] for c in components if c["name"] == "libzmq")
    parts = [INTRODUCTION.format(zmq=zmq)]
    parts.append("\n".join(f"{c['name']} {c['version']}: {c['licence']}" for c in components) + "\n")
    for text, names in by_text.values():
        parts.append(f"{'=' * 80}\n{', '.join(names)}\n{'=' * 80}\n\n{text.strip()}\n")
    return "\n".join(parts)


def bill(version: str, components: list[dict]) -> dict:
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    listed = [
        {
            "type": "library",
            "bom-ref": c["purl"],
            "name": c["name"],
            "version": c["version"],
            # An expression of SPDX, where the crate has one.
            "licenses": [{"license": {"name": c["licence"]}} if "text" in c["licence"] else {"expression": c["licence"]}],
            "purl": c["purl"],
        }
        for c in components
    ]
    seed = json.dumps([version, listed], sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, seed)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": "giostra",
                "name": "giostra",
                "version": version,
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
            },
        },
        "components": listed,
        "dependencies": [{"ref": "giostra", "dependsOn": [c["purl"] for c in components]}],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to write both files")
    parser.add_argument("--zig", type=Path, help="the folder of zig if zig built them: its C++ library is in them, too")
    parser.add_argument("--package", action="append", help="a Cargo package [default: those of the programs]")
    args = parser.parse_args()
    crates = linked_crates(args.package or PROGRAMS)
    linked = [crate_component(c) for c in crates if c["name"] != "zeromq-src"]
    components = linked + c_libraries(crates, args.zig)
    version = cargo("pkgid", "-p", "giostra").strip().rsplit("#")[-1].rsplit("@")[-1]
    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "THIRD-PARTY.txt").write_text(notices(components))
    (args.folder / "giostra.cdx.json").write_text(json.dumps(bill(version, components), indent=1) + "\n")


if __name__ == "__main__":
    main()
