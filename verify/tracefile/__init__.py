"""The trace file: one JSON document for the counterexamples of every engine, and what can be made of it.

``TraceFile`` is the document, ``load`` and ``save`` read and write it, ``play`` runs it on the concrete machine and keeps
every state on the way, ``record`` makes a document from a run, ``itf`` and ``format_schedule`` are other forms of it.
docs/trace-format.md describes the format.
"""

from verify.tracefile.film import Film, Frame, play, record
from verify.tracefile.itf import itf
from verify.tracefile.load import from_verdicts, load, of_verdict, parse, save
from verify.tracefile.record import SCHEMA, KernelSpec, RecordedStep, TraceFile, TraceViolation
from verify.tracefile.schedule import Schedule, format_schedule, parse_schedule, perform

__all__ = [
    "SCHEMA", "Film", "Frame", "KernelSpec", "RecordedStep", "Schedule", "TraceFile", "TraceViolation", "format_schedule",
    "from_verdicts", "itf", "load", "of_verdict", "parse", "parse_schedule", "perform", "play", "record", "save",
]  # fmt: skip
