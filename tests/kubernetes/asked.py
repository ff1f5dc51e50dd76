#!/usr/bin/env python3
"""What the triggers of the ScaledObjects get, read as KEDA's scalers read it.

usage: asked.py BUILT PROMETHEUS PAGE

Prints the values of the triggers in BUILT/keda.yaml and BUILT/keda-status.yaml; - where KEDA has an
error. PROMETHEUS and PAGE are the addresses to ask.
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import gjson
import yaml


def scaled_object(file: Path) -> dict:
    return next(found for found in yaml.safe_load_all(file.read_text()) if found["kind"] == "ScaledObject")["spec"]


def get(address: str) -> dict:
    with urllib.request.urlopen(address, timeout=5) as answer:
        return json.load(answer)


def by_prometheus(spec: dict, address: str) -> str:
    [trigger] = spec["triggers"]
    query = urllib.parse.urlencode({"query": trigger["metadata"]["query"]})
    try:
        result = get(f"{address}/api/v1/query?{query}")["data"]["result"]
    except urllib.error.URLError:
        return "-"
    # None is an error with ignoreNullValues: "false", and more than one always.
    return result[0]["value"][1] if len(result) == 1 else "-"


def by_status(spec: dict, address: str) -> str:
    [trigger] = spec["triggers"]
    path = urllib.parse.urlparse(trigger["metadata"]["url"]).path
    try:
        value = gjson.get(get(address + path), trigger["metadata"]["valueLocation"])
    except urllib.error.URLError:
        return "-"
    assert isinstance(value, (int, float)), value
    return str(value)


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    built = Path(sys.argv[1])
    print(by_prometheus(scaled_object(built / "keda.yaml"), sys.argv[2]), by_status(scaled_object(built / "keda-status.yaml"), sys.argv[3]))


if __name__ == "__main__":
    main()
