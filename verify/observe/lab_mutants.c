// SPDX-License-Identifier: GPL-2.0
/*
 * Mutants of zone_pcp_disable() on an unmodified kernel (x86-64, v6.0 to v6.12), by kprobes:
 *   mode=nohigh   the limits are not lowered
 *   mode=nodrain  nothing is drained
 *   mode=late     the limits are lowered late_us microseconds after the drain
 *   mode=noforce  CPUs whose count reads zero are not drained
 */
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/module.h>

static char *mode = "none";
module_param(mode, charp, 0444);
static int late_us;
module_param(late_us, int, 0444);

static void (*set_limits)(void *zone, unsigned long high, unsigned long batch);
static void *waits;
static bool ours;

static noinline void nothing(void)
{
	barrier();
}

static int leave_out(struct pt_regs *regs)
{
	instruction_pointer_set(regs, (unsigned long)nothing);
	return 1;
}

static int limits(struct kprobe *probe, struct pt_regs *regs)
{
	/* only zone_pcp_disable() asks for a high of 0 */
	if (regs->si || ours)
		return 0;
	if (!strcmp(mode, "nohigh"))
		return leave_out(regs);
	if (!strcmp(mode, "late")) {
		waits = (void *)regs->di;
		return leave_out(regs);
	}
	return 0;
}

static int drain(struct kprobe *probe, struct pt_regs *regs)
{
	/* only zone_pcp_disable() forces all CPUs */
	if (!(regs->si & 0xff))
		return 0;
	if (!strcmp(mode, "nodrain"))
		return leave_out(regs);
	if (!strcmp(mode, "noforce"))
		regs->si = 0;
	return 0;
}

static int drained(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	void *zone = waits;
	int us;

	if (!zone)
		return 0;
	waits = NULL;
	for (us = 0; us < late_us; us += 100)
		udelay(100);
	ours = true;
	set_limits(zone, 0, 1);
	ours = false;
	return 0;
}

static struct kprobe at_limits = {
	.symbol_name = "__zone_set_pageset_high_and_batch",
	.pre_handler = limits,
};
static struct kprobe at_drain = {
	.symbol_name = "__drain_all_pages",
	.pre_handler = drain,
};
static struct kretprobe after_drain = {
	.kp.symbol_name = "__drain_all_pages",
	.handler = drained,
	.maxactive = 8,
};

static int __init begin(void)
{
	int error = register_kprobe(&at_limits);

	if (!error)
		error = register_kprobe(&at_drain);
	if (!error && !strcmp(mode, "late"))
		error = register_kretprobe(&after_drain);
	set_limits = (void *)at_limits.addr;
	return error;
}
module_init(begin);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("mutants of zone_pcp_disable()");
