"""Which vocabulary the C of which kernel is read with."""

from __future__ import annotations

from kernelmodel.text import KernelText
from kernelmodel.versions.v5_10 import V5_10
from kernelmodel.versions.v5_11 import V5_11
from kernelmodel.versions.v5_14 import V5_14
from kernelmodel.versions.v6_1 import V6_1
from kernelmodel.versions.v6_8 import V6_8
from kernelmodel.versions.v6_11 import V6_11
from kernelmodel.vocabulary.before_lock import V5_10_WORDS, V5_11_WORDS, V5_14_WORDS
from kernelmodel.vocabulary.since_lock import V6_0_WORDS, V6_8_WORDS, V6_10_WORDS, V7_3_WORDS
from kernelmodel.vocabulary.words import Vocabulary

#: the vocabulary of each kernel whose C can be read, newest first
ERAS: tuple[tuple[type[KernelText], Vocabulary], ...] = (
    (V6_11, V7_3_WORDS), (V6_11, V6_10_WORDS), (V6_8, V6_8_WORDS), (V6_1, V6_0_WORDS),
    (V5_14, V5_14_WORDS), (V5_11, V5_11_WORDS), (V5_10, V5_10_WORDS),
)  # fmt: skip
