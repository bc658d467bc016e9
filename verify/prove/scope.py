"""What the proof does not show: properties that the lemmas do not decide, with the reason, and what is assumed.

Each assumption names what backs it: tests, by their ids, which `tests/test_prove.py` looks up, or an obligation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: property -> why the lemmas do not decide it; verify.bmc and verify.explore do, within their bounds
NOT_PROVED: Mapping[str, str] = {
    "isolated_page_not_allocated": "needs isolated_page_on_isolate_list, and which block was isolated when an allocation began",
    "isolated_page_on_isolate_list": "not inductive for one pageblock: whether a free reads the type again depends on"
    " zone->nr_isolate_pageblock, a sum over all pageblocks, which others that are isolated or given up change",
    "guarded_writes": "the proof follows one CPU's lists and the lock of the limits, not what the other locks guard",
    "bulk_free_terminates": "a step that hangs is none of the transitions; pages_conserved asks of each section on the"
    " followed lists that it ends, but lists of other zones, which the same work item drains, are not followed",
    **dict.fromkeys(
        ("exits_give_back", "isolation_undone", "pages_accounted"),
        "judged where every task has returned, and the proof follows what goes on, not how it ends",
    ),
    "dead_cpu_drained": "CPUs do not come or go in the proof",
    "cpus_stay": "counts the readers of cpu_hotplug_lock, which the lemmas do not follow",
    "lock_order": "speaks of the locks that tasks have ever nested, which no state of the proof keeps",
}


@dataclass(frozen=True, slots=True)
class Assumption:
    """What is taken for granted, what backs it, and the tests that would fail if it were wrong."""

    what: str
    backed: str
    tests: tuple[str, ...] = ()
    #: only of kernels whose pcplists hold pages of orders above 0
    larger: bool = False


_MACHINE = "tests/test_machine.py::test_"
_CPUS = "tests/test_machine_cpus.py::test_"

ASSUMPTIONS = (
    Assumption(
        "mutex_lock() waits until the mutex is free, mutex_trylock() takes it if it is, and both in one step",
        "the operations' guards and updates; that then at most one task holds a mutex is proved (mutexes_exclude,"
        " locks_kept), and the concrete machine refuses to unlock what a task does not hold",
        (
            _MACHINE + "enabling_without_disabling_is_refused_at_the_unlock",
            _MACHINE + "enabling_what_another_task_has_disabled_is_refused",
            _MACHINE + "a_step_of_a_task_that_waits_is_refused",
        ),
    ),
    Assumption(
        "with interrupts off on a CPU nothing else runs there: neither a task nor the drain worker",
        "the guard of local_irq_save(); interrupts_off_exclude is proved from it, and the concrete machine runs nothing else"
        " there",
        (
            _CPUS + "nobody_else_runs_on_a_cpu_with_interrupts_off_while_other_cpus_go_on",
            _CPUS + "drain_work_waits_until_its_cpu_has_interrupts_on_and_then_takes_the_page",
        ),
    ),
    Assumption(
        "a page is freed by one task, and a page on a list is on one list",
        "the concrete model refuses a double free, and each of its steps is compared with the operation's abstract half",
        (
            _MACHINE + "a_double_free_is_refused",
            _MACHINE + "freeing_a_page_that_is_being_freed_is_refused",
            _MACHINE + "a_step_whose_concrete_half_does_less_than_it_says_is_caught",
            "tests/test_stateful.py::test_the_patch_survives_random_histories_which_reach_every_property",
        ),
    ),
    Assumption(
        "the buddy allocator is a set of pages: a refill gets any number up to batch, of any pageblock",
        "the buddy's contracts (make contracts), and the same comparison at each step",
        (
            "tests/test_buddy.py::test_any_sequence_conserves_pages_merges_what_may_and_never_mixes_isolated_blocks",
            "tests/test_buddy.py::test_pages_of_isolate_lists_are_never_handed_out",
            _MACHINE + "a_step_whose_choices_break_its_own_constraint_is_caught",
        ),
    ),
    Assumption(
        "pages of order 1 stand for all above order 0 that the pcplists hold: they have lists of their own, and count for two",
        "in random histories they are of orders 1 and 2, on every kernel that has them; routines shift by an order above 0, and"
        " ask of it only whether pcplists hold it",
        ("tests/test_orders.py::test_histories_with_such_pages_keep_what_the_kernel_keeps",),
        larger=True,
    ),
    Assumption(
        "sequential consistency: every operation takes effect at once, in one order for all CPUs",
        "--memory tso, which asks without it: x86's store buffers (docs/memory-models.md); nothing for weaker models",
    ),
    Assumption(
        "one CPU and one zone, both arbitrary, stand for all: a task that is not followed may take any of its steps at any"
        " time, with any values in its registers",
        "allows more runs, never fewer; that loops over CPUs do the same for the tracked CPU however many others there are is"
        " computed on this kernel's text with {sizes}; and every state that small machines reach satisfies the lemmas",
        (
            "tests/test_prove.py::test_the_text_does_the_same_for_the_tracked_cpu_whatever_the_number_of_cpus",
            "tests/test_prove.py::test_a_text_that_treats_cpus_differently_is_not_proved",
            "tests/test_prove_reached.py::test_every_state_that_is_reached_satisfies_every_lemma",
        ),
    ),
    Assumption(
        "the ghosts queued and flushed only record: no operation reads them, no guard depends on them",
        "looked up in every transition; that they mean what they say is an obligation at each (ghosts_justified)",
        (
            "tests/test_prove.py::test_ghosts_are_read_by_nobody_and_hold_nobody_up",
            "tests/test_prove.py::test_a_ghost_that_does_not_mean_what_it_says_is_refused",
        ),
    ),
    Assumption(
        "a populated zone stays populated, CPUs do not come or go, and a task stays on its CPU while interrupts are off",
        "docs/not-modelled.md; offlining holds cpus_read_lock(); CPU hotplug with pcplists is run on the concrete machine",
        (
            _CPUS + "no_cpu_goes_down_while_memory_goes_offline",
            _MACHINE + "a_task_with_interrupts_off_does_not_migrate",
            "tests/test_hwpoison_hotplug.py::test_a_dying_cpu_has_pages_after_zone_pcp_disable_until_cpu_dead_has_run",
        ),
    ),
    Assumption(
        "where it starts: no lock held, interrupts on, no work queued, each CPU with the zone's cached limits, high >= 0,"
        " batch >= 1, and count equal to the pages on its lists",
        "the state after setup_zone_pageset(); lists and limits are otherwise arbitrary",
        (_CPUS + "a_zone_boots_with_the_limits_of_its_size",),
    ),
)  # fmt: skip
