"""The shell script that records: tracefs and nothing else, and the machine is afterwards as it was."""

from __future__ import annotations

from verify.observe.probes import GROUP, KNOWN, LAYOUTS, PROBES, TRACEPOINTS

_HEAD = r"""#!/bin/sh
# Records what a memory offlining does with the pcplists: sh record.sh OUT[.gz|.dat] COMMAND...
#   sh record.sh trace.txt sh -c 'echo offline > /sys/devices/system/memory/memory40/state'
#   python -m verify.observe check trace.txt
# Written by `python -m verify.observe script`.  It needs root and tracefs, has a trace buffer of its own (KB=32768 for each
# CPU), and takes away what it has set up, also on Ctrl-C.
fail() { echo "$0: $*" >&2; exit 2; }
[ $# -ge 2 ] || fail "give a file for the trace, and the command that offlines: sh $0 OUT COMMAND..."
OUT=$1; shift
case $OUT in
  *.dat) command -v trace-cmd > /dev/null || fail "$OUT is written by trace-cmd, which is not there: name it .txt or .gz";;
esac
[ "$(uname -m)" = x86_64 ] || fail "knows the registers of x86-64 only, and this is $(uname -m)"
[ "$(id -u)" = 0 ] || fail "needs root: run it with sudo"
T=/sys/kernel/tracing
[ -e $T/kprobe_events ] || T=/sys/kernel/debug/tracing
[ -e $T/kprobe_events ] || fail "no kprobe_events: mount -t tracefs tracefs /sys/kernel/tracing (or CONFIG_KPROBE_EVENTS is off)"
REL=$(uname -r)
M=/sys/devices/system/memory
[ -r $M/block_size_bytes ] || fail "$M is not there: this kernel takes no memory offline (CONFIG_MEMORY_HOTPLUG)"
# where fields of struct per_cpu_pages are, from the type information that the kernel has of itself
btf() {
  command -v bpftool > /dev/null && [ -r "$BTF" ] || return 0
  bpftool btf dump file "$BTF" format raw 2> /dev/null | awk '
    /^\[/ { inside = /STRUCT \047per_cpu_pages\047/ }
    inside && match($0, /bits_offset=[0-9]+/) {
      bits = substr($0, RSTART + 12, RLENGTH - 12); gsub(/\047/, "", $1); at[$1] = bits / 8
    }
    END {
      high = ("high_min" in at) ? "high_min" : "high"
      if (("count" in at) && (high in at) && ("batch" in at))
        printf "count=+%d($P):s32 high=+%d($P):s32 batch=+%d($P):s32", at["count"], at[high], at["batch"]
    }'
}
BTF=${BTF:-/sys/kernel/btf/vmlinux}
FIELDS= OWN=$(btf)
"""

_BODY = r"""
I=$T/instances/@GROUP@
mkdir $I 2>/dev/null || fail "$I is there, so another recording runs; if none does: rmdir $I"
cleanup() {
  trap - EXIT
  echo 0 > $I/tracing_on; echo 0 > $I/events/enable
  for p in $MADE; do echo "-:@GROUP@/$p" >> $T/kprobe_events; done
  rmdir $I
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
MADE= MISSING=
# a function that the compiler has inlined is not there, one that it has cloned has a suffix
symbol() { awk -v n="$1" '$3 == n || index($3, n ".") == 1 { print $3; exit }' /proc/kallsyms; }
probe() { # NAME FUNCTION[,ITS-LATER-NAME] RETURN-TOO VALUE FETCH...
  n=$1 f=$2 r=$3 v=$4; shift 4
  s=$(symbol ${f%,*}); [ -n "$s" ] || s=$(symbol ${f#*,})
  if [ -z "$s" ] || ! echo "p:@GROUP@/$n $s $*" >> $T/kprobe_events; then MISSING="$MISSING $n"; return; fi
  MADE="$MADE $n"
  [ $r = 0 ] && return
  if echo "r:@GROUP@/${n}_r $s $v" >> $T/kprobe_events; then MADE="$MADE ${n}_r"; else MISSING="$MISSING ${n}_r"; fi
}
"""

_TAIL = r"""
echo ${KB:-32768} > $I/buffer_size_kb
echo counter > $I/trace_clock
echo 0 > $I/options/overwrite 2>/dev/null
for p in $MADE; do echo 1 2>/dev/null > $I/events/@GROUP@/$p/enable || MISSING="$MISSING $p"; done
for e in @TRACEPOINTS@; do echo 1 > $I/events/kmem/$e/enable || MISSING="$MISSING $e"; done
[ -n "$MISSING" ] && echo "$0: cannot be seen here:$MISSING" >&2
echo 1 > $I/tracing_on
"$@"
RC=$?
echo 0 > $I/tracing_on
# the number of MIGRATE_ISOLATE depends on the configuration
ISOLATE=$(awk '/, type / { if (seen[$6]++) exit; if ($6 == "Isolate") { print n; exit } n++ }' n=0 /proc/pagetypeinfo)
LOST=$(cat $I/per_cpu/cpu*/stats | awk '/overrun|dropped/ { n += $NF } END { print n + 0 }')
MISSED=$(awk '$1 ~ /^(@NAMES@)$/ && $3 { n += $3; of = of " " $1 "=" $3 } END { print n + 0 of }' $T/kprobe_profile)
n() { cat $M/memory[0-9]*/$1 2>/dev/null | grep -c "$2"; }
BLOCKS="$(n state .) of 0x$(cat $M/block_size_bytes) bytes, $(n state ^online) online, $(n removable 1) removable"
notes() {
  echo "# straypage: kernel $REL"
  echo "# straypage: isolate ${ISOLATE:-4}"
  echo "# straypage: lost $LOST"
  echo "# straypage: missed $MISSED"
  echo "# straypage: not-there$MISSING"
  echo "# straypage: page-size $(getconf PAGE_SIZE 2>/dev/null || echo 4096)"
  echo "# straypage: blocks $BLOCKS"
  echo "# straypage: command ended with $RC"
}
write() { notes; cat $I/trace; }
case $OUT in
  *.dat) notes > "$OUT.notes"; trace-cmd extract -B @GROUP@ -o "$OUT" > /dev/null || fail "trace-cmd cannot write $OUT";;
  *.gz) write | gzip > "$OUT";;
  *) write > "$OUT";;
esac
echo "$0: $OUT: $(grep -c . "$OUT" 2>/dev/null) lines; the command ended with $RC; lost $LOST events, missed $MISSED" >&2
exit $RC
"""


def script() -> str:
    """The text of the script."""
    lines = ["case $REL in"]
    for layout in LAYOUTS:
        minors = range(layout.first[1], layout.last[1] + 1)
        patterns = "|".join(f"6.{m}.*|6.{m}-*|6.{m}" for m in minors)
        fields = " ".join(f"{name}=+{offset}($P):s32" for name, offset in layout.fetch.items())
        lines.append(f"  {patterns}) FIELDS='{fields}';;")
    lines.append('  [1-5].*) fail "knows kernels from v6.0 on, and this is $REL";;')
    lines.append("esac")
    # backports may move fields, and later kernels do
    lines.append('[ -n "$OWN" ] && FIELDS=$OWN')
    lines.append(
        f'[ -n "$FIELDS" ] || fail "knows struct per_cpu_pages of {KNOWN} by itself, and this is $REL: install bpftool, which '
        'reads it from $BTF"'
    )
    probes = []
    for p in PROBES:
        fields = f' $(echo "$FIELDS" | sed "s/[$]P/{p.pcp}/g")' if p.pcp else ""
        fetch = f"'{p.fetch}'{fields}"
        function = f"{p.function},{p.renamed}" if p.renamed else p.function
        probes.append(f"probe {p.name} {function} {int(p.returns)} '{p.value}' {fetch}")
    names = "|".join(f"{p.name}|{p.name}_r" if p.returns else p.name for p in PROBES)
    body = (_BODY + "\n".join(probes) + _TAIL).replace("@GROUP@", GROUP)
    body = body.replace("@TRACEPOINTS@", " ".join(TRACEPOINTS)).replace("@NAMES@", names)
    return _HEAD + "\n".join(lines) + body
