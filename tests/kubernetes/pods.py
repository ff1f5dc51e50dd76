#!/usr/bin/env python3
"""The containers of deploy/kubernetes, as podman runs them: no cluster, but the same rights and files.

usage: pods.py FOLDER MANIFEST KEYS

Writes into FOLDER the volumes of each pod of MANIFEST (what kustomize built), as the kubelet lays
them out, and FOLDER/NAME.args, the words that follow `podman run`, one a line. KEYS is the folder of
`giostra keys`, whose secrets and config maps docs/kubernetes.md makes.
"""

import os
import sys
from pathlib import Path

import yaml

NAMESPACE = "giostra"


def key_files(keys: Path) -> dict[str, dict[str, bytes]]:
    """The secrets and config maps of docs/kubernetes.md, by name."""
    found = {"giostra-broker-key": {"broker.key": (keys / "broker.key").read_bytes()}}
    for name in ["broker", "worker", "client"]:
        found[f"giostra-{name}-keys"] = {f"{name}.key_secret": (keys / f"{name}.key_secret").read_bytes()}
    for role in ["client", "worker", "admin"]:
        files = sorted((keys / "allow" / role).iterdir())
        found[f"giostra-allow-{role}"] = {file.name: file.read_bytes() for file in files}
    return found


def projected(folder: Path, files: dict[str, bytes], mode: int, group: int) -> None:
    """A secret or a config map as the kubelet mounts it: links to a folder with a date, all may write."""
    dated = folder / "..2026_01_01_00_00_00.1"
    dated.mkdir(parents=True)
    for name, content in files.items():
        (dated / name).write_bytes(content)
        os.chown(dated / name, 0, group)
        (dated / name).chmod(mode)
        (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data").symlink_to(dated.name)
    for path in [folder, dated]:
        os.chown(path, 0, group)
        path.chmod(0o2777 if path == folder else 0o2755)


def words(owner: dict, pod: dict, folder: Path, files: dict[str, dict[str, bytes]]) -> list[str]:
    container, context = pod["containers"][0], pod["securityContext"]
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"] and own["capabilities"]["drop"] == ["ALL"] and not own["allowPrivilegeEscalation"]
    said = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges"]
    said += [f"--user={context['runAsUser']}:{context['runAsGroup']}", f"--group-add={context['fsGroup']}"]
    said += [f"--stop-timeout={pod.get('terminationGracePeriodSeconds', 30)}"]
    values = {}
    for variable in container.get("env", []):
        value = variable.get("value")
        if value is None:
            field = variable["valueFrom"]["fieldRef"]["fieldPath"]
            value = {"metadata.namespace": NAMESPACE, "metadata.name": "NAME"}[field]
        for name, earlier in values.items():
            value = value.replace(f"$({name})", earlier)
        values[variable["name"]] = value
    said += [f"--env={name}={value}" for name, value in values.items()]
    claims = owner["spec"].get("volumeClaimTemplates", [])
    volumes = {volume["name"]: volume for volume in [*pod["volumes"], *({"name": claim["metadata"]["name"], "claim": claim} for claim in claims)]}
    for mount in container["volumeMounts"]:
        volume, place = volumes[mount["name"]], folder / mount["name"]
        if source := volume.get("secret") or volume.get("configMap"):
            name = source.get("secretName") or source["name"]
            projected(place, files[name], source.get("defaultMode", 0o644), context["fsGroup"])
        else:
            place.mkdir(parents=True)
            os.chown(place, 0, context["fsGroup"])
            place.chmod(0o2770)
            # A disk's own file system has it.
            (place / "lost+found").mkdir(mode=0o700)
        said.append(f"--volume={place}:{mount['mountPath']}:{'ro' if mount.get('readOnly') else 'rw'}")
    return [*said, container["image"], *container["args"]]


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    folder, keys = Path(sys.argv[1]).resolve(), Path(sys.argv[3])
    documents = [document for document in yaml.safe_load_all(Path(sys.argv[2]).read_text()) if document]
    files = key_files(keys)
    for document in documents:
        if document["kind"] == "ConfigMap":
            files[document["metadata"]["name"]] = {name: text.encode() for name, text in document["data"].items()}
    for document in documents:
        if document["kind"] in ["StatefulSet", "Deployment", "Job"]:
            name = document["metadata"]["name"]
            said = words(document, document["spec"]["template"]["spec"], folder / name, files)
            (folder / f"{name}.args").write_text("".join(f"{word}\n" for word in said))


if __name__ == "__main__":
    main()
