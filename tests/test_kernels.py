"""The kernel versions differ where the patches do and nowhere else; mutants and users' variants load or say why not."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

from kernelmodel import Config, Machine, ModelError
from kernelmodel.kernels import KERNELS, kernel, mutant, variant
from kernelmodel.text import KernelText
from kernelmodel.variants.booting import check_boots
from kernelmodel.variants.labels import check_labels
from kernelmodel.versions.base import Base
from kernelmodel.versions.mutants import MUTANTS, build
from kernelmodel.versions.v5_10 import V5_10
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES, find
from verify.explore.__main__ import main as explore
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.scenario import Scenario
from verify.verdict import Result


def overridden(cls: type) -> set[str]:
    return {n for n in vars(cls) if n not in ("name", "summary", "breaks", "source") and not n.startswith("__")}


# --- the versions ---


def test_v5_11_overrides_what_the_patch_changes_and_nothing_else() -> None:
    assert overridden(V5_11) == {
        "drain_all_pages", "_drain_all_pages", "set_pageset_high_and_batch", "zone_set_pageset_high_and_batch",
        "zone_pcp_disable", "zone_pcp_enable", "offline_pages",
        # the other user of zone_pcp_disable(), by another patch of v5.11
        "get_hwpoison_page",
    }  # fmt: skip


def test_v5_10_overrides_what_patches_1_to_6_change_and_nothing_else() -> None:
    assert overridden(V5_10) == {
        "set_migratetype_isolate", "offline_pages", "pageset_update", "zone_set_pageset_high_and_batch",
        "free_unref_page_commit", "rmqueue_pcplist",
    }  # fmt: skip


def test_base_adds_nothing_to_its_files() -> None:
    assert overridden(Base) == set()
    assert V5_10.__bases__ == V5_11.__bases__ == (Base,)


@pytest.mark.parametrize("name", KERNELS)
def test_each_kernel_is_found_by_its_name_says_what_it_is_and_boots(name: str) -> None:
    found = kernel(name)
    assert found.name == name
    assert found.summary
    assert Machine(found, Config()).state.audit() == []


def routines() -> list[tuple[type, str]]:
    found = []
    for cls in dict.fromkeys(c for k in KERNELS.values() for c in k.__mro__ if issubclass(c, KernelText)):
        found += [(cls, n) for n, f in vars(cls).items() if inspect.isfunction(f) and not n.startswith("_")]
    return found


@pytest.mark.parametrize(("cls", "name"), routines(), ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_each_routine_names_its_c_file_and_function(cls: type, name: str) -> None:
    first = (inspect.getdoc(vars(cls)[name]) or "").splitlines()[0]
    assert re.match(r"(mm|kernel|include/linux|drivers/base)/[\w/-]+\.[ch]: \w+\(", first)


def difference(name: str, older: type, newer: type) -> list[str]:
    """What a routine loses (-) and gains (+) from one kernel to the next."""
    texts = [inspect.getsource(getattr(k, name)).splitlines()[2:] for k in (older, newer)]
    found = difflib.unified_diff(*texts, n=0, lineterm="")
    return [f"{line[0]} {line[1:].strip()}" for line in found if line[0] in "-+" and line[:3] not in ("---", "+++")]


def test_offline_pages_of_v5_11_differs_from_base_as_the_patch_says() -> None:
    assert difference("offline_pages", Base, V5_11) == [
        "+ yield from self.zone_pcp_disable(zone)",
        '- label = "failed_removal"',
        "- if not label:",
        "- yield from self.drain_all_pages(zone)",
        '+ label = "failed_removal_pcplists_disabled"',
        "- yield from self.drain_all_pages(zone)",
        "+ yield from self.zone_pcp_enable(zone)",
        '+ label = "failed_removal_pcplists_disabled"',
        '+ if label == "failed_removal_pcplists_disabled":',
        "+ yield from self.zone_pcp_enable(zone)",
    ]


def test_offline_pages_of_base_differs_from_v5_10_by_its_drain_before_the_loop() -> None:
    assert difference("offline_pages", V5_10, Base) == ["+ if not label:", "+ yield from self.drain_all_pages(zone)"]


# --- goto labels ---


@pytest.mark.parametrize("name", [*KERNELS, *MUTANTS])
def test_the_labels_of_a_shipped_text_are_all_there_and_all_jumped_to(name: str) -> None:
    check_labels(kernel(name) if name in KERNELS else mutant(name))


MISSPELT = {
    "a label that is not there": (
        'ret, label = -EBUSY, "failed_removal_isolated"', 'ret, label = -EBUSY, "failed_removal_isolatd"',
        "jumps to the label 'failed_removal_isolatd', which is not there: did you mean failed_removal_isolated?",
    ),
    "a label that nothing jumps to": (
        'if label == "failed_removal":', 'if label == "failed_remov":',
        "jumps to the label 'failed_removal', which is not there: did you mean failed_remov?",
    ),
    "a label beside the others": (
        'if label == "failed_removal":', 'if label in ("failed_removal", "failed"):',
        "has the label 'failed', to which nothing jumps",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISSPELT)
def test_a_label_that_is_misspelt_is_refused(case: str, tmp_path: Path) -> None:
    old, new, message = MISSPELT[case]
    source = inspect.getsource(V5_11.offline_pages)
    assert source.count(old) == 1
    head = "from kernelmodel import V5_11\nfrom kernelmodel.mmzone import EBUSY, MigrateType, PageRange\n"
    head += "from kernelmodel.ops import Routine\n\n\nclass Mine(V5_11):\n"
    file = tmp_path / "mine.py"
    file.write_text(head + source.replace(old, new))
    with pytest.raises(ModelError) as refused:
        variant(str(file))
    assert message in str(refused.value)
    file.write_text(head + source)
    assert variant(str(file))


def test_a_label_that_a_helper_returns_is_checked_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from kernelmodel import V5_11, ops\n\n\nclass Mine(V5_11):\n    def offline_checks(self, page_range):\n"
        '        invalid = yield ops.environment("range_invalid", "walk_system_ram_range()")\n'
        '        return (-22, "failed_removl") if invalid else (0, "")\n'
    )
    with pytest.raises(ModelError, match="failed_removl"):
        variant(str(file))


# --- the mutants ---


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mutant_changes_one_function_by_a_diff_that_fits_once(name: str) -> None:
    made, spec = mutant(name), MUTANTS[name]
    assert overridden(made) == {spec.function}
    assert made.__mro__[1] is V5_11
    assert made.name == f"v5.11 with {name}"
    source = textwrap.dedent(inspect.getsource(getattr(V5_11, spec.function)))
    for old, new in spec.edits:
        before, after = source.split(old)
        source = before + new + after
    assert inspect.getsource(getattr(made, spec.function)).rstrip() == source.rstrip()
    assert made.summary == spec.summary
    assert spec.diff.startswith(f"{spec.function}():\n-")


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mutant_names_a_property_or_equivalent_as_what_is_expected(name: str) -> None:
    assert MUTANTS[name].breaks == "equivalent" or find(MUTANTS[name].breaks)


@pytest.mark.parametrize(
    ("edit", "times"),
    [(("not in the text", ""), 0), (("yield from self", "pass"), 3)],
)
def test_an_edit_that_does_not_fit_once_is_refused(edit: tuple[str, str], times: int) -> None:
    planted = dataclasses.replace(MUTANTS["no-drain"], name="planted", edits=(edit,))
    with pytest.raises(ModelError, match=rf"planted: its edit fits zone_pcp_disable\(\) {times} times, not once"):
        build(planted)


# --- a user's variant ---

GOOD = """
from kernelmodel import V5_11

class Mine(V5_11):
    def zone_pcp_disable(self, zone):
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.set_pageset_high_and_batch(zone, 0, 1)
        yield from self.drain_all_pages(zone)
"""
OTHER = """
class Other(V5_11):
    def zone_pcp_update(self, zone):
        yield from self._helper(zone)

    def _helper(self, zone):
        yield from self.zone_set_pageset_high_and_batch(zone)
"""
PLAIN = """
class Plain:
    def zone_pcp_update(self, zone):
        yield from self.zone_set_pageset_high_and_batch(zone)
"""


def write(tmp_path: Path, text: str, name: str = "mine.py") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_a_variant_is_loaded_named_after_its_file_and_boots(tmp_path: Path) -> None:
    found = variant(write(tmp_path, GOOD))
    assert found.name == "mine.py:Mine"
    assert issubclass(found, V5_11)
    machine = Machine(found, Config())
    task = machine.spawn("disable", machine.kernel.zone_pcp_disable(machine.zone()))
    machine.settle(task)
    assert "zone_pcp_disable" in machine.history[0].stack


def test_a_variant_may_name_itself(tmp_path: Path) -> None:
    assert variant(write(tmp_path, GOOD + '    name = "my fix"\n')).name == "my fix"


def test_a_class_outside_the_kernels_is_put_before_v5_11(tmp_path: Path) -> None:
    found = variant(write(tmp_path, PLAIN))
    assert found.__mro__[2] is V5_11
    assert "Plain" in found.name


def test_one_of_several_classes_is_chosen_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + OTHER)
    assert variant(f"{path}:Other").name == "mine.py:Other"
    assert variant(f"{path}:Mine").name == "mine.py:Mine"


def test_a_helper_that_an_override_calls_is_no_misspelling(tmp_path: Path) -> None:
    text = GOOD.replace("self.drain_all_pages(zone)", "self.mine(zone)") + "    def mine(self, _):\n        yield\n"
    assert overridden(variant(write(tmp_path, text))) == {"zone_pcp_disable", "mine"}


@pytest.mark.parametrize(
    ("text", "choose", "message"),
    [
        ("def f(:\n", "", r"line 1: invalid syntax"),
        ("x = 1\ny = 2\nz = (\n", "", r"line 3: '\(' was never closed"),
        ("x = 1\nraise ValueError('no')\n", "", r"line 2: ValueError: no"),
        ("def f():\n    return 1 / 0\n\nf()\n", "", r"line 2: ZeroDivisionError: division by zero"),
        ("from kernelmodel import V5_12\n", "", r"line 1: ImportError: .*V5_12"),
        ("x = 1\n", "", r"defines 0 classes: write one class that overrides routines of V5_11"),
        ("x = 1\n", ":Mine", r"defines no class"),
        (GOOD + OTHER, "", r"defines 2 classes \(Mine, Other\): .*choose with .*mine.py:NAME"),
        (GOOD, ":Mein", r"unknown variant in .*mine.py 'Mein': did you mean Mine\?"),
        (
            GOOD.replace("_disable", "_disabel"), "",
            r"unknown routine .*'zone_pcp_disabel': did you mean zone_pcp_disable\?",
        ),
        (
            GOOD + "\n    def zone_pcp_enabel(self, zone):\n        yield\n", "",
            r"routine zone_pcp_enabel\(\) is in no kernel and nobody calls it: did you mean zone_pcp_enable\?",
        ),
        (
            GOOD + "\n    def frobnicate(self):\n        yield\n", "",
            r"routine frobnicate\(\) is in no kernel and nobody calls it: call it from an override, or remove it",
        ),
        (
            "from kernelmodel import V5_11\nclass Mine(V5_11):\n    pass\n", "",
            r"class Mine overrides no routine of V5_11",
        ),
    ],
)  # fmt: skip
def test_a_bad_variant_is_one_line_with_file_line_and_cause(
    tmp_path: Path, text: str, choose: str, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ModelError, match=message) as caught:
        variant(path + choose)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["gone.py", "gone.py:Mine", "gone", ""])
def test_a_missing_file_is_named(tmp_path: Path, spec: str) -> None:
    with pytest.raises(ModelError, match="does not exist or is no file: give --variant"):
        variant(str(tmp_path / spec))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a Python file: its name must end in \.py"):
        variant(write(tmp_path, GOOD, "mine.txt"))


def test_a_misspelt_routine_is_refused_also_in_a_class_outside_the_kernels(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="did you mean zone_pcp_update"):
        variant(write(tmp_path, PLAIN.replace("zone_pcp_update", "zone_pcp_updat")))


CALLS = """from kernelmodel import V5_11
class Mine(V5_11):
    def zone_pcp_disable(self, zone):
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.CALLED(zone, 0, 1)
"""


@pytest.mark.parametrize(
    ("called", "cure"),
    [
        (
            "__zone_set_pageset_high_and_batch",
            r": C's __zone_set_pageset_high_and_batch\(\) is set_pageset_high_and_batch\(\)",
        ),
        ("_zone_set_pageset_high_and_batch", r": did you mean zone_set_pageset_high_and_batch\?"),
        ("set_pageset_high_and_bach", r": did you mean set_pageset_high_and_batch\?"),
        ("kswapd", r"'kswapd'$"),
        ("set_pageset_high_and_batch", None),
    ],
)
def test_a_routine_that_is_called_by_another_name_is_named(tmp_path: Path, called: str, cure: str | None) -> None:
    made = variant(write(tmp_path, CALLS.replace("CALLED", called)))
    machine = Machine(made, Config(1), limits=(3, 1))
    task = machine.spawn("disabler", made(machine.config).zone_pcp_disable(machine.zone()))
    if cure is None:
        machine.run(task)
    else:
        with pytest.raises(
            ModelError, match=f"mine.py, line 5: AttributeError: 'Mine' object has no attribute .*{cure}"
        ):
            machine.run(task)


def test_the_line_of_an_error_is_named_also_for_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "x = 1\nraise ValueError('no')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="line 2: ValueError: no"):
        variant("mine.py")


# --- unknown names ---


@pytest.mark.parametrize(
    ("look_up", "name", "message"),
    [
        (kernel, "v5.12", r"unknown kernel 'v5.12': did you mean v5.1[015]\?"),
        (kernel, "bsae", r"unknown kernel 'bsae': did you mean base\?"),
        (kernel, "xyzzy", r"unknown kernel 'xyzzy': there are v5.10, base, v5.11"),
        (mutant, "no-drian", r"unknown mutant 'no-drian': did you mean no-drain\?"),
        (find, "no-stray-page", r"unknown property 'no-stray-page': did you mean no_stray_page\?"),
        (mutant, "", r"unknown mutant '': there are no-force-all-cpus, "),
    ],
)
def test_an_unknown_name_suggests_the_nearest(look_up: object, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        look_up(name)  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_a_text_that_does_not_boot_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = """
        from kernelmodel import V5_11
        from kernelmodel.ops import write_once

        class Mine(V5_11):
            def pageset_update(self, zone, cpu, high, batch):
                yield write_once(batch, "pcp.batch", zone.index, cpu)
    """
    file.write_text(textwrap.dedent(text))
    with pytest.raises(ModelError, match=r"mine.py:Mine does not boot: .* CPU 0 with high 0, batch 2"):
        variant(str(file))


@pytest.mark.parametrize("name", [*KERNELS, *MUTANTS])
def test_every_kernel_boots(name: str) -> None:
    check_boots(kernel(name) if name in KERNELS else mutant(name))


MIXIN = "docs/examples/skip_empty.py"


@pytest.mark.parametrize(("base", "result"), [("v5.11", Result.HOLDS), ("v6.11", Result.VIOLATED)])
def test_one_change_is_asked_about_two_kernels(base: str, result: Result) -> None:
    made = variant(f"{MIXIN}@{base}")
    assert made.name == f"skip_empty.py:SkipEmpty on {base}" and issubclass(made, KERNELS[base])
    small = Finite(Scenario(cpus=2, frees=0, allocs=1, updates=0), 2)
    (verdict,) = Explorer(made, small).decide([PROPERTIES["no_stray_page"]], deadlock=False)
    assert verdict.result is result


def test_a_change_of_a_routine_that_the_kernel_has_not_names_those_that_have_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n    def nr_pcp_alloc(self, zone, cpu):\n        return 1\n        yield\n")
    with pytest.raises(
        ModelError, match=r"line 2: v6.1 has no routine nr_pcp_alloc\(\).*v6.8, v6.10, v6.11, v6.15 with --kernel"
    ):
        variant(f"{file}@v6.1")
    with pytest.raises(ModelError, match=r"unknown kernel 'v6.12': did you mean v6.2"):
        variant(f"{file}@v6.12")


def test_a_change_that_has_a_kernel_is_not_moved_to_another() -> None:
    with pytest.raises(ModelError, match="is derived from V5_11, and so a change of that kernel"):
        variant("docs/examples/skip_idle_cpus.py@v6.11")


def test_a_kernel_and_a_variant_are_one_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--property", "no_stray_page", "--frees", "0", "--allocs", "1", "--updates", "0", "--beside", "none"]
    assert explore(["--kernel", "v6.11", "--variant", MIXIN, *small]) == 1
    assert "skip_empty.py:SkipEmpty on v6.11" in capsys.readouterr().out
    assert explore(["--kernel", "v6.11", "--mutant", "no-undo", "--property", "isolation_undone", *small[2:]]) == 1
    assert "v6.11 with no-undo" in capsys.readouterr().out
    for name, changed, why in (("v6.11", "no-flush", "unknown mutant of v6.11 'no-flush'"), ("v6.8", "x", "has none")):
        with pytest.raises(SystemExit):
            explore(["--kernel", name, "--mutant", changed])
        assert why in capsys.readouterr().err
