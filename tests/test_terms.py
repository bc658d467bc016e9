"""One meaning of terms in every back end: kernelmodel.terms over ints, verify.smt over Z3."""

from __future__ import annotations

import copy
import ctypes
import operator
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmodel import terms
from kernelmodel.graphs.ways import told
from kernelmodel.mmzone import MigrateType
from kernelmodel.terms import Cell, Term, const, evaluate, ite, land, lnot, load, lor, minimum, reg
from verify import smt

NAMES = ("x", "y", "z")
#: how a term is built -> what it means for plain values; the oracle is Python itself
INT_OPS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "min": min}
BOOL_OPS = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Tree:
    """An expression that is not yet a term: it can be built, and it can be computed without terms at all."""

    op: str
    args: tuple[Any, ...]

    def build(self) -> Any:
        """The term (or the plain value, where no atom is left)."""
        op, args = self.op, self.args
        if op == "const":
            return args[0]
        if op in ("cell", "reg", "choice"):
            sort = "int" if args[1] == "int" else "bool"
            if op == "cell":
                return load(Cell(f"{args[0]}.{sort}", (1, 2)), sort)
            return (reg if op == "reg" else terms.choice)(f"{args[0]}.{sort}", sort)
        built = [a.build() for a in args]
        if op == "min":
            return minimum(*built)
        if op in INT_OPS or op in BOOL_OPS:
            return {**INT_OPS, **BOOL_OPS}[op](*built)
        return {"not": lnot, "and": land, "or": lor, "ite": ite}[op](*built)

    def value(self, values: dict[str, int]) -> int:
        """What the expression means."""
        op, args = self.op, self.args
        if op == "const":
            return args[0]  # type: ignore[no-any-return]
        if op in ("cell", "reg", "choice"):
            return values[f"{op}:{args[0]}.{args[1]}"]
        got = [a.value(values) for a in args]
        if op == "ite":
            return got[1] if got[0] else got[2]
        if op == "not":
            return not got[0]
        if op in ("and", "or"):
            return all(got) if op == "and" else any(got)
        return {**INT_OPS, **BOOL_OPS}[op](*got)  # type: ignore[no-any-return]


def atom(sort: str) -> st.SearchStrategy[Tree]:
    constants = st.integers(-4, 4) if sort == "int" else st.booleans()
    return st.one_of(
        st.builds(lambda v: Tree("const", (v,)), constants),
        st.builds(lambda k, n: Tree(k, (n, sort)), st.sampled_from(["cell", "reg", "choice"]), st.sampled_from(NAMES)),
    )


def trees(sort: str, depth: int) -> st.SearchStrategy[Tree]:
    if depth == 0:
        return atom(sort)
    ints, bools = trees("int", depth - 1), trees("bool", depth - 1)
    mine = ints if sort == "int" else bools
    choices = st.builds(lambda c, a, b: Tree("ite", (c, a, b)), bools, mine, mine)
    if sort == "int":
        binary = st.builds(lambda op, a, b: Tree(op, (a, b)), st.sampled_from(sorted(INT_OPS)), ints, ints)
        return st.one_of(atom(sort), binary, choices)
    return st.one_of(
        atom(sort),
        choices,
        st.builds(lambda op, a, b: Tree(op, (a, b)), st.sampled_from(sorted(BOOL_OPS)), ints, ints),
        st.builds(lambda a: Tree("not", (a,)), bools),
        st.builds(lambda op, a: Tree(op, tuple(a)), st.sampled_from(["and", "or"]), st.lists(bools, max_size=3)),
    )


any_tree = st.one_of(trees("int", 4), trees("bool", 4))
every_value = st.fixed_dictionaries(
    {f"{kind}:{n}.int": st.integers(-5, 5) for kind in ("cell", "reg", "choice") for n in NAMES}
    | {f"{kind}:{n}.bool": st.booleans() for kind in ("cell", "reg", "choice") for n in NAMES}
)


def term_of(tree: Tree) -> Term:
    return terms.lift(tree.build())


def by_python(term: Term, values: dict[str, int]) -> int:
    regs = {k[4:]: v for k, v in values.items() if k.startswith("reg:")}
    choices = {k[7:]: v for k, v in values.items() if k.startswith("choice:")}
    return evaluate(term, lambda c: values[f"cell:{c.name}"], regs, choices)


def by_z3(term: Term, values: dict[str, int]) -> int:
    """Translated over free variables first, the values put in afterwards."""
    variables: dict[str, Any] = {}

    def variable(key: str) -> Any:
        return variables.setdefault(key, smt.variable(key, key.rpartition(".")[2]))

    expression = smt.translate(
        term,
        lambda c: variable(f"cell:{c.name}"),
        lambda r: variable(f"reg:{r}"),
        lambda c: variable(f"choice:{c.args[0]}"),
    )
    plain = z3.simplify(z3.substitute(expression, [(v, smt.literal(values[k])) for k, v in variables.items()]))
    return plain.as_long() if term.sort == "int" else z3.is_true(plain)


@settings(max_examples=400, deadline=None)
@given(any_tree, every_value)
def test_python_and_z3_give_what_the_expression_means(tree: Tree, values: dict[str, int]) -> None:
    term = term_of(tree)
    meant = tree.value(values)
    assert by_python(term, values) == meant
    assert by_z3(term, values) == meant


@settings(deadline=None)
@given(any_tree, every_value, st.sets(st.sampled_from(NAMES)))
def test_substituting_registers_and_cells_keeps_the_value(tree: Tree, values: dict[str, int], some: set[str]) -> None:
    term = term_of(tree)
    regs = {f"{n}.{s}": const(values[f"reg:{n}.{s}"]) for n in some for s in ("int", "bool")}
    cells = {Cell(f"{n}.{s}", (1, 2)): const(values[f"cell:{n}.{s}"]) for n in some for s in ("int", "bool")}
    meant = tree.value(values)
    assert by_python(terms.substitute(term, regs), values) == meant
    assert by_python(terms.substitute_cells(term, cells), values) == meant
    gone = {a.args[0] for a in terms.atoms(terms.substitute(term, regs), "reg")}
    assert not gone & set(regs)


@settings(deadline=None)
@given(any_tree, every_value)
def test_a_term_without_open_atoms_folds_to_a_constant_of_its_sort(tree: Tree, values: dict[str, int]) -> None:
    term = term_of(tree)
    regs = {a.args[0]: const(values[f"reg:{a.args[0]}"]) for a in terms.atoms(term, "reg")}
    cells = {a.args[0]: const(values[f"cell:{a.args[0].name}"]) for a in terms.atoms(term, "cell")}
    folded = terms.substitute_cells(terms.substitute(term, regs), cells)
    if not list(terms.atoms(term, "choice")):
        assert folded.op == "const"
        assert type(folded.args[0]) is (bool if term.sort == "bool" else int)
        assert folded.args[0] == tree.value(values)


@settings(deadline=None)
@given(any_tree)
def test_rebuilding_a_term_from_its_own_parts_gives_the_same_term(tree: Tree) -> None:
    term = term_of(tree)
    assert terms.substitute(term, {}).key == term.key
    if term.op not in ("const", "cell", "reg", "choice"):
        assert terms.rebuild(term, list(term.args)).key == term.key


@settings(deadline=None)
@given(any_tree, every_value)
def test_a_visitor_sees_each_leaf_and_each_sub_term_once(tree: Tree, values: dict[str, int]) -> None:
    term = term_of(tree)
    inner: list[int] = []

    def leaf(t: Term) -> int:
        return by_python(t, values)

    def computed(t: Term, parts: list[int]) -> int:
        inner.append(t.number)
        if t.op in ("and", "or"):
            return (all if t.op == "and" else any)(parts)
        if t.op == "ite":
            return parts[1] if parts[0] else parts[2]
        return not parts[0] if t.op == "not" else terms.FOLD[t.op](*parts)

    # shared with itself, as what an engine puts together is
    twice = land(lor(term == 0, term == term), lnot(term == 0))
    assert terms.visit(twice, leaf, computed) == by_python(twice, values)
    assert len(inner) == len(set(inner))
    assert terms.replaced(twice, lambda t: t) is twice


@settings(deadline=None)
@given(any_tree, every_value)
def test_negation_turns_the_value_and_twice_is_the_term_itself(tree: Tree, values: dict[str, int]) -> None:
    term = term_of(tree)
    if term.sort == "bool":
        assert by_python(lnot(term), values) is (not by_python(term, values))
        assert lnot(lnot(term)).key == term.key


# --- corners ---

X, P = reg("x"), reg("p", "bool")


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (X + 0, "x"), (0 + X, "x"), (X - 0, "x"), (0 - X, "(0 - x)"), (2 * X, "(2 * x)"), (X > 1, "(1 < x)"),
        (X != 1, "!((x == 1))"), (land(), "True"), (lor(), "False"), (land(P, True), "p"), (land(P, False), "False"),
        (lor(P, True), "True"), (terms.implies(P, False), "!(p)"), (ite(P, X, X), "x"), (ite(True, X, 3), "x"),
        (ite(False, X, 3), "3"), (terms.total([]), "0"), (terms.total([X, 0, X]), "(x + x)"),
        (load(Cell("pcp.high", (0, 1))), "pcp.high[0,1]"), (minimum(X, 4), "min(x, 4)"),
    ],
)  # fmt: skip
def test_folding_and_printing(term: Term, text: str) -> None:
    assert str(term) == text


def test_the_minimum_of_two_ints_is_an_int() -> None:
    assert minimum(3, 2) == 2
    assert not isinstance(minimum(3, 2), Term)


def test_a_constant_one_and_a_constant_true_are_different_terms() -> None:
    assert const(1).key != const(True).key


def test_a_migratetype_is_the_same_number_in_both_back_ends() -> None:
    term = ite(P, MigrateType.ISOLATE, X)
    values = {"reg:x": 1, "reg:p": True}
    assert by_python(term, values) == 4
    expression = smt.translate(term, lambda _: None, {"p": z3.BoolVal(True), "x": z3.IntVal(1)}.get, lambda _: None)
    assert z3.simplify(expression).as_long() == 4


def test_the_truth_of_an_open_term_is_refused_outside_an_engine() -> None:
    with pytest.raises(TypeError, match=r"the truth of \(x < 1\) is open here: only an engine that follows"):
        bool(X < 1)
    with pytest.raises(TypeError):
        _ = 1 if P else 0
    assert bool(const(2) < 3) is True


def test_a_decider_answers_inside_its_block_only_and_nests() -> None:
    with terms.deciding(lambda _: True):
        assert bool(X < 1)
        with terms.deciding(lambda _: False):
            assert not bool(X < 1)
        assert bool(X < 1)
    with pytest.raises(TypeError):
        bool(X < 1)


def test_a_decider_is_taken_away_also_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), terms.deciding(lambda _: bool(1 // 0)):
        bool(X < 1)
    with pytest.raises(TypeError):
        bool(X < 1)


def test_what_a_way_tells_of_a_returned_value() -> None:
    first, second = reg("3.0", "bool"), reg("3.1", "bool")
    assert (told("3.0", [first]), told("3.0", [lnot(first)])) == (True, False)
    assert (told("3.0", []), told("3.0", [second]), told("4.0", [first]), told("3.0", [lnot(lnot(first))])) == (
        None,
        None,
        None,
        True,
    )
    assert told("3.1", [second]) is True


@given(any_tree)
def test_of_equal_terms_there_is_one(tree: Tree) -> None:
    term = term_of(tree)
    assert term_of(tree) is term
    assert pickle.loads(pickle.dumps(term)) is term and copy.deepcopy(term) is term
    assert lnot(term) is lnot(term) and lnot(term) is not term


def test_numbers_and_truth_values_are_not_one_term() -> None:
    assert const(77) is const(77) and const(1) is not const(True) and const(0) is not const(False)
    assert load(Cell("x", (1,))) is not load(Cell("x", (2,))) and reg("a") is not reg("a", "bool")


@pytest.mark.parametrize("within", [smt.interruptible, smt.apart])
def test_an_interrupt_in_the_middle_of_a_call_of_z3_is_an_interrupt(within: Any) -> None:
    with pytest.raises(KeyboardInterrupt), within():
        # as ctypes says it where Ctrl-C comes while it converts an argument
        raise ctypes.ArgumentError("argument 3: KeyboardInterrupt: ")
    with pytest.raises(ctypes.ArgumentError, match="TypeError"), within():
        raise ctypes.ArgumentError("argument 3: TypeError: wrong type")
