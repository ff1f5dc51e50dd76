#!/usr/bin/env python3
"""What no schema says of deploy/kubernetes and deploy/compose.yaml.

usage: check.py WORK

WORK has what kustomize built of each folder (base.yaml ..), and keys/ of `giostra keys`. The programs
are found by PATH.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import yaml

PROJECT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((Path(__file__).parent / "scaled-object.schema.json").read_text())
IMAGE = (PROJECT / "deploy/image.py").read_text()
USER = int(re.search(r"^USER = (\d+)", IMAGE, re.M)[1])
IMAGE_PORTS = set(map(int, re.findall(r'"(\d+)/tcp"', IMAGE)))
IMAGE_FOLDERS = ["/" + folder for folder in re.findall(r'"((?:var|etc)/\w+(?:/\w+)?)": 0o', IMAGE)]
PROGRAMS = re.search(r"PROGRAMS = \[(.*)\]", IMAGE)[1].replace('"', "").split(", ")
# What docs/kubernetes.md has the user make.
MADE_BY_HAND = {
    "giostra-broker-keys", "giostra-worker-keys", "giostra-client-keys", "giostra-broker-key",
    "giostra-allow-client", "giostra-allow-worker", "giostra-allow-admin",
}  # fmt: skip


def check(holds: bool, says: str) -> None:
    if not holds:
        sys.exit(f"check.py: {says}")


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi)B?", text).groups()
    return int(number) * {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[unit]


def config_check(program: str, text: str, work: Path) -> dict:
    """What `--config-check` of the real program says of a file, its keys being those of WORK."""
    moved = text.replace("/etc/giostra/keys/", f"{work}/keys/").replace("/etc/giostra/broker/", f"{work}/keys/")
    moved = moved.replace("/etc/giostra/allow", f"{work}/keys/allow")
    file = work / f"{program}.toml"
    file.write_text(moved)
    done = subprocess.run([program, "--config", file, "--config-check"], capture_output=True, text=True)
    check(done.returncode == 0, f"{program} --config-check: {done.stderr}{done.stdout}")
    return tomllib.loads(text)


def pod_of(document: dict) -> dict:
    return document["spec"]["template"]["spec"]


def check_pod(document: dict, maps: dict[str, dict]) -> None:
    name, pod = document["metadata"]["name"], pod_of(document)
    context, container = pod["securityContext"], pod["containers"][0]
    check(len(pod["containers"]) == 1, f"{name}: one container")
    check({context[key] for key in ["runAsUser", "runAsGroup", "fsGroup"]} == {USER}, f"{name}: user {USER} of the image")
    check(context["runAsNonRoot"] and context["seccompProfile"] == {"type": "RuntimeDefault"}, f"{name}: context")
    own = container["securityContext"]
    check(own == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}, f"{name}: container's context")
    check(pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False, f"{name}: token, links")
    check(container["args"][0] in PROGRAMS, f"{name}: {container['args'][0]} is in the image")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    claims = {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    check(set(volumes) | claims == {mount["name"] for mount in mounts.values()}, f"{name}: each volume is mounted")
    for path, mount in mounts.items():
        check(any(path == folder or path.startswith(f"{folder}/") for folder in IMAGE_FOLDERS), f"{name}: {path} is below a folder of the image")
        volume = volumes.get(mount["name"], {})
        if secret := volume.get("secret"):
            check(secret["defaultMode"] == 0o440 and secret["secretName"] in MADE_BY_HAND, f"{name}: {secret}")
        if source := volume.get("configMap"):
            check(source["name"] in maps or source["name"] in MADE_BY_HAND, f"{name}: config map {source['name']}")
        kept = "secret" not in volume and "configMap" not in volume
        check(mount.get("readOnly", False) != kept, f"{name}: {path} is read-only, unless it is to be kept")


def mounted(path: str, document: dict) -> bool:
    places = [mount["mountPath"] for mount in pod_of(document)["containers"][0]["volumeMounts"]]
    return any(path.startswith(f"{place}/") or path == place or place.startswith(f"{path}/") for place in places)


def check_system(documents: list[dict], work: Path) -> None:
    by = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    maps = {name: document["data"] for (kind, name), document in by.items() if kind == "ConfigMap"}
    broker, worker = by["StatefulSet", "giostra-broker"], by["Deployment", "giostra-worker"]
    for document in [broker, worker]:
        check_pod(document, maps)
    for document, program in [(broker, "giostra-broker"), (worker, "giostra-worker")]:
        container = pod_of(document)["containers"][0]
        check(container["args"][:2] == [program, "--config"], f"{program}: arguments")
        volumes = {volume["name"]: volume for volume in pod_of(document)["volumes"]}
        folder, file = container["args"][2].rsplit("/", 1)
        mount = next(mount for mount in container["volumeMounts"] if mount["mountPath"] == folder)
        text = maps[volumes[mount["name"]]["configMap"]["name"]][file]
        said = config_check(program, text, work)
        grace, patience = seconds(said["grace"]), pod_of(document)["terminationGracePeriodSeconds"]
        check(grace < patience, f"{program}: grace {grace} s is less than the pod's {patience} s")
        for key in ["keys", "allow", "broker-key", "store", "log-dir"]:
            check(key not in said or mounted(said[key], document), f"{program}: {key} is in a volume")
        if program == "giostra-broker":
            broker_said = said
        else:
            worker_said = said

    container = pod_of(broker)["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listens = {key: int(broker_said[key].rsplit(":", 1)[1]) for key in ["frontend", "backend", "http"]}
    check(ports == listens, f"ports of the pod {ports} are those of broker.toml {listens}")
    check(IMAGE_PORTS == {ports["frontend"], ports["backend"]}, f"ports of the image: {IMAGE_PORTS}")
    service = by["Service", "giostra-broker"]
    served = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    check(served == ports and all(port["targetPort"] == port["name"] for port in service["spec"]["ports"]), "ports of the service")
    check(service["spec"]["selector"].items() <= broker["spec"]["template"]["metadata"]["labels"].items(), "the service's selector")
    check(worker_said["broker"] == f"tcp://giostra-broker:{ports['backend']}", "the workers' broker")
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"]:
        check(container[probe]["httpGet"] == {"path": "/healthz", "port": "http"}, f"{probe} asks /healthz")
    limit = container["resources"]["limits"]["memory"]
    check(size(broker_said["max-pending-bytes"]) * 2 < size(limit), "memory beside that of pending requests")

    policies = {name: document["spec"] for (kind, name), document in by.items() if kind == "NetworkPolicy"}
    for name, spec in policies.items():
        check(set(spec["policyTypes"]) == {"Ingress", "Egress"}, f"{name}: both ways")
        labels = by["StatefulSet" if name == "giostra-broker" else "Deployment", name]["spec"]["template"]["metadata"]["labels"]
        check(spec["podSelector"]["matchLabels"].items() <= labels.items(), f"{name}: selects the pods of its name")
    used = {port["port"] for rule in policies["giostra-broker"]["ingress"] for port in rule["ports"]}
    check(used == set(ports), f"network policies name the broker's ports: {used}")

    for (kind, name), document in by.items():
        if kind != "ScaledObject":
            continue
        jsonschema.validate(document, SCHEMA)
        check("replicas" not in worker["spec"], f"{name}: KEDA alone says how many")
        check(document["spec"]["scaleTargetRef"]["name"] == "giostra-worker", f"{name}: its target")
        for trigger in document["spec"]["triggers"]:
            if trigger["type"] == "prometheus":
                check(f'pool="{worker_said["pool"]}"' in trigger["metadata"]["query"], f"{name}: the workers' pool")
            else:
                namespace = trigger["metadata"]["url"].split(".")[1]
                names = [entry["value"] for entry in container["env"] if entry["name"] == "GIOSTRA_HTTP_HOST"][0]
                host = trigger["metadata"]["url"].split("/")[2].rsplit(":", 1)
                check(host[0] in names.replace("$(NAMESPACE)", namespace).split(","), f"{name}: the broker knows the name {host[0]}")
                check(int(host[1]) == ports["http"], f"{name}: the port of /status.json")
                check(f'name=="{worker_said["pool"]}"' in trigger["metadata"]["valueLocation"], f"{name}: the workers' pool")


def check_compose(work: Path) -> None:
    compose = yaml.safe_load((PROJECT / "deploy/compose.yaml").read_text())
    for name, service in compose["services"].items():
        check(service["user"] == f"{USER}:{USER}" and service["read_only"] and service["cap_drop"] == ["ALL"], f"compose: {name}'s rights")
        check(service["command"][0] in PROGRAMS, f"compose: {name}'s program")
        for port in service.get("ports", []):
            check(port.startswith("127.0.0.1:"), f"compose: {name} is published to this host alone")
        for secret in service["secrets"]:
            check(f"/run/secrets/{secret}" in service["command"], f"compose: {name} uses {secret}")
            check(compose["secrets"][secret] == {"file": f"./keys/{secret}"}, f"compose: {secret} is what `giostra keys` made")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    work = Path(sys.argv[1])
    read = {file.stem: [document for document in yaml.safe_load_all(file.read_text()) if document] for file in work.glob("*.yaml")}
    for name, documents in read.items():
        if name == "client":
            check_pod(documents[0], {})
            labels = documents[0]["spec"]["template"]["metadata"]["labels"]
            check(labels.get("giostra-client") == "true", "the client's label")
        else:
            check_system(documents, work)
    check_compose(work)
    print(f"== what no schema says: {' '.join(sorted(read))}, compose.yaml")


if __name__ == "__main__":
    main()
