"""The verdicts on a kernel's properties from one proof: proved, proved without the lemmas that fail, or a search for a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernelmodel.memory_model import MODELS, Memory
from kernelmodel.text import KernelText
from properties.catalogue import find
from properties.property import Property
from verify.prove.engine import PROVABLE, Elsewhere, inapplicable, prove, searched, settled, weakened
from verify.prove.obligations import EACH, TOGETHER, Proof, Prover
from verify.prove.roles import ProjectionError
from verify.runs import Net, Values
from verify.scenario import Scenario, usual
from verify.verdict import Result, Verdict


class Listener:
    """Is told what becomes of a proof; this one keeps it to itself."""

    def proved(self, proof: Proof) -> None:
        """All obligations were checked."""

    def dropped(self, lemmas: Sequence[str]) -> None:
        """These lemmas are not inductive, and what follows is proved without."""

    def failed(self, prop: Property, prover: Prover, proof: Proof) -> None:
        """A property's proof fails."""


class Deciding:
    """One kernel's proof, made when the first property needs it."""

    def __init__(
        self, kernel: type[KernelText], deadline: float | None = None, memory: Memory = "sc", depth: int = TOGETHER,
        listener: Listener | None = None, elsewhere: Elsewhere | None = None,
    ) -> None:  # fmt: skip
        """``depth`` is how much is asked of each obligation (see :mod:`verify.prove.obligations`).

        ``elsewhere``: who works out the obligations, if not this machine.
        """
        self.elsewhere = elsewhere
        self.kernel, self.deadline, self.memory, self.depth = kernel, deadline, memory, depth
        self.listener = listener or Listener()
        self.prover: Prover | None = None
        self.proof: Proof | None = None
        self._left: Proof | None = None

    def proved(self) -> tuple[Prover, Proof]:
        """All obligations, checked once; one by one where some fail, to tell which property rests on what."""
        if self.prover is None or self.proof is None:
            self.prover = Prover(self.kernel, [find(name) for name in PROVABLE], self.deadline, self.memory)
            self.proof = prove(self.prover, self.depth, elsewhere=self.elsewhere)
            if self.depth == TOGETHER and self.proof.all_failed and not self.prover.late:
                self.proof = prove(self.prover, EACH, elsewhere=self.elsewhere)
            self.listener.proved(self.proof)
        return self.prover, self.proof

    def without_what_fails(self) -> Proof:
        """What is left of the proof without the lemmas that fail; worked out once."""
        prover, proof = self.proved()
        if self._left is None:
            self._left = proof if proof.differs or prover.late else weakened(prover, proof)
            if self._left.dropped:
                self.listener.dropped(self._left.dropped)
        return self._left

    def verdict(self, prop: Property, expected: Result | None = None) -> Verdict:
        """The verdict on a property; with a real trace where it is violated."""
        verdict, why = inapplicable(self.kernel, prop), ""
        if verdict is None and prop.name in PROVABLE:
            try:
                prover, proof = self.proved()
                verdict = settled(self.kernel, prop, proof)
                if verdict is None and expected is not Result.VIOLATED:
                    verdict = settled(self.kernel, prop, self.without_what_fails())
                if verdict is None:
                    self.listener.failed(prop, prover, proof)
            except ProjectionError as error:
                why = str(error)
        if verdict is None:
            verdict = searched(self.kernel, prop, self.proof, self.deadline, why, self.memory)
        return replace(verdict, expected=expected, memory_model=MODELS[self.memory])

    def net(self, properties: Sequence[Property]) -> Net:
        """The random runs against which the verdicts are held."""
        return Net(
            self.kernel, Scenario().having(**usual(self.kernel)), properties, Values(any_size=True, memory=self.memory)
        )
