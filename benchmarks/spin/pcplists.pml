/*
 * mm/page_alloc.c, v5.11: pcplists and zone_pcp_disable(), written by hand for SPIN as the peer of verify.explore.
 *
 *	spin -a -DCPUS=2 -DPAGES=2 -DFREES=1 -DALLOCS=1 pcplists.pml
 *	gcc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m1000000
 *
 * One kernel with a mistake: -DMUTANT_no_drain and so on, see below; the expected result is "errors: 1", else 0.
 *
 * Pages are counted, not told apart.  What does not concern the race is left out, to the model checker's advantage:
 * preemption while every CPU has interrupts off, the work item's zone, the environment's refusals, the zone_pcp_update()
 * with which a successful offline_pages() ends, and pageblocks unless ISOLATION asks for them.
 *
 * What is one step.  SPIN's partial order reduction does not know that a CPU with interrupts off has its pcplists to
 * itself, so the steps are merged by hand, as Lipton's theorem allows: an atomic or d_step has at most one access that
 * does not commute with what others do, with right movers before it and left movers after it.
 *   private, commutes both ways: nr[c], and reads of count[c], in a section of CPU c with interrupts off; pageset_high and
 *     pageset_batch under pcp_batch_high_lock
 *   right movers: to disable interrupts, to take a mutex, to wait for work that nobody queues again
 *   left movers: to restore interrupts, to give back a mutex, to queue work, to end it
 *   the others, a step each: writes of count[c], for it may be read elsewhere; high[c], batch[c], buddy, isolated; the
 *     window's two ends
 * Tasks of the same kind begin in the order of their numbers.
 */

#ifndef CPUS
#define CPUS 2
#endif
#ifndef PAGES
#define PAGES 2
#endif
#ifndef FREES
#define FREES 1
#endif
#ifndef ALLOCS
#define ALLOCS 1
#endif
#ifndef UPDATES
#define UPDATES 1
#endif
#ifndef OFFLINES
#define OFFLINES 1
#endif
#ifndef HIGH
#define HIGH 2
#endif
#ifndef BATCH
#define BATCH 2
#endif

/*
 * Mutants, with the assertion that fails:
 *   no_force_all_cpus  drain_before_high  batch_left_old  high_read_irqs_on  no_drain  no_flush    no_stray_page
 *   no_mutex                                                                                      limits_exclusive
 *   no_count_clamp                                                                            bulk_free_terminates
 *   refill_not_counted                                                                             pages_conserved
 *   enable_without_restore                                                                         limits_restored
 *   base  enable_before_unisolate                                                            no_isolated_page_left
 *   isolate_before_disable                                                            isolated_page_not_allocated
 * and a control, of which no assertion fails: swapped_limit_stores.
 */
#if defined(MUTANT_base) || defined(MUTANT_isolate_before_disable) || defined(MUTANT_enable_before_unisolate)
#define ISOLATION
#endif

/* struct per_cpu_pages: nr is the length of the lists, count what the kernel believes it to be */
byte nr[CPUS], count[CPUS], high[CPUS], batch[CPUS];
byte pageset_high = HIGH, pageset_batch = BATCH;
byte buddy = PAGES - FREES;
bit irqs_off[CPUS];
bit pcp_batch_high_lock, pcpu_drain_mutex;
/* the drain work item of each CPU is queued or running; nobody queues it again before it has ended */
bit pending[CPUS];
/* how many tasks of a kind have begun */
byte frees_begun, allocs_begun;
/* the property's window: zone_pcp_disable() has returned, zone_pcp_enable() is not entered */
bit disabled;

#ifdef ISOLATION
/* pages of the range that is offlined, out of those above */
byte nr_range[CPUS], buddy_range;
bit isolated, isolated_and_drained;
#define RANGE_LEFT(c)	(isolated_and_drained && nr_range[c] > 0)
#else
#define RANGE_LEFT(c)	false
#endif

#define NO_STRAY_PAGE(c)	assert(!(disabled && (nr[c] > 0 || count[c] > 0)))
#define NO_ISOLATED_LEFT(c)	assert(!RANGE_LEFT(c))
#define PAGES_CONSERVED(c)	assert(nr[c] == count[c])

/* the lists of a CPU change only while its interrupts are off, so it suffices to look when they come on again */
inline local_irq_restore(c) {
	irqs_off[c] = 0;
	NO_STRAY_PAGE(c);
	NO_ISOLATED_LEFT(c);
	PAGES_CONSERVED(c)
}

/* when a window opens, every CPU that has interrupts on is looked at; the others, when they restore them */
inline look_at_all_cpus() {
	i = 0;
	do
	:: i < CPUS ->
		if
		:: !irqs_off[i] -> NO_STRAY_PAGE(i); NO_ISOLATED_LEFT(i)
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0
}

/* a task whose interrupts are on may be on any CPU on which they are */
inline select_cpu(c) {
	if
	:: !irqs_off[0] -> c = 0
#if CPUS > 1
	:: !irqs_off[1] -> c = 1
#endif
#if CPUS > 2
	:: !irqs_off[2] -> c = 2
#endif
#if CPUS > 3
	:: !irqs_off[3] -> c = 3
#endif
#if CPUS > 4
	:: !irqs_off[4] -> c = 4
#endif
#if CPUS > 5
	:: !irqs_off[5] -> c = 5
#endif
	fi
}

/* of `all` pages, `of_range` of which are in the range, `wanted` are taken: here_range of the range */
inline select_range(of_range, all, wanted) {
	here_range = 0;
	do
	:: here_range < wanted && here_range < of_range -> here_range++
	:: wanted - here_range <= all - of_range -> break
	od
}

/* free_pcppages_bulk(), first half: n pages are asked for; `here` is how many pages it detaches, the private list */
inline detach(c, n) {
#ifdef MUTANT_no_count_clamp
	assert(n <= count[c]);	/* bulk_free_terminates */
#endif
	here = (count[c] < n -> count[c] : n);
	n = 0;
#ifdef ISOLATION
	/* the order of the list decides how many pages of the range are among them: any number that fits */
	select_range(nr_range[c], nr[c], here);
	nr_range[c] = nr_range[c] - here_range;
#endif
	nr[c] = nr[c] - here;
	count[c] = count[c] - here
}

/* second half, under zone->lock; what follows is a left mover */
inline give_back() {
	buddy = buddy + here;
	here = 0;
#ifdef ISOLATION
	buddy_range = buddy_range + here_range;
	here_range = 0
#endif
}

proctype free_unref_page(byte number) {
	byte cpu, n, limit, here;
#ifdef ISOLATION
	byte here_range;
	bit in_range, to_isolate;
	atomic {
		frees_begun == number -> frees_begun++;
		if
		:: in_range = 0
		:: in_range = 1
		fi;
		to_isolate = in_range && isolated	/* free_unref_page_prepare(): interrupts are on, it goes stale */
	};
#endif
#ifdef MUTANT_high_read_irqs_on
	atomic {
#ifndef ISOLATION
		frees_begun == number -> frees_begun++;
#endif
		select_cpu(cpu); limit = high[cpu]	/* it may be on another CPU when it disables interrupts */
	};
#endif
	/* local_irq_save() on any CPU that has them on */
	atomic {
#if !defined(ISOLATION) && !defined(MUTANT_high_read_irqs_on)
		frees_begun == number -> frees_begun++;
#endif
		select_cpu(cpu);
		irqs_off[cpu] = 1;
#ifdef ISOLATION
		if
		:: to_isolate -> buddy++; buddy_range++; to_isolate = 0; in_range = 0; goto out
		:: else
		fi;
		nr_range[cpu] = nr_range[cpu] + in_range;
		in_range = 0;
#endif
		nr[cpu]++;	/* list_add() */
		count[cpu]++;
		n = count[cpu]
	};
	atomic {
#ifndef MUTANT_high_read_irqs_on
		limit = high[cpu];
#endif
		if
		:: n < limit -> goto out
		:: else
		fi;
		n = 0;
		limit = 0
	};
	n = batch[cpu];
	atomic { detach(cpu, n) };
	atomic {
		give_back();
out:
		local_irq_restore(cpu);
		cpu = 0; n = 0; limit = 0
	}
}

proctype rmqueue_pcplist(byte number) {
	byte cpu, n;
#ifdef ISOLATION
	byte here_range;
	bit began_isolated;
#endif
	atomic {
		allocs_begun == number -> allocs_begun++;
		select_cpu(cpu);
		irqs_off[cpu] = 1;
#ifdef ISOLATION
		began_isolated = isolated;
#endif
		if
		:: nr[cpu] == 0 -> goto refill
		:: else
		fi;
#ifndef ISOLATION
		goto list_del;	/* still atomic: a jump from one atomic into another, not as its last statement */
#endif
		skip
	};
	goto take;
refill:
	n = batch[cpu];
	/* rmqueue_bulk(), under zone->lock: nothing from the free lists of isolated pageblocks */
	atomic {
#ifdef ISOLATION
		if
		:: isolated ->
			n = (n < buddy - buddy_range -> n : buddy - buddy_range)
		:: else ->
			n = (n < buddy -> n : buddy);
			select_range(buddy_range, buddy, n)
		fi;
		nr_range[cpu] = nr_range[cpu] + here_range;
		buddy_range = buddy_range - here_range;
		here_range = 0;
#else
		n = (n < buddy -> n : buddy);
#endif
		nr[cpu] = nr[cpu] + n;
		buddy = buddy - n
	};
	atomic {
#ifndef MUTANT_refill_not_counted
		count[cpu] = count[cpu] + n;
#endif
		if
		:: n == 0 -> goto out
		:: else
		fi;
		n = 0
	};
take:
	atomic {
#ifdef ISOLATION
		select_range(nr_range[cpu], nr[cpu], 1);
		assert(!(here_range && began_isolated && isolated));	/* isolated_page_not_allocated */
		nr_range[cpu] = nr_range[cpu] - here_range;
		here_range = 0;
#else
		skip;
#endif
list_del:
		nr[cpu]--;
		count[cpu]--;
out:
		local_irq_restore(cpu);
		cpu = 0;
#ifdef ISOLATION
		began_isolated = 0
#endif
	}
}

/* drain_local_pages_wq(), executed by the worker of CPU c */
proctype worker_thread(byte c) {
	byte n, here;
#ifdef ISOLATION
	byte here_range;
#endif
end:
	do
	:: atomic {
		pending[c] && !irqs_off[c] -> irqs_off[c] = 1;
		n = count[c];
		if
		:: n == 0 ->
			local_irq_restore(c);
			pending[c] = 0
		:: else ->
			detach(c, n);
			goto detached
		fi
	   }
	od;
detached:
	atomic {
		give_back();
		local_irq_restore(c);
		pending[c] = 0
	};
	goto end
}

/* whoever unlocks pcp_batch_high_lock leaves every CPU with the zone's limits */
inline unlock_restored() {
#ifndef MUTANT_no_mutex	/* of that one, limits_exclusive is asked */
	do
	:: i < CPUS ->
		assert(high[i] == pageset_high && batch[i] == pageset_batch);	/* limits_restored */
		i++
	:: else -> i = 0; break
	od;
#endif
	new_high = 0;
	old = 0;
	pcp_batch_high_lock = 0
}

/* the loops over all CPUs are unrolled where a loop would have steps of its own */
#if CPUS == 1
#define NO_WORK	(!pending[0])
#elif CPUS == 2
#define NO_WORK	(!pending[0] && !pending[1])
#elif CPUS == 3
#define NO_WORK	(!pending[0] && !pending[1] && !pending[2])
#elif CPUS == 4
#define NO_WORK	(!pending[0] && !pending[1] && !pending[2] && !pending[3])
#elif CPUS == 5
#define NO_WORK	(!pending[0] && !pending[1] && !pending[2] && !pending[3] && !pending[4])
#else
#define NO_WORK	(!pending[0] && !pending[1] && !pending[2] && !pending[3] && !pending[4] && !pending[5])
#endif

/*
 * pageset_update() by somebody who has not disabled the pcplists, unless `mine`; high and batch are written one after the
 * other.  With `unlock` the mutex is given back in the same step as the last store.
 */
inline pageset_update(c, h, b, mine, unlock) {
#ifdef MUTANT_swapped_limit_stores
	d_step { assert(mine || !disabled); high[c] = h };
#else
	d_step { assert(mine || !disabled); batch[c] = b };	/* limits_exclusive */
#endif
	d_step {
		assert(mine || !disabled);
#ifdef MUTANT_swapped_limit_stores
		batch[c] = b;
#else
		high[c] = h;
#endif
		if
		:: unlock && c == CPUS - 1 -> unlock_restored()
		:: else
		fi
	}
}

inline set_pageset_high_and_batch(h, b, mine, unlock) {
	pageset_update(0, h, b, mine, unlock);
#if CPUS > 1
	pageset_update(1, h, b, mine, unlock);
#endif
#if CPUS > 2
	pageset_update(2, h, b, mine, unlock);
#endif
#if CPUS > 3
	pageset_update(3, h, b, mine, unlock);
#endif
#if CPUS > 4
	pageset_update(4, h, b, mine, unlock);
#endif
#if CPUS > 5
	pageset_update(5, h, b, mine, unlock)
#endif
}

inline drain_mutex_lock() {
	!pcpu_drain_mutex -> pcpu_drain_mutex = 1
}

/* flush_work() of all, and mutex_unlock() */
inline flush_and_unlock() {
#ifndef MUTANT_no_flush
	d_step { NO_WORK -> pcpu_drain_mutex = 0 }
#else
	pcpu_drain_mutex = 0
#endif
}

/* __drain_all_pages(zone, true) */
inline drain_all_cpus() {
	d_step {
		drain_mutex_lock();
		do
		:: i < CPUS -> pending[i] = 1; i++	/* queue_work_on() */
		:: else -> i = 0; break
		od
	};
	flush_and_unlock()
}

/* __drain_all_pages(zone, false): a racy read of each count tells where to queue */
inline drain_all_pages() {
	d_step { drain_mutex_lock(); mask[0] = (count[0] != 0) };
#if CPUS > 1
	mask[1] = (count[1] != 0);
#endif
#if CPUS > 2
	mask[2] = (count[2] != 0);
#endif
#if CPUS > 3
	mask[3] = (count[3] != 0);
#endif
#if CPUS > 4
	mask[4] = (count[4] != 0);
#endif
#if CPUS > 5
	mask[5] = (count[5] != 0);
#endif
	d_step {
		do
		:: i < CPUS -> pending[i] = mask[i]; mask[i] = 0; i++
		:: else -> i = 0; break
		od
	};
	flush_and_unlock()
}

inline zone_pcp_disable() {
	d_step { !pcp_batch_high_lock -> pcp_batch_high_lock = 1 };
#ifdef MUTANT_drain_before_high
	drain_all_cpus();
#endif
#ifdef MUTANT_batch_left_old
	old = pageset_batch;
	set_pageset_high_and_batch(0, old, true, false);
#else
	set_pageset_high_and_batch(0, 1, true, false);
#endif
#if defined(MUTANT_no_force_all_cpus)
	drain_all_pages();
#elif !defined(MUTANT_drain_before_high) && !defined(MUTANT_no_drain)
	drain_all_cpus();
#endif
	atomic { disabled = 1; look_at_all_cpus() }
}

inline zone_pcp_enable() {
	d_step { disabled = 0; new_high = pageset_high; old = pageset_batch };
#ifndef MUTANT_enable_without_restore
	set_pageset_high_and_batch(new_high, old, true, true)
#else
	d_step { unlock_restored() }
#endif
}

inline start_isolate_page_range() {
#ifdef ISOLATION
	isolated = 1;
#else
	skip
#endif
}

inline undo_isolate_page_range() {
#ifdef ISOLATION
	d_step { isolated_and_drained = 0; isolated = 0 }
#else
	skip
#endif
}

/* MEM_GOING_OFFLINE: from here on the range counts as isolated and drained */
inline memory_notify() {
#ifdef ISOLATION
	atomic { isolated_and_drained = 1; look_at_all_cpus() };
#else
	skip
#endif
}

proctype offline_pages() {
	byte i, old, new_high;
	bit mask[CPUS];
#if defined(MUTANT_base)
	start_isolate_page_range();
	drain_all_pages();
	memory_notify();
	undo_isolate_page_range()
#elif defined(MUTANT_isolate_before_disable)
	start_isolate_page_range();
	zone_pcp_disable();
	memory_notify();
	undo_isolate_page_range();
	zone_pcp_enable()
#elif defined(MUTANT_enable_before_unisolate)
	zone_pcp_disable();
	start_isolate_page_range();
	memory_notify();
	zone_pcp_enable();
	undo_isolate_page_range()
#else
	zone_pcp_disable();
	start_isolate_page_range();
	memory_notify();
	undo_isolate_page_range();
	zone_pcp_enable()
#endif
}

proctype zone_pcp_update() {
	byte i, new_high, old;
	atomic {
#ifndef MUTANT_no_mutex
		!pcp_batch_high_lock -> pcp_batch_high_lock = 1;
#endif
		/* the zone's size and percpu_pagelist_fraction decide: as before, or one larger */
		if
		:: new_high = HIGH; old = BATCH
		:: new_high = HIGH + 1; old = BATCH + 1
		fi;
		if
		:: pageset_high == new_high && pageset_batch == old ->
#ifndef MUTANT_no_mutex
			unlock_restored();
#endif
			goto out
		:: else
		fi;
		pageset_high = new_high;
		pageset_batch = old
	};
#ifndef MUTANT_no_mutex
	set_pageset_high_and_batch(new_high, old, false, true);
#else
	set_pageset_high_and_batch(new_high, old, false, false);
#endif
out:
	skip
}

init {
	byte i;
	atomic {
		do
		:: i < CPUS -> high[i] = HIGH; batch[i] = BATCH; run worker_thread(i); i++
		:: else -> i = 0; break
		od;
#ifdef ISOLATION
		do
		:: buddy_range < buddy -> buddy_range++
		:: break
		od;
#endif
		do
		:: i < FREES -> run free_unref_page(i); i++
		:: else -> i = 0; break
		od;
		do
		:: i < ALLOCS -> run rmqueue_pcplist(i); i++
		:: else -> i = 0; break
		od;
		do
		:: i < UPDATES -> run zone_pcp_update(); i++
		:: else -> i = 0; break
		od;
		do
		:: i < OFFLINES -> run offline_pages(); i++
		:: else -> i = 0; break
		od
	}
}
