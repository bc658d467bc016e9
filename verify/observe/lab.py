"""A laboratory: a stock kernel under QEMU, with no privilege needed, that churns and offlines memory while it is recorded.

The guest is the kernel's own image, its virtio modules and busybox; the recorder is the script that users get.  Mutants
are a module of kprobes on the unmodified kernel (lab_mutants.c); their results stand beside the control's in one table.
"""

from __future__ import annotations

import argparse
import re
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernelmodel.errors import ModelError
from verify import page
from verify.observe.conform import Offlinings, conformance
from verify.observe.events import Quality, events, lines_of
from verify.observe.judge import Judge
from verify.observe.script import script
from verify.observe.show import exit_code, verdicts
from verify.scenario import count
from verify.verdict import Exit, Result

HERE = Path(__file__).parent
#: programs by the Debian package that brings them
_PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static"}
_MODULES = ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk")
#: a mutant's parameters, and what has to be noticed; None: nothing can be, and why not
MUTANTS: dict[str, tuple[str, str]] = {
    "none": ("", ""),
    "nohigh": ("mode=nohigh", "the limits stay as they were"),
    "nodrain": ("mode=nodrain", "nothing is drained"),
    "late": ("mode=late late_us=20000", "the limits are lowered after the drain, 20 ms later"),
    "noforce": ("mode=noforce", "only CPUs whose count reads non-zero are drained"),
}
#: it takes a store buffer, which a probe empties (see docs/memory-models.md)
NOT_SEEN = ("noforce",)
_INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mkdir -p /proc /sys /dev /tmp /out
$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev
$B --install -s /bin; export PATH=/bin
mount -t tmpfs tmp /tmp; mount -t tmpfs out /out; mount -t tracefs tracefs /sys/kernel/tracing
echo 1 > /proc/sys/kernel/printk
for m in @MODULES@; do insmod /mods/$m.ko; done
for i in 1 2 3 4 5; do [ -b /dev/vda ] && break; usleep 200000; done
[ -n "@MUTANT@" ] && { insmod /mods/lab_mutants.ko @MUTANT@ || echo "no mutant" >> /out/log; }
cat > /offline.sh <<'EOF'
M=/sys/devices/system/memory
churn() { # pages of a tmpfs come and go, on one CPU
  while :; do dd if=/dev/zero of=/tmp/churn$1.$2 bs=4k count=$((40 + $2 * 13)) 2>/dev/null; rm /tmp/churn$1.$2; done
}
for c in $(seq 0 $(($(nproc) - 1))); do
  for n in 1 2 3; do churn $c $n & taskset -p $(printf %x $((1 << c))) $! > /dev/null; PIDS="$PIDS $!"; done
done
usleep 300000
n=0
for r in $(seq @ROUNDS@); do
  for m in $M/memory*; do
    grep -q Movable $m/valid_zones 2>/dev/null || continue
    [ "$(cat $m/state)" = online ] || continue
    timeout -s KILL 8 sh -c "echo offline > $m/state" 2>/dev/null
    cat /proc/zoneinfo > /out/zoneinfo.$n; n=$((n + 1))
    [ "$(cat $m/state)" = offline ] && echo online_movable > $m/state
    usleep 20000
    [ $n -ge @OFFLINES@ ] && break 2
  done
done
kill -9 $PIDS
EOF
sh /record.sh /out/trace.gz sh /offline.sh >> /out/log 2>&1
cat /proc/sys/kernel/osrelease >> /out/log
tar -cf /dev/vda -C / out && sync
poweroff -f
"""


def add_options(p: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    p.add_argument("--kernel", metavar="FILE", help="a kernel image (vmlinuz) of v6.0 to v6.12, x86-64")
    p.add_argument("--modules", metavar="DIR", help="its modules: the directory that has lib/modules/RELEASE in it")
    p.add_argument(
        "--headers", metavar="DIR", help="its headers, to build the mutants (linux-headers-RELEASE, unpacked)"
    )
    p.add_argument(
        "--fetch", metavar="DIR", help="download Debian's kernel for clouds and its headers into DIR, and use them"
    )
    p.add_argument("--mutants", action="store_true", help="the mutants too, in one table with the control")
    p.add_argument("--mutant", choices=tuple(MUTANTS), action="append", help="these alone (repeatable)")
    p.add_argument("--cpus", type=int, default=2, metavar="N", help="CPUs of the guest (default %(default)s)")
    p.add_argument(
        "--offlines", type=int, default=6, metavar="N", help="how often memory goes offline (default %(default)s)"
    )
    p.add_argument("--keep", metavar="DIR", help="keep the traces there, as MUTANT.trace.gz")
    p.add_argument("--timeout", type=float, default=180, metavar="S", help="for each boot (default %(default)s)")


@dataclass(frozen=True, slots=True)
class Guest:
    """A kernel image, its modules by name, and its headers if there are some."""

    image: Path
    modules: dict[str, Path]
    headers: Path | None


def laboratory(options: argparse.Namespace) -> int:
    """Boot, offline, check; the exit code: 0 where the control is clean and each mutant is noticed that can be."""
    names = options.mutant or (list(MUTANTS) if options.mutants else ["none"])
    if options.cpus < 1 or options.offlines < 1:
        raise ModelError("--cpus and --offlines: give at least 1")
    _programs(names)
    guest = _guest(options)
    codes = []
    with tempfile.TemporaryDirectory(prefix="straypage-lab-") as folder:
        module = _build(guest, Path(folder)) if any(n != "none" for n in names) else None
        print(f"{'kernel':9} {'what is different':46} {'verdict'}")
        for name in names:
            trace = _boot(guest, module, name, options, Path(folder))
            code, told = _judged(name, trace)
            codes.append(code)
            start = f"{name if name != 'none' else 'as it is':9} {MUTANTS[name][1] or 'nothing: the control':46} "
            print(page.paragraph(told, start, " " * 12))
            sys.stdout.flush()
            if options.keep:
                Path(options.keep).mkdir(parents=True, exist_ok=True)
                shutil.copy(trace, Path(options.keep) / f"{name}.trace.gz")
    code = max(codes)
    print(f"exit {int(code)}: {'as expected' if code is Exit.OK else 'not as expected, or nothing was decided'}")
    return int(code)


def _judged(name: str, trace: Path) -> tuple[Exit, str]:
    judge, quality = Judge(), Quality()
    offlinings = Offlinings()
    judge.follow(offlinings.watch(events(lines_of(str(trace)), quality)), quality)
    found = verdicts(judge, quality)
    broken = [f"{v.property} ({v.statistics['violations']})" for v in found if v.result is Result.VIOLATED]
    frees = sum(w.frees for w in judge.windows)
    words = f"{len(judge.windows)} windows, {frees} frees in them; {_conforms(offlinings, quality)}"
    if broken:
        told = f"violated: {', '.join(broken)}; {words}"
        return (Exit.DISAGREE if name == "none" else Exit.OK), told
    if not judge.windows or exit_code(found) is not Exit.OK:
        why = next((v.reason for v in found if v.result is Result.UNDECIDED), "no memory went offline")
        return Exit.UNDECIDED, f"undecided: {why}; {words}"
    if name == "none":
        return Exit.OK, f"holds; {words}"
    if name in NOT_SEEN:
        return Exit.OK, f"not noticed, as expected: it takes a store buffer, which a probe empties; {words}"
    return Exit.UNDECIDED, f"not noticed; {words}"


def _conforms(found: Offlinings, quality: Quality) -> str:
    try:
        made = conformance(found, quality)
    except ModelError as error:
        return f"not held against a text: {error}"
    return f"{count(len(made.misfits), 'offlining')} of {made.offlinings} left the text of {made.era}"


def _programs(names: Sequence[str]) -> None:
    wanted = dict(_PROGRAMS)
    if any(n != "none" for n in names):
        wanted |= {"make": "make", "gcc": "gcc"}
    missing = [package for program, package in wanted.items() if shutil.which(program) is None]
    if missing:
        raise ModelError(f"not there: {', '.join(missing)}: apt-get install {' '.join(missing)}")
    busybox = shutil.which("busybox")
    if busybox and _needs_a_loader(Path(busybox).read_bytes()):
        raise ModelError("busybox needs shared libraries here: apt-get install busybox-static")


def _needs_a_loader(program: bytes) -> bool:
    """Whether a 64-bit ELF program names an interpreter (PT_INTERP), so that it is not linked statically."""
    start = struct.unpack_from("<Q", program, 32)[0]
    size, number = struct.unpack_from("<HH", program, 54)
    return any(struct.unpack_from("<I", program, start + n * size)[0] == 3 for n in range(number))


def _guest(options: argparse.Namespace) -> Guest:
    headers = Path(options.headers) if options.headers else None
    if options.fetch:
        _fetch(Path(options.fetch))
        images = sorted(Path(options.fetch).glob("kernel/boot/vmlinuz-*"))
        if not images:
            raise ModelError(f"--fetch {options.fetch}: no kernel image in the package: give --kernel and --modules")
        release = images[-1].name.removeprefix("vmlinuz-")
        found = Path(options.fetch) / "headers/usr/src" / f"linux-headers-{release}"
        return _with_modules(images[-1], Path(options.fetch) / "kernel", headers or (found if found.is_dir() else None))
    if not options.kernel or not options.modules:
        raise ModelError(
            "give a kernel: --kernel VMLINUZ --modules DIR, or --fetch DIR, which downloads Debian's (30 MB) with apt-get"
        )
    return _with_modules(Path(options.kernel), Path(options.modules), headers)


def _with_modules(image: Path, root: Path, headers: Path | None) -> Guest:
    if not image.is_file():
        raise ModelError(f"--kernel {image}: no such file")
    found = {f.name.removesuffix(".ko"): f for f in root.rglob("*.ko") if f.name.removesuffix(".ko") in _MODULES}
    packed = list(root.rglob("virtio_blk.ko.*"))
    missing = [m for m in _MODULES if m not in found]
    if packed and missing:
        raise ModelError(f"--modules {root}: its modules are packed ({packed[0].name}): unpack them first")
    return Guest(image, found, headers)


def _fetch(folder: Path) -> None:
    """Debian's cloud kernel and what builds modules for it, unpacked; what is there already is not fetched again."""
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise ModelError(f"--fetch needs {program}, as Debian has it: give --kernel and --modules instead")
    if list(folder.glob("kernel/boot/vmlinuz-*")):
        return
    depends = subprocess.run(
        ["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=False
    )
    image = re.search(r"Depends: (linux-image-(\d\S+))", depends.stdout)
    if image is None:
        raise ModelError(
            "--fetch: apt knows no linux-image-cloud-amd64: apt-get update, or give --kernel and --modules"
        )
    release = image[2]
    common = f"linux-headers-{release.removesuffix('-cloud-amd64')}-common"
    version = ".".join(release.split(".")[:2])
    for part, packages in (
        ("kernel", [image[1]]), ("headers", [f"linux-headers-{release}", common, f"linux-kbuild-{version}"])
    ):  # fmt: skip
        target = folder / part
        target.mkdir(parents=True, exist_ok=True)
        for package in packages:
            got = subprocess.run(
                ["apt-get", "download", package], cwd=target, capture_output=True, text=True, check=False
            )
            if got.returncode and part == "kernel":
                raise ModelError(f"--fetch: apt-get download {package}: {got.stderr.strip().splitlines()[-1]}")
        for deb in target.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(deb.resolve()), str(target)], check=True)
            deb.unlink()


def _build(guest: Guest, folder: Path) -> Path:
    """The module with the mutants, for the guest's kernel."""
    if guest.headers is None:
        raise ModelError("mutants are a module: give --headers DIR (linux-headers-RELEASE, unpacked), or --fetch DIR")
    source = folder / "module"
    source.mkdir()
    shutil.copy(HERE / "lab_mutants.c", source)
    (source / "Makefile").write_text("obj-m := lab_mutants.o\n")
    # Debian's headers name the places where they are to be installed
    copy = folder / "headers"
    shutil.copytree(guest.headers, copy, symlinks=True)
    root = str(guest.headers.resolve().parents[2])
    makefile = copy / "Makefile"
    text = makefile.read_text()
    makefile.write_text(re.sub(r"(?<![\w.])/usr/(src|lib)/", lambda m: f"{root}/usr/{m[1]}/", text))
    for link in copy.iterdir():
        if link.is_symlink() and not link.exists():
            before, lib, rest = str(link.readlink()).partition("/lib/")
            del before
            link.unlink()
            if lib:
                link.symlink_to(f"{root}/usr/lib/{rest}")
    made = subprocess.run(
        ["make", "-C", str(copy), f"M={source}", "modules"], capture_output=True, text=True, check=False
    )  # fmt: skip
    module = source / "lab_mutants.ko"
    if not module.is_file():
        lines = (made.stderr or made.stdout).strip().splitlines()
        raise ModelError(f"the mutants' module cannot be built: {lines[-1] if lines else 'make says nothing'}")
    return module


def _boot(guest: Guest, module: Path | None, name: str, options: argparse.Namespace, folder: Path) -> Path:
    """One run of the guest; its trace."""
    place = folder / name
    place.mkdir()
    initramfs, disk = place / "initramfs", place / "disk"
    init = _INIT.replace("@MODULES@", " ".join(m for m in _MODULES if m in guest.modules))
    init = (
        init.replace("@MUTANT@", MUTANTS[name][0]).replace("@ROUNDS@", "8").replace("@OFFLINES@", str(options.offlines))
    )
    busybox = shutil.which("busybox")
    assert busybox is not None
    files: dict[str, bytes] = {
        "init": init.encode(),
        "record.sh": script().encode(),
        "bin/busybox": Path(busybox).read_bytes(),
    }
    files |= {f"mods/{m}.ko": file.read_bytes() for m, file in guest.modules.items()}
    if module is not None:
        files["mods/lab_mutants.ko"] = module.read_bytes()
    initramfs.write_bytes(b"".join(cpio(files)))
    with disk.open("wb") as file:
        file.truncate(512 << 20)
    append = "console=ttyS0 quiet nokaslr mitigations=off panic=-1 movablecore=512M preempt=full tsc=reliable"
    command = [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-machine", "q35", "-m", "1024", "-smp",
        str(options.cpus), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial",
        f"file:{place / 'console'}", "-kernel", str(guest.image), "-initrd", str(initramfs), "-drive",
        f"file={disk},format=raw,if=virtio,cache=unsafe", "-append", append,
    ]  # fmt: skip
    try:
        subprocess.run(command, timeout=options.timeout, check=False, capture_output=True)
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"{name}: the guest did not end within {options.timeout:.0f} s: give it more with --timeout"
        ) from None
    try:
        with tarfile.open(disk) as tar:
            tar.extractall(place, filter="data")
    except (tarfile.TarError, OSError):
        pass
    trace = place / "out/trace.gz"
    if not trace.is_file():
        for log in (place / "out/log", place / "console"):
            text = log.read_text(errors="replace").strip() if log.is_file() else ""
            if text:
                raise ModelError(f"{name}: the guest brought no trace back; it says: {text.splitlines()[-1]}")
        raise ModelError(f"{name}: the guest brought no trace back, and said nothing")
    return trace


def cpio(files: dict[str, bytes]) -> Iterator[bytes]:
    """An archive in cpio's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst), all files executable."""
    folders = sorted({str(parent) for name in files for parent in Path(name).parents if str(parent) != "."})
    entries: list[tuple[str, int, bytes]] = [(f, stat.S_IFDIR | 0o755, b"") for f in folders]
    entries += [(name, stat.S_IFREG | 0o755, data) for name, data in files.items()]
    entries.append(("TRAILER!!!", 0, b""))
    for number, (name, mode, data) in enumerate(entries, 1):
        path = name.encode() + b"\0"
        numbers = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        head = b"070701" + b"".join(f"{n:08x}".encode() for n in numbers) + path
        yield head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
