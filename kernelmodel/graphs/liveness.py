"""Which local variables of a code object may still be read after an instruction: found from the bytecode.

An instruction that is not understood counts as a read: more live variables only mean more nodes of a graph.
"""

from __future__ import annotations

import dis
import functools
from types import CodeType


@functools.cache
def live_locals(code: CodeType, lasti: int) -> frozenset[str]:
    """Local variables of ``code`` that may still be read after the instruction at ``lasti``; variables of closures too."""
    position, live = _live_after(code)
    return live[position.get(lasti, -1)]


@functools.cache
def _live_after(code: CodeType) -> tuple[dict[int, int], list[frozenset[str]]]:
    """The place of each instruction's offset; for each place, and last for the beginning, what is live after it."""
    instructions = list(dis.get_instructions(code))
    position = {ins.offset: i for i, ins in enumerate(instructions)}
    if any(ins.opname == "PUSH_EXC_INFO" for ins in instructions):
        # a handler may be entered from anywhere in its block, and may read anything
        anything = frozenset((*code.co_varnames, *code.co_cellvars, *code.co_freevars))
        return position, [anything] * (len(instructions) + 1)
    kept = frozenset((*code.co_cellvars, *code.co_freevars))
    follows = [_successors(instructions, i, position) for i in range(len(instructions))]
    accesses = [_reads_writes(ins) for ins in instructions]
    before: list[frozenset[str]] = [frozenset()] * (len(instructions) + 1)
    changed = True
    while changed:
        changed = False
        for i in range(len(instructions) - 1, -1, -1):
            reads, writes = accesses[i]
            new = (frozenset().union(*(before[s] for s in follows[i])) - writes) | reads
            if new != before[i]:
                before[i], changed = new, True
    after = [frozenset().union(*(before[s] for s in found)) | kept for found in (*follows, [0])]
    return position, after


def _successors(instructions: list[dis.Instruction], i: int, position: dict[int, int]) -> list[int]:
    ins = instructions[i]
    found = []
    if ins.opcode in dis.hasjrel or ins.opcode in dis.hasjabs:
        found.append(position[ins.argval])
    ends = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")
    unconditional = ins.opname.startswith(("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_ABSOLUTE"))
    if ins.opname not in ends and not unconditional:
        found.append(i + 1)
    return found


def _names(ins: dis.Instruction) -> set[str]:
    return set(ins.argval) if isinstance(ins.argval, tuple) else {str(ins.argval)}


def _reads_writes(ins: dis.Instruction) -> tuple[set[str], set[str]]:
    if "FAST" not in ins.opname:
        return set(), set()
    if ins.opname in ("STORE_FAST", "DELETE_FAST", "STORE_FAST_STORE_FAST", "STORE_FAST_MAYBE_NULL"):
        return set(), _names(ins)
    if ins.opname == "STORE_FAST_LOAD_FAST" and isinstance(ins.argval, tuple):
        return {ins.argval[1]} - {ins.argval[0]}, {ins.argval[0]}
    return _names(ins), set()
