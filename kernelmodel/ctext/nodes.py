"""Questions to syntax trees of C."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def walk(node: Any) -> Iterator[Any]:
    """A node and all that is below it."""
    yield node
    for child in node.named_children:
        yield from walk(child)


def identifiers(node: Any) -> list[Any]:
    """The identifiers in a node."""
    return [n for n in walk(node) if n.type == "identifier"]


def inside(node: Any) -> list[Any]:
    """The statements of a block, or the one that stands for it."""
    return list(node.named_children) if node.type == "compound_statement" else [node]


def conjuncts(node: Any) -> list[Any]:
    """The parts of a condition that all hold where it holds."""
    while node.type == "parenthesized_expression":
        node = node.named_children[0]
    if node.type == "binary_expression" and node.child_by_field_name("operator").text == b"&&":
        return [*conjuncts(node.child_by_field_name("left")), *conjuncts(node.child_by_field_name("right"))]
    return [node]
