"""`switch` made readable in place: as a chain of `if` and `else`, on the lines where it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kernelmodel.ctext.nodes import identifiers, inside, walk

_LOOPS = ("for_statement", "while_statement", "do_statement")
#: the marks of a switch that falls through; they do nothing
_FALLTHROUGH = ("fallthrough;", "__attribute__((__fallthrough__));")


@dataclass
class _Group:
    """The statements after some labels, up to the next ones."""

    values: list[str] = field(default_factory=list)
    default: bool = False
    statements: list[Any] = field(default_factory=list)


def without_switches(text: str, root: Any, parse: Callable[[str], Any]) -> Any:
    """The tree of a function's text with every switch of which :func:`why_not` says nothing as a chain of ifs."""
    number = 0
    while True:
        found = [n for n in walk(root) if n.type == "switch_statement" and not why_not(n)]
        if not found:
            return root
        number += 1
        # the innermost first: what it becomes is part of the one around it
        text = _chain(text.encode(), min(found, key=lambda n: n.end_byte - n.start_byte), number).decode()
        root = parse(text)


def why_not(switch: Any) -> str:
    """Why a switch cannot be read, or nothing."""
    for child in switch.child_by_field_name("body").named_children:
        if child.type not in ("case_statement", "comment"):
            return "has a statement before its first case"
    groups = _groups(switch)
    if sum(g.default for g in groups) > 1:
        return "has two defaults"
    body = switch.child_by_field_name("body")
    if any(n.type == "case_statement" and n.parent.id != body.id for n in _of_its_own(switch)):
        return "has a case within a block of another"
    if _breaks(switch, groups) and any(n.type == "continue_statement" for n in _of_its_own(switch)):
        return "has both a break in the middle of a case and a continue"
    return ""


def _groups(switch: Any) -> list[_Group]:
    groups = [_Group()]
    for case in switch.child_by_field_name("body").named_children:
        if case.type != "case_statement":
            continue
        if groups[-1].statements:
            groups.append(_Group())
        value = case.child_by_field_name("value")
        if value is None:
            groups[-1].default = True
        else:
            # (A) && x would be a cast
            plain = value.type in ("identifier", "number_literal")
            groups[-1].values.append(value.text.decode() if plain else f"({value.text.decode()})")
        groups[-1].statements += [c for c in _said(case) if value is None or c.id != value.id]
    return groups


def _said(node: Any) -> list[Any]:
    """What is in a node, but for comments and empty statements."""
    return [c for c in node.named_children if c.type != "comment" and (c.named_children or c.text != b";")]


def _last(group: _Group) -> Any:
    """The last statement of a group, within the blocks that end it; None of an empty one."""
    last = group.statements[-1] if group.statements else None
    while last is not None and last.type == "compound_statement":
        within = _said(last)
        last = within[-1] if within else None
    return last


def _ends(group: _Group) -> bool:
    """Whether nothing falls from a group into the next."""
    last = _last(group)
    return last is not None and last.type in (
        "break_statement",
        "return_statement",
        "goto_statement",
        "continue_statement",
    )


def _of_its_own(switch: Any) -> list[Any]:
    """The nodes in a switch, without those of loops and switches in it."""
    found, todo = [], list(switch.child_by_field_name("body").named_children)
    while todo:
        node = todo.pop()
        found.append(node)
        if node.type not in (*_LOOPS, "switch_statement"):
            todo += node.named_children
    return found


def _breaks(switch: Any, groups: list[_Group]) -> bool:
    """Whether a switch is left from the middle of a group."""
    ends = {last.id for g in groups if (last := _last(g)) is not None}
    return any(n.type == "break_statement" and n.id not in ends for n in _of_its_own(switch))


def _subject(switch: Any, number: int) -> tuple[str, str]:
    """What the cases are compared with, and the declaration that it needs: a variable, or what the value is kept in."""
    expression = inside(switch.child_by_field_name("condition"))[0]
    while expression.type == "parenthesized_expression":
        expression = expression.named_children[0]
    text = " ".join(expression.text.decode().split())
    body = switch.child_by_field_name("body")
    if expression.type == "identifier" and not any(n.text.decode() == text for n in identifiers(body)):
        return text, ""
    return f"_switch{number}", f"long _switch{number} = {text};"


def _chain(text: bytes, switch: Any, number: int) -> bytes:
    groups = _groups(switch)
    subject, declared = _subject(switch, number)
    left = _breaks(switch, groups)
    every = [v for g in groups for v in g.values]
    cuts: list[tuple[int, int, str]] = []

    def test(some: list[_Group]) -> str:
        if any(g.default for g in some):
            others = [v for v in every if not any(v in g.values for g in some)]
            return " && ".join(f"{subject} != {v}" for v in others) or "1"
        return " || ".join(f"{subject} == {v}" for g in some for v in g.values)

    # runs: groups that fall from one into the next
    runs: list[list[_Group]] = [[]]
    for group in groups:
        runs[-1].append(group)
        if _ends(group):
            runs.append([])
    runs = [run for run in runs if any(g.statements for g in run)]
    opened: dict[int, str] = {}
    closed: dict[int, str] = {}
    for i, run in enumerate(runs):
        for j, group in enumerate(run):
            if not group.statements:
                continue
            before = f"{'else ' if i else ''}if ({test(run)}) {{ " if j == 0 else ""
            before += f"if ({test(run[: j + 1])}) {{ " if j < len(run) - 1 else "{ "
            opened[group.statements[0].start_byte] = before
            end = group.statements[-1].end_byte
            closed[end] = "} " + ("}" if group is run[-1] or not any(g.statements for g in run[j + 1 :]) else "")
            last = _last(group)
            if last is not None and last.type == "break_statement":
                cuts.append((last.start_byte, last.end_byte, ";"))
    body = switch.child_by_field_name("body")
    # a break in the middle leaves a loop of one round
    cuts.append((switch.start_byte, body.start_byte + 1, f"{'{ do { ' if left else '{ '}{declared}"))
    cuts.append((body.end_byte - 1, body.end_byte, "} while (0); }" if left else "}"))
    for case in body.named_children:
        if case.type != "case_statement":
            continue
        value = case.child_by_field_name("value")
        colon = text.index(b":", case.start_byte if value is None else value.end_byte)
        cuts.append((case.start_byte, colon + 1, ""))
        # an else may follow
        cuts += [(c.start_byte, c.end_byte, "") for c in case.named_children if c.text == b";"]
    for node in _of_its_own(switch):
        if node.type == "expression_statement" and "".join(node.text.decode().split()) in _FALLTHROUGH:
            cuts.append((node.start_byte, node.end_byte, ";"))
    changes = [(place, 0, place, new) for place, new in closed.items()]
    changes += [(place, 1, place, new) for place, new in opened.items()]
    changes += [(start, 2, end, new) for start, end, new in cuts]
    out, at = [], switch.start_byte
    for start, _, end, new in sorted(changes):
        out += [text[at:start], new.encode(), b"\n" * text[start:end].count(b"\n")]
        at = end
    return text[: switch.start_byte] + b"".join([*out, text[at : switch.end_byte]]) + text[switch.end_byte :]
