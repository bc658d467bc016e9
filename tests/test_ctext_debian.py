"""Debian's own kernel sources, read and judged: `make deep` fetches them where apt has them, and says so where it has not.

STRAYPAGE_TREES names folders with unpacked sources (linux-source-5.10, -6.1, -6.12), separated by colons.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kernelmodel.ctext.files import Tree
from kernelmodel.ctext.kernel import kernel_from, reading_of
from kernelmodel.ctext.spec import TreeSpec
from properties.catalogue import PROPERTIES
from tests.ctree import UNLOCKED
from verify.bmc.solve import Engine
from verify.explore.__main__ import main as explore
from verify.mutants.in_c import names, visit
from verify.prove.__main__ import main as prove
from verify.scenario import Scenario
from verify.tree.__main__ import the_map
from verify.tree.leaves import LEAVES, check
from verify.verdict import Exit, Result

pytestmark = pytest.mark.deep
VERSIONS = ("6.1", "6.12")
FIDELITY = Path(__file__).parent.parent / "docs" / "fidelity.md"


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Version -> an unpacked source."""
    found = {}
    for place in filter(None, os.environ.get("STRAYPAGE_TREES", "").split(":")):
        version = Tree(TreeSpec(place)).version
        found[".".join(version.split(".")[:2])] = Path(place)
    for version in ("5.10", *VERSIONS):
        if version not in found and (tree := _fetched(version, tmp_path_factory.mktemp(f"linux-{version}"))):
            found[version] = tree
    return found


def _fetched(version: str, folder: Path) -> Path | None:
    name = f"linux-source-{version}"
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    if subprocess.run(["apt-get", "download", name], cwd=folder, capture_output=True, check=False).returncode:
        return None
    package = next(folder.glob("*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(package), "out"], cwd=folder, check=True)
    archive = next((folder / "out").rglob("*.tar.*"))
    subprocess.run(
        ["tar", "xf", str(archive), "--wildcards", f"{name}/mm", f"{name}/Makefile", f"{name}/include/linux"],
        cwd=folder,
        check=True,
    )
    return folder / name


def tree_of(trees: dict[str, Path], version: str) -> Path:
    if version not in trees:
        pytest.skip(f"linux-source-{version} is not to be had here: name it in STRAYPAGE_TREES")
    return trees[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_left_unread(trees, version):
    spec = TreeSpec(str(tree_of(trees, version)))
    era, reading = reading_of(spec)
    assert not reading.refused and not [r.c for r in reading.absent if not r.optional]
    assert era.name == {"6.1": "v6.1", "6.12": "v6.11"}[version]
    record = the_map(spec, era, reading)
    same = {r["c"] for r in record["routines"] if r.get("differs") == ""}
    assert {"drain_pages_zone", "__drain_all_pages", "zone_pcp_disable", "zone_pcp_enable"} <= same


def reasons(version: str) -> tuple[set[str], set[str]]:
    """The functions of which docs/fidelity.md says that they have the same graph, and those that it gives a reason for."""
    text = FIDELITY.read_text(encoding="utf-8")
    same = text[text.index("**The same graph**") : text.index("| function |")]
    rows = re.findall(r"^\| (`.*?) \|", text, re.M)
    other = {"6.1": "6.12", "6.12": "6.1"}[version]
    mine = [row for row in rows if not re.search(rf"of {re.escape(other)}$", row)]
    return set(re.findall(r"`(\w+)\(\)`", same)), {n for row in mine for n in re.findall(r"`(\w+)\(\)`", row)}


@pytest.mark.parametrize("version", VERSIONS)
def test_each_difference_from_the_text_has_its_reason_in_the_docs(trees, version):
    spec = TreeSpec(str(tree_of(trees, version)))
    routines = the_map(spec, *reading_of(spec))["routines"]
    same, explained = reasons(version)
    differ = {r["c"] for r in routines if r.get("differs")}
    assert differ - explained == set(), "they differ, and docs/fidelity.md has no reason"
    assert {r["c"] for r in routines if r.get("differs") == ""} >= same, (
        "docs/fidelity.md says that they have the same graph"
    )
    assert not same & differ


def test_the_race_of_2020_is_found_in_the_c_of_5_10(trees, capsys):
    tree = str(tree_of(trees, "5.10"))
    kernel = kernel_from(str(TreeSpec(tree)))
    assert kernel.__mro__[2].name == "v5.10"
    assert explore(["--tree", tree, "--property", "no_isolated_page_left"]) == Exit.VIOLATED
    out = capsys.readouterr().out
    assert "replayed on the concrete model" in out and "=> 1 page of an isolated pageblock left" in out
    assert "lines: mm/page_alloc.c; mm/memory_hotplug.c in offline_pages()" in out
    era, _ = reading_of(TreeSpec(tree))
    assert [(c.name, c.difference, c.refused) for c in check(Tree(TreeSpec(tree)), era)] == [
        (n, "", "") for n in LEAVES
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_guarantee_is_proved_of_the_c_for_any_size(trees, version):
    assert prove(["--tree", str(tree_of(trees, version)), "--property", "no_stray_page"]) == Exit.OK


@pytest.mark.parametrize("version", VERSIONS)
def test_the_c_holds_within_a_bound(trees, version):
    assert explore(["--tree", str(tree_of(trees, version))]) == Exit.OK


@pytest.mark.parametrize("version", VERSIONS)
def test_a_look_at_the_count_outside_of_the_lock_is_found(trees, version, tmp_path):
    original = tree_of(trees, version)
    drain = reading_of(TreeSpec(str(original)))[1].function("drain_pages_zone", "mm/page_alloc.c")
    assert drain is not None
    shutil.copytree(original / "mm", tmp_path / "mm")
    path = tmp_path / "mm/page_alloc.c"
    lines = path.read_text().splitlines()
    # our own function in the place of the tree's
    lines[drain.line - 1 : drain.end] = UNLOCKED.splitlines()
    path.write_text("\n".join(lines) + "\n")
    verdict = Engine(kernel_from(str(TreeSpec(str(tmp_path)))), Scenario()).decide(PROPERTIES["no_stray_page"])
    assert verdict.result is Result.VIOLATED and verdict.replayed and "lines: mm/page_alloc.c" in verdict.trace


@pytest.mark.parametrize("version", VERSIONS)
def test_every_mutant_of_the_c_is_found(trees, version):
    rows = list(visit(TreeSpec(str(tree_of(trees, version))), names(), 2))
    assert [r.mutant.name for r in rows if r.refused] == []
    assert [r.mutant.name for r in rows if not r.as_expected] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_leaves_do_what_the_summaries_say(trees, version):
    tree = Tree(TreeSpec(str(tree_of(trees, version))))
    era, _ = reading_of(tree.spec)
    assert [(c.name, c.difference, c.refused) for c in check(tree, era)] == [(name, "", "") for name in LEAVES]
