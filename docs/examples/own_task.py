"""A caller that v5.11 has not: somebody who pauses the pcplists of a zone for a moment, as page isolation for CMA might."""

from kernelmodel import V5_11
from kernelmodel.tasks import TaskKind


class Pauses(V5_11):
    """One kind of task more: `--tasks pause=1` has one of them."""

    tasks = (
        TaskKind(
            name="pause", make=lambda kernel, given: kernel.pause_pcplists(given.zone), option="pauses",
            words="pause_pcplists()", help="callers of pause_pcplists()", zones=True,
        ),
    )  # fmt: skip

    def pause_pcplists(self, zone):
        """mm/page_alloc.c: pause_pcplists()."""
        yield from self.zone_pcp_disable(zone)
        yield from self.zone_pcp_enable(zone)


class ForgetsToEnable(Pauses):
    """The same without the enable: whoever disables next waits for ever."""

    def pause_pcplists(self, zone):
        """mm/page_alloc.c: pause_pcplists()."""
        yield from self.zone_pcp_disable(zone)
