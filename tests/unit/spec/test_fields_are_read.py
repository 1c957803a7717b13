"""Every field of lab.yaml is read: a field that nothing reads would be accepted and do nothing.

Read means: outside labctl/spec/ some code, lesson or template takes the value, through the spec
(`spec.tenant.router`) or a property of Topology (`topology.router`, in templates `lab.router`).
A property that only hands the value on is no reader, nor is code that passes a whole section on.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, create_model

import labctl
from labctl.spec.model import LabSpec, NodeSpec, TenantSpec

PACKAGE = Path(labctl.__file__).parent
TOPOLOGY = PACKAGE / "topology.py"
Path_ = tuple[str, ...]
"""Keys of lab.yaml from the top; `*` is any name, of a node or of an instance."""

FIELDS_OF_ALL = {"LabSpec": (), "NodeSpec": ("nodes", "*"), "InstanceSpec": ("instances", "*")}
"""Where the models stand in lab.yaml that code has as arguments."""
ALIKE = {"images": "image", "flavors": "flavor"}
"""Sections of further ones: who reads a field of one reads it of all (`Topology.images`)."""
TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
CHAIN = re.compile(r"[a-z_]\w*(?:\.[a-z_]\w*)+")


def leaves(spec: type[BaseModel], above: Path_ = ()) -> Iterator[Path_]:
    """The fields that hold a value, not a section: `("tenant", "router")`."""
    for name, field in spec.model_fields.items():
        below: Any = field.annotation
        path = (*above, name)
        if getattr(below, "__origin__", None) is dict:
            below, path = below.__args__[1], (*path, "*")
        if isinstance(below, type) and issubclass(below, BaseModel):
            yield from leaves(below, path)
        else:
            yield path


def chain(node: ast.AST) -> Path_:
    """`a.b.c` as its names; () for anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return (node.id, *names) if isinstance(node, ast.Name) else (("?", *names) if names else ())


def handed_on(source: str) -> dict[str, Path_]:
    """{property of Topology: path} of those that only return a value or a section of the spec."""
    return {
        function.name: names[2:]
        for each in ast.walk(ast.parse(source))
        if isinstance(each, ast.ClassDef) and each.name == "Topology"
        for function in each.body
        if isinstance(function, ast.FunctionDef)
        and isinstance(function.body[-1], ast.Return)
        and (names := chain(function.body[-1].value or function))[:2] == ("self", "spec")
    }


def path_of(names: Path_, known: Mapping[str, Path_], properties: Mapping[str, Path_]) -> Path_:
    """The path that a chain of names reads, () if it reads nothing of lab.yaml.

    `known` are the variables of the file that hold a part of the spec.
    """
    if names and names[0] in known:
        return (*known[names[0]], *names[1:])
    for at in range(len(names) - 2, 0, -1):
        if names[at] in ALIKE.values() and names[at - 1] in ("instance", "lab", "topology"):
            return names[at:]
    for at in range(len(names) - 1, -1, -1):
        before, rest = names[at - 1] if at else "", names[at + 1 :]
        if names[at] == "spec":
            return ("nodes", "*", *rest) if before in ("node", "Node", "most") else rest
        if names[at] in ("lab", "topology", "_topology", "Topology") and rest[:1]:
            if rest[0] in properties:
                return (*properties[rest[0]], *rest[1:])
            if rest[0] != "spec":
                return ()
    return ()


class _Reads(ast.NodeVisitor):
    def __init__(self, properties: Mapping[str, Path_]) -> None:
        self.found: set[Path_] = set()
        self._properties = properties
        self._known: dict[str, Path_] = {}
        self._class = "self"

    def _path(self, node: ast.AST) -> Path_:
        names = chain(node)
        if names[:1] == ("self",):
            names = (self._class, *names[1:])
        return path_of(names, self._known, self._properties)

    def _learn(self, target: ast.AST, value: ast.AST) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for each, its_value in zip(target.elts, value.elts, strict=False):
                self._learn(each, its_value)
        elif isinstance(target, ast.Name):
            self._known.pop(target.id, None)
            if isinstance(value, ast.Call) and chain(value.func)[-1:] == ("image_of",):
                self._known[target.id] = ("image",)
            elif path := self._path(value):
                self._known[target.id] = path

    def _learn_item(self, target: ast.AST, values: ast.AST) -> None:
        """`for name, node in spec.nodes.items()`: `node` is `nodes.*`."""
        match values:
            case ast.Call(ast.Attribute(of, "items" | "values")) if path := self._path(of):
                last = target.elts[-1] if isinstance(target, ast.Tuple) else target
                if isinstance(last, ast.Name):
                    self._known[last.id] = (*path, "*")
            case ast.Call(ast.Name("zip"), [of, *_]) if isinstance(target, ast.Tuple):
                self._learn_item(target.elts[0], of)
            case ast.Attribute(attr=name) if name in ALIKE and isinstance(target, ast.Name):
                self._known[target.id] = (ALIKE[name],)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:  # ast's name
        self._class = node.name
        self.generic_visit(node)
        self._class = "self"

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._known = {
            each.arg: FIELDS_OF_ALL[each.annotation.id]
            for each in (*node.args.args, *node.args.kwonlyargs)
            if isinstance(each.annotation, ast.Name) and each.annotation.id in FIELDS_OF_ALL
        }
        only_hands_on = self._class == "Topology" and node.name in self._properties
        if not only_hands_on:
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        self._learn(node.targets[0], node.value)

    def visit_For(self, node: ast.For) -> None:
        self._learn_item(node.target, node.iter)
        self.generic_visit(node)

    def _comprehension(self, node: Any) -> None:
        for each in node.generators:
            self._learn_item(each.target, each.iter)
        self.generic_visit(node)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load) and (path := self._path(node)):
            self.found.add(path)
        self.generic_visit(node)


def read_by_code(source: str, properties: Mapping[str, Path_]) -> set[Path_]:
    reads = _Reads(properties)
    reads.visit(ast.parse(source))
    return reads.found


def read_by_template(text: str, properties: Mapping[str, Path_]) -> set[Path_]:
    chains = (names for part in TEMPLATE.findall(text) for names in CHAIN.findall(part))
    return {path for names in chains if (path := path_of(tuple(names.split(".")), {}, properties))}


def unread(leaf_paths: set[Path_], reads: set[Path_]) -> set[str]:
    """The leaves that nothing reads. What reads `dns.0` or `name.encode` has read the leaf."""

    def is_read(leaf: Path_) -> bool:
        if leaf[0] in ALIKE:
            leaf = (ALIKE[leaf[0]], *leaf[2:])
        return any(path[: len(leaf)] == leaf for path in reads)

    return {".".join(leaf) for leaf in leaf_paths if not is_read(leaf)}


def all_reads() -> set[Path_]:
    properties = handed_on(TOPOLOGY.read_text("utf-8"))
    assert properties["router"] == ("tenant", "router")
    found: set[Path_] = set()
    for file in PACKAGE.rglob("*.py"):
        if "spec" not in file.relative_to(PACKAGE).parts:
            found |= read_by_code(file.read_text("utf-8"), properties)
    for file in (
        *PACKAGE.rglob("*.yaml"),
        *PACKAGE.rglob("*.j2"),
        PACKAGE.parent / "Vagrantfile.j2",
    ):
        found |= read_by_template(file.read_text("utf-8"), properties)
    return found


def test_every_field_of_lab_yaml_is_read() -> None:
    paths = set(leaves(LabSpec))
    assert len(paths) > 30
    assert unread(paths, all_reads()) == set(), (
        "no code, lesson or template reads these fields of lab.yaml: use them in labctl/topology.py"
        " or where the value acts, or take them out of labctl/spec/model.py"
    )


def test_a_field_that_nothing_reads_is_named() -> None:
    tenant = create_model("Tenant", __base__=TenantSpec, mtu_of_toys=(int, 1400))
    node = create_model("Node", __base__=NodeSpec, toys=(int, 0))
    lab = create_model(
        "Lab",
        __base__=LabSpec,
        tenant=(tenant, ...),
        nodes=(dict[str, node], ...),
        toys=(str, ""),
    )
    toys = {"tenant.mtu_of_toys", "nodes.*.toys", "toys"}
    assert unread(set(leaves(lab)), all_reads()) == toys


HANDED_ON = {"router": ("tenant", "router"), "pool": ("external", "pool")}


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("f(topology.spec.tenant.mtu)", "tenant.mtu"),
        ("f(self._topology.pool.start)", "external.pool.start"),
        ("f(case.topology.router)", "tenant.router"),
        ("def f(lab):\n pool = lab.pool\n return pool.end", "external.pool.end"),
        ("def f(spec: LabSpec):\n a, b = spec.nat, spec.box\n return b.name", "box.name"),
        ("def f(node: NodeSpec):\n return node.mac.eth0", "nodes.*.mac.eth0"),
        ("[node.eth1 for name, node in spec.nodes.items()]", "nodes.*.eth1"),
        ("for node in spec.nodes.values():\n f(node.cpus)", "nodes.*.cpus"),
        ("class Node:\n def f(self): return set(self.spec.roles)", "nodes.*.roles"),
        ("class Topology:\n def f(self): return f'{self.spec.keypair}'", "keypair"),
        ("f(instance.image.user)", "image.user"),
        ("image = topology.image_of(name)\nf(image.user)", "image.user"),
        ("for flavor in topology.flavors:\n f(flavor.disk)", "flavor.disk"),
        ("for image, key in zip(topology.images, keys):\n f(image.source)", "image.source"),
    ],
)
def test_what_code_reads_is_seen(source: str, path: str) -> None:
    assert tuple(path.split(".")) in read_by_code(source, HANDED_ON)


@pytest.mark.parametrize(
    "source",
    [
        "class Topology:\n def router(self): return self.spec.tenant.router",
        "f(image.size)",
        "def f(tenant):\n return tenant.router",
        "topology.spec.tenant.router = 1",
    ],
)
def test_what_reads_nothing_is_not_taken_for_it(source: str) -> None:
    found = read_by_code(source, HANDED_ON)
    assert not {path for path in found if path[-1] in ("router", "size")}


def test_what_templates_read_is_seen() -> None:
    text = "lab.nothing {{ lab.router }} {% if lab.pool.start %} cpus = {{ node.spec.cpus }}"
    assert read_by_template(text, HANDED_ON) == {
        ("tenant", "router"), ("external", "pool", "start"), ("nodes", "*", "cpus"),
    }  # fmt: skip


def test_the_lab_yaml_of_this_repository_shows_every_field() -> None:
    """Some in a comment: they are best left out."""
    text = (PACKAGE.parent / "lab.yaml").read_text("utf-8")
    shown = set(re.findall(r"^ *(?:# *)?([a-z_0-9]+):", text, re.MULTILINE))
    assert {path[-1] for path in leaves(LabSpec)} - shown == set(), "show it in lab.yaml"
