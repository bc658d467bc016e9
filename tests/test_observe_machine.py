"""verify.observe where it meets a machine: the recorder's script, /proc/zoneinfo, and the laboratory."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from kernelmodel.errors import ModelError
from verify.observe import lab
from verify.observe.__main__ import main
from verify.observe.probes import LAYOUTS, PROBES, TRACEPOINTS
from verify.observe.script import script
from verify.observe.show import known_events
from verify.observe.zoneinfo import findings, parse


def test_the_script_is_shell_and_names_what_the_checker_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One table makes both; a shell reads it; without root or tracefs it says so in one line."""
    file = tmp_path / "record.sh"
    assert main(["script", str(file)]) == 0
    capsys.readouterr()
    subprocess.run(["sh", "-n", str(file)], check=True)
    text = script()
    for probe in PROBES:
        assert re.search(rf"^probe {probe.name} {probe.function}(,{probe.renamed})? [01] ", text, re.M)
    assert all(event in text for event in TRACEPOINTS)
    assert known_events() >= {"commit_r", "pcp_disable", *TRACEPOINTS}
    ran = subprocess.run(["sh", str(file)], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "give a file for the trace" in ran.stderr


def fields(folder: Path, release: str, dump: str = "") -> subprocess.CompletedProcess[str]:
    """What the script takes for the fields of struct per_cpu_pages; ``dump``: what bpftool says, if it is there."""
    lines = script().splitlines()
    functions = "\n".join(lines[lines.index("btf() {") : lines.index("BTF=${BTF:-/sys/kernel/btf/vmlinux}")])
    chosen = "\n".join(lines[lines.index("FIELDS= OWN=$(btf)") : lines.index("I=$T/instances/straypage")])
    (folder / "vmlinux").write_text("")
    if dump:
        tool = folder / "bpftool"
        tool.write_text(f"#!/bin/sh\ncat <<'EOF'\n{dump}\nEOF\n")
        tool.chmod(0o755)
    text = f'fail() {{ echo "$*" >&2; exit 2; }}\n{functions}\nBTF={folder}/vmlinux REL={release}\n{chosen}\necho "$FIELDS"'
    tools = f"{folder}:{Path(shutil.which('awk') or '/usr/bin/awk').parent}"
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False, env={"PATH": tools})


#: as bpftool has it of Debian's 6.1.0-50, shortened; and with the fields of later kernels
BTF = """[472] STRUCT 'pages' size=8 vlen=1
\t'count' type_id=28 bits_offset=0
[473] STRUCT 'per_cpu_pages' size=256 vlen=7
\t'lock' type_id=300 bits_offset=0
\t'count' type_id=28 bits_offset=32
\t'high' type_id=28 bits_offset=64
\t'batch' type_id=28 bits_offset=96
\t'lists' type_id=474 bits_offset=192
[474] ARRAY '(anon)' type_id=95 index_type_id=28 nr_elems=14
[475] STRUCT 'per_cpu_zonestat' size=64 vlen=3
\t'batch' type_id=476 bits_offset=8"""
LATER_BTF = BTF.replace("\t'batch' type_id=28 bits_offset=96", """\t'high_min' type_id=28 bits_offset=128
\t'high_max' type_id=28 bits_offset=160
\t'batch' type_id=28 bits_offset=224""")  # fmt: skip


def test_where_the_fields_are(tmp_path: Path) -> None:
    """From a table by version, and from the kernel's own type information, which is believed where both are there."""
    assert fields(
        tmp_path, "6.1.0-56-cloud-amd64"
    ).stdout == "count=+4(%si):s32 high=+8(%si):s32 batch=+12(%si):s32\n".replace("%si", "$P")
    assert "high=+12($P)" in fields(tmp_path, "6.12.3").stdout
    for release, why in (("5.15.0-1", "from v6.0 on"), ("6.13.0", "install bpftool"), ("7.0", "install bpftool")):
        refused = fields(tmp_path, release)
        assert refused.returncode == 2 and why in refused.stderr
    assert len(re.findall(r"^  (6\.\S+)\) FIELDS", script(), re.MULTILINE)) == len(LAYOUTS)
    assert fields(tmp_path, "7.0", LATER_BTF).stdout == "count=+4($P):s32 high=+16($P):s32 batch=+28($P):s32\n"
    assert fields(tmp_path, "6.1.0", LATER_BTF).stdout == "count=+4($P):s32 high=+16($P):s32 batch=+28($P):s32\n"
    assert fields(tmp_path, "6.1.0", BTF).stdout == "count=+4($P):s32 high=+8($P):s32 batch=+12($P):s32\n"
    # a dump without the structure says nothing
    assert fields(tmp_path, "7.0", BTF.replace("per_cpu_pages", "others")).returncode == 2


def snapshot(counts: Iterable[int], high: int, batch: int, more: str = "") -> str:
    cpus = "".join(
        f"    cpu: {n}\n              count: {c}\n              high:  {high}\n              batch: {batch}\n{more}"
        for n, c in enumerate(counts)
    )
    return f"Node 0, zone  Movable\n  pages free     9\n        high     3\n  pagesets\n{cpus}  start_pfn:  4096\n"


def test_zoneinfo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Enabled, disabled, disabled with pages that stay; one snapshot alone is no proof, for pages pass through."""
    files = []
    for n, text in enumerate(
        (snapshot((3, 4), 1648, 31), snapshot((0, 0), 0, 1), snapshot((0, 2), 0, 1), snapshot((1, 2), 0, 1))
    ):
        files.append(tmp_path / f"z{n}")
        files[-1].write_text(text)
    enabled, clean, stays, other = map(str, files)
    for arguments, code, words in (
        ([enabled], 0, "enabled on 2 CPUs, 7 pages"), ([clean], 0, "no page stays"), ([stays], 3, "take a second snapshot"),
        ([stays, other], 1, "2 on CPU1: stray pages"), ([clean, stays], 0, "no page stays on a pcplist in 2 snapshots"),
    ):  # fmt: skip
        assert main(["zoneinfo", *arguments]) == code
        assert words in " ".join(capsys.readouterr().out.split())


def test_zoneinfo_of_later_kernels() -> None:
    """From v6.7 on the limits that count are high_min and high_max."""
    more = "              high_min: {}\n              high_max: {}\n"
    shut = parse(snapshot((0,), 77, 1, more.format(0, 0)))
    open_ = parse(snapshot((0,), 77, 1, more.format(0, 5)))
    assert "disabled on all" in findings([shut])[0].text
    assert "enabled" in findings([open_])[0].text
    half = parse(snapshot((0, 0), 0, 1).replace("high:  0", "high:  5", 1))
    assert findings([half])[0].open


# --- the laboratory ---


def has_qemu() -> bool:
    return shutil.which("qemu-system-x86_64") is not None and shutil.which("busybox") is not None


def test_the_laboratory_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Packages in one line, and nothing is installed."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(SystemExit):
        main(["lab", "--mutants", "--fetch", str(tmp_path)])
    with pytest.raises(ModelError, match="apt-get install qemu-system-x86 busybox-static make gcc"):
        lab._programs(["none", "late"])
    assert not list(tmp_path.iterdir())


def test_an_initramfs_is_what_cpio_reads(tmp_path: Path) -> None:
    """The format that the kernel unpacks; checked field by field, and by cpio where it is there."""
    data = b"".join(lab.cpio({"init": b"#!/bin/sh\n", "bin/x": b"abc"}))
    assert len(data) % 4 == 0
    assert data.startswith(b"070701")
    names = re.findall(rb"(?:0{8}|[0-9a-f]{8})(bin/x|bin|init|TRAILER!!!)\0", data)
    assert names == [b"bin", b"init", b"bin/x", b"TRAILER!!!"]
    if shutil.which("cpio"):
        made = subprocess.run(["cpio", "-id", "--quiet"], input=data, cwd=tmp_path, check=True, capture_output=True)
        assert made.returncode == 0
        assert (tmp_path / "bin/x").read_bytes() == b"abc"


def test_programs_that_need_a_loader_are_refused() -> None:
    """A guest has no shared libraries: PT_INTERP is looked for in the program headers."""
    head = bytearray(64 + 2 * 56)
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, 2)
    struct.pack_into("<I", head, 64, 1)
    assert not lab._needs_a_loader(bytes(head))
    struct.pack_into("<I", head, 64 + 56, 3)
    assert lab._needs_a_loader(bytes(head))


@pytest.mark.deep
@pytest.mark.skipif(not has_qemu(), reason="the laboratory needs qemu-system-x86 and busybox-static")
def test_the_laboratory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Debian's kernel boots, offlines memory, and keeps the promise; each mutant that can be is noticed."""
    if shutil.which("apt-get") is None:
        pytest.skip("the laboratory fetches Debian's kernel with apt-get")
    assert main(["lab", "--fetch", str(tmp_path / "kernel"), "--mutants", "--keep", str(tmp_path / "traces")]) == 0
    said = capsys.readouterr().out
    assert "as it is" in said
    assert said.count("violated: no_stray_page") == 3
    assert main(["check", str(tmp_path / "traces/late.trace.gz")]) == 1


# --- the page ---
