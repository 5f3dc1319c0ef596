"""The manifests for KubeRay: pods and roles by Kubernetes' schema, the rest as far as it is known.

KubeRay's own schema is in no package. What is checked of a RayCluster beyond its pods is what Ray's
own autoscaler reads of it, and `FIELDS`, which is written by hand after KubeRay's documentation.
Whoever has the schema, `ray.io_rayclusters.yaml` of KubeRay's Helm chart, has it checked, too, by
naming its path in `KUBERAY_CRD`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.kuberay import autoscaling_config

import pool
from pool.notices import KubernetesNode, KubernetesPod
from tests.docs.snippets import ROOT

FOLDER = ROOT / "docs" / "examples" / "kuberay"
VERSION = kubernetes_validate.latest_version()

POD = "a pod"
FIELDS: dict[str, Any] = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "namespace": str, "labels": dict, "annotations": dict},
    "spec": {
        "rayVersion": str,
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": {
            "version": ("v1", "v2"),
            "upscalingMode": ("Default", "Aggressive", "Conservative"),
            "idleTimeoutSeconds": int,
            "resources": dict,
            "image": str,
            "imagePullPolicy": str,
            "env": list,
        },
        "gcsFaultToleranceOptions": dict,
        "headServiceAnnotations": dict,
        "suspend": bool,
        "headGroupSpec": {
            "serviceType": str,
            "enableIngress": bool,
            "rayStartParams": dict,
            "template": POD,
        },
        "workerGroupSpecs": [
            {
                "groupName": str,
                "replicas": int,
                "minReplicas": int,
                "maxReplicas": int,
                "numOfHosts": int,
                "idleTimeoutSeconds": int,
                "suspend": bool,
                "rayStartParams": dict,
                "scaleStrategy": dict,
                "template": POD,
            }
        ],
    },
}
"""What a RayCluster may have: types, the values of an enumeration, and what is below."""


def wrong(value: Any, may: Any, path: str = "") -> Iterator[str]:
    """Say what of a value is not in `FIELDS`."""
    if isinstance(may, Mapping):
        if not isinstance(value, Mapping):
            yield f"{path} is no mapping"
            return
        for name, below in value.items():
            if name in may:
                yield from wrong(below, may[name], f"{path}.{name}")
            else:
                yield f"{path}.{name} is unknown"
    elif isinstance(may, list):
        for number, each in enumerate(value):
            yield from wrong(each, may[0], f"{path}[{number}]")
    elif isinstance(may, tuple):
        if value not in may:
            yield f"{path} is {value!r}"
    elif may is POD:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **value}
        try:
            kubernetes_validate.validate(pod, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{path}: {error.message}"
    elif type(value) is not may:
        yield f"{path} is {value!r}"


def strictly(schema: Any) -> Any:
    """Return a schema of Kubernetes' kind as JSON Schema, in which an unknown field is an error."""
    if isinstance(schema, list):
        return [strictly(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {name: strictly(below) for name, below in schema.items()}
    if made.get("x-kubernetes-int-or-string"):
        made = {"type": ["integer", "string"]}
    if "properties" in made and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def refused(made: Mapping[str, Any], definition: Mapping[str, Any]) -> Iterator[str]:
    """Say what a custom resource definition finds wrong."""
    _, name = made["apiVersion"].split("/")
    [version] = [each for each in definition["spec"]["versions"] if each["name"] == name]
    schema = strictly(version["schema"]["openAPIV3Schema"])
    # Of metadata a definition says nothing: Kubernetes does.
    schema["properties"]["metadata"] = {"type": "object"}
    for error in jsonschema.Draft202012Validator(schema).iter_errors(made):
        yield f"{error.json_path}: {error.message}"


def cluster() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((FOLDER / "raycluster.yaml").read_text())
    return made


def accounts() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "rbac.yaml").read_text()))


def test_accounts_and_roles_are_as_kubernetes_wants_them() -> None:
    for each in accounts():
        kubernetes_validate.validate(each, VERSION, strict=True)


def test_the_ray_cluster_has_nothing_that_is_not_known() -> None:
    made = cluster()
    assert (made["apiVersion"], made["kind"]) == ("ray.io/v1", "RayCluster")
    assert not list(wrong(made, FIELDS))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda spec: spec.update(rayVerson="2"), ".spec.rayVerson is unknown"),
        (lambda spec: spec["autoscalerOptions"].update(version="2"), "version is '2'"),
        (lambda spec: spec["workerGroupSpecs"][0].update(maxReplicas="4"), "maxReplicas is '4'"),
        (
            lambda spec: spec["workerGroupSpecs"][0]["template"]["spec"].update(graceS=1),
            "'graceS' was unexpected",
        ),
    ],
)
def test_a_mistake_is_found(change: Any, found: str) -> None:
    made = cluster()
    change(made["spec"])
    [said] = wrong(made, FIELDS)
    assert found in said


@pytest.mark.skipif("KUBERAY_CRD" not in os.environ, reason="KUBERAY_CRD names no schema")
def test_kuberays_own_schema_allows_the_ray_cluster_and_finds_mistakes() -> None:
    definition = yaml.safe_load(Path(os.environ["KUBERAY_CRD"]).read_text())
    made = cluster()
    assert not list(refused(made, definition))
    made["spec"]["workerGroupSpecs"][0]["template"]["spec"]["graceS"] = 1
    assert list(refused(made, definition))


def test_a_definition_is_held_strictly() -> None:
    """So that the test above would find something, were there something to be found."""
    port = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    spec = {"type": "object", "properties": {"port": port, "free": free}}
    schema = {"type": "object", "properties": {"apiVersion": {"type": "string"}, "spec": spec}}
    version = {"name": "v1", "schema": {"openAPIV3Schema": schema}}
    definition = {"spec": {"versions": [{**version, "name": "v0"}, version]}}
    good = {"apiVersion": "ray.io/v1", "metadata": {"name": "x"}}
    good["spec"] = {"port": "http", "free": {"anything": 1}}
    assert not list(refused(good, definition))
    for wrong_spec, found in (({"prot": 1}, "'prot' was unexpected"), ({"port": []}, "port")):
        bad = copy.deepcopy(good) | {"spec": wrong_spec}
        [said] = refused(bad, definition)
        assert found in said


def test_rays_own_autoscaler_reads_what_is_meant() -> None:
    read = autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster())
    head, gpu = (read["available_node_types"][name] for name in ("headgroup", "gpu"))
    assert head["resources"]["CPU"] == 0
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, 4)
    assert gpu["resources"] == {"CPU": 32, "GPU": 8, "memory": 256 * 2**30}
    assert read["idle_timeout_minutes"] == 5


def test_workers_may_ask_for_what_they_ask_for_and_for_nothing_else() -> None:
    """The account of the workers is bound to roles that allow `get` of pods and of nodes."""
    [group] = cluster()["spec"]["workerGroupSpecs"]
    account = group["template"]["spec"]["serviceAccountName"]
    namespace = cluster()["metadata"]["namespace"]
    made = {(each["kind"], each["metadata"]["name"]): each for each in accounts()}
    assert made["ServiceAccount", account]["metadata"]["namespace"] == namespace
    allowed = set()
    for (kind, _), each in made.items():
        if kind.endswith("Binding"):
            [subject] = each["subjects"]
            assert (subject["name"], subject["namespace"]) == (account, namespace)
            role = made[each["roleRef"]["kind"], each["roleRef"]["name"]]
            assert role["metadata"].get("namespace") == each["metadata"].get("namespace")
            for rule in role["rules"]:
                assert (rule["apiGroups"], rule["verbs"]) == ([""], ["get"])
                prefix = "" if role["kind"] == "ClusterRole" else f"namespaces/{namespace}/"
                allowed |= {f"/api/v1/{prefix}{name}/" for name in rule["resources"]}
    pod = KubernetesPod("http://127.0.0.1:1", namespace, "p")
    node = KubernetesNode("http://127.0.0.1:1", "n")
    assert {pod.path.removesuffix("p"), node.path.removesuffix("n")} == allowed


def test_ray_lives_until_pools_have_left() -> None:
    """INV-7: the hook before the end lasts longer than the ladder, and ends before the kill."""
    [group] = cluster()["spec"]["workerGroupSpecs"]
    pod = group["template"]["spec"]
    [container] = pod["containers"]
    program, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    ladder_s = pool.DrainPolicy().timeout_s
    assert ladder_s < int(seconds) < pod["terminationGracePeriodSeconds"]
    variables = {
        each["name"]: each["valueFrom"]["fieldRef"]["fieldPath"] for each in container["env"]
    }
    assert variables == {"POD_NAME": "metadata.name", "NODE_NAME": "spec.nodeName"}
