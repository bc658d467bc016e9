// SPDX-License-Identifier: GPL-2.0-only
/*
 * The inner loop of verify.explore's search: what table.py and search.py do column by column with NumPy, state by state,
 * so that a successor that is known already costs one look into a hash set and no array.  It knows no kernel: the
 * outcomes of operations come from the tables, which Python fills.  native.py compiles and calls it.
 */
#include <stdint.h>
#include <string.h>

/* a table: where its operation need not be tried, how a row is looked up, what follows; _Table in native.py */
struct table {
	int64_t n_needs;
	const int32_t *needs;		/* (column, value): without it the operation waits */
	int64_t n_tasks;
	const int32_t *tasks;		/* (length, pairs of columns): all equal, and an equal task comes first */
	int64_t n_cpus;
	const int32_t *cpus;		/* pairs of classes: equal sums, and an equal CPU comes first */
	int64_t n_key;
	const int32_t *key;
	const uint64_t *key_factor;
	int64_t n_away;
	const int32_t *away;		/* (column of a task's location, where its line begins, length of the line) */
	const uint8_t *line;		/* for each location, and last for a task that has returned, whether it counts */
	const uint64_t *away_factor;
	int64_t n_written;
	const int32_t *written;
	int64_t mask;			/* of the next two */
	const uint64_t *known;
	const int32_t *slot;		/* -1: not known */
	const int64_t *count;
	const int64_t *first;
	const int16_t *new;		/* n_written values for each outcome */
	const uint64_t *delta;		/* one for each class, for each outcome */
	int64_t n_moving;
	const int32_t *moving;
	const int64_t *bad;
};

/* all tables: those of task t at location l are number[base[t] + l] up to number[base[t] + l + 1]; _Program */
struct program {
	int64_t width;
	int64_t classes;
	int64_t n_tasks;
	const int64_t *column;
	const int64_t *base;
	const int64_t *number;
	const struct table *tables;
};

/* fingerprints; 0 stands for none; _Set */
struct set {
	int64_t mask;
	uint64_t *cells;
};

/* states one after the other; _Block */
struct block {
	int64_t n;
	int16_t *rows;
	uint64_t *hashes;
	int32_t *from;		/* the table that led there */
	uint8_t *alive;		/* whether anything follows */
};

/* what a call did; _Tally */
struct tally {
	int64_t next;		/* the state to go on with */
	int64_t missing;
	int64_t transitions;
	int64_t violated;
};

#define WAITING 64
#define CLASSES 64

struct successor {
	uint64_t print;
	int64_t parent;
	int64_t outcome;
	int64_t table;
};

/* a table does not know a state, whose key columns have this hash */
struct missing {
	int64_t state;
	int64_t table;
	uint64_t hash;
};

/* one call */
struct run {
	const struct program *program;
	struct set *set;
	struct block *in;
	struct block *out;
	struct tally *tally;
	struct missing *missing;
	uint64_t total;
	uint64_t mixed[CLASSES];
	int64_t n;
	struct successor waiting[WAITING];
};

static inline uint64_t mixed(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
	return x ^ (x >> 31);
}

/* The highest bits, so that a set that grows is copied in order. */
static inline uint64_t place(uint64_t print, int64_t mask)
{
	return (print * 0x9E3779B97F4A7C15u) >> __builtin_clzll((uint64_t)mask);
}

/* Whether the fingerprint was not in the set; several threads may insert at a time. */
static inline int insert(struct set *set, uint64_t print)
{
	uint64_t at = place(print, set->mask);

	for (;;) {
		uint64_t found = __atomic_load_n(&set->cells[at], __ATOMIC_RELAXED);

		if (!found && __atomic_compare_exchange_n(&set->cells[at], &found, print, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return 1;
		/* a failed exchange has told what another thread put there */
		if (found == print)
			return 0;
		at = (at + 1) & (uint64_t)set->mask;
	}
}

/* Put fingerprints into a set that has room for them; returns how many were new. */
int64_t add(struct set *set, const uint64_t *prints, int64_t n)
{
	int64_t fresh = 0;

	for (int64_t i = 0; i < n; i++) {
		if (i + 16 < n)
			__builtin_prefetch(&set->cells[place(prints[i + 16], set->mask)]);
		if (prints[i])
			fresh += insert(set, prints[i]);
	}
	return fresh;
}

/* Make the map from the hash of a row's key columns to its slot. */
void map(const uint64_t *hashes, const int64_t *slots, int64_t n, int64_t mask, uint64_t *known, int32_t *slot)
{
	for (int64_t i = 0; i <= mask; i++)
		slot[i] = -1;
	for (int64_t i = 0; i < n; i++) {
		uint64_t at = place(hashes[i], mask);

		while (slot[at] >= 0)
			at = (at + 1) & (uint64_t)mask;
		known[at] = hashes[i];
		slot[at] = (int32_t)slots[i];
	}
}

static int tried(const struct table *t, const int16_t *row, const uint64_t *hashes)
{
	const int32_t *p = t->needs;

	for (int64_t k = 0; k < t->n_needs; k++, p += 2)
		if (row[p[0]] != p[1])
			return 0;
	p = t->tasks;
	for (int64_t k = 0; k < t->n_tasks; k++) {
		int32_t length = *p++;
		int same = 1;

		for (int32_t j = 0; j < length; j++, p += 2)
			same &= row[p[0]] == row[p[1]];
		if (same)
			return 0;
	}
	p = t->cpus;
	for (int64_t k = 0; k < t->n_cpus; k++, p += 2)
		if (hashes[p[0]] == hashes[p[1]])
			return 0;
	return 1;
}

static uint64_t key_hash(const struct table *t, const int16_t *row)
{
	uint64_t hash = 0;

	for (int64_t k = 0; k < t->n_key; k++)
		hash += (uint64_t)(int64_t)row[t->key[k]] * t->key_factor[k];
	for (int64_t k = 0; k < t->n_away; k++) {
		const int32_t *a = t->away + 3 * k;
		int32_t where = row[a[0]];

		hash += (uint64_t)t->line[a[1] + (where < 0 ? a[2] - 1 : where)] * t->away_factor[k];
	}
	return hash;
}

static int32_t look_up(const struct table *t, uint64_t hash)
{
	for (uint64_t at = place(hash, t->mask); t->slot[at] >= 0; at = (at + 1) & (uint64_t)t->mask)
		if (t->known[at] == hash)
			return t->slot[at];
	return -1;
}

static void write_new(const struct run *r, const struct successor *s)
{
	const struct program *p = r->program;
	const struct table *t = p->tables + s->table;
	int16_t *row = r->out->rows + r->out->n * p->width;
	uint64_t *hashes = r->out->hashes + r->out->n * p->classes;

	memcpy(row, r->in->rows + s->parent * p->width, (size_t)p->width * sizeof(*row));
	for (int64_t k = 0; k < t->n_written; k++)
		row[t->written[k]] = t->new[s->outcome * t->n_written + k];
	for (int64_t c = 0; c < p->classes; c++)
		hashes[c] = r->in->hashes[s->parent * p->classes + c] + t->delta[s->outcome * p->classes + c];
	r->out->from[r->out->n++] = (int32_t)s->table;
}

static void flush(struct run *r)
{
	for (int64_t k = 0; k < r->n; k++)
		if (insert(r->set, r->waiting[k].print))
			write_new(r, r->waiting + k);
	r->n = 0;
}

static void turn_to(struct run *r, int64_t state)
{
	const uint64_t *hashes = r->in->hashes + state * r->program->classes;

	r->total = hashes[0];
	for (int64_t c = 1; c < r->program->classes; c++) {
		r->mixed[c] = mixed(hashes[c]);
		r->total += r->mixed[c];
	}
}

/* The successors of one state by one table, or what is missing for them. */
static void follow(struct run *r, int64_t state, int64_t number)
{
	const struct program *p = r->program;
	const struct table *t = p->tables + number;
	const int16_t *row = r->in->rows + state * p->width;
	const uint64_t *hashes = r->in->hashes + state * p->classes;
	uint64_t hash;
	int32_t slot;

	if (!tried(t, row, hashes))
		return;
	hash = key_hash(t, row);
	slot = look_up(t, hash);
	if (slot < 0) {
		r->missing[r->tally->missing++] = (struct missing){ state, number, hash };
		return;
	}
	for (int64_t o = t->first[slot]; o < t->first[slot] + t->count[slot]; o++) {
		const uint64_t *delta = t->delta + o * p->classes;
		uint64_t print = r->total + delta[0];

		for (int64_t k = 0; k < t->n_moving; k++) {
			int32_t c = t->moving[k];

			print += mixed(hashes[c] + delta[c]) - r->mixed[c];
		}
		print += !print;
		__builtin_prefetch(&r->set->cells[place(print, r->set->mask)]);
		r->tally->transitions++;
		r->tally->violated |= t->bad[o];
		r->in->alive[state] = 1;
		r->waiting[r->n++] = (struct successor){ print, state, o, number };
		if (r->n == WAITING)
			flush(r);
	}
}

/* Mark where tasks are: task t at location l as here[base[t] + l]. */
void where(const struct program *p, const struct block *in, uint8_t *here)
{
	for (int64_t i = 0; i < in->n; i++)
		for (int64_t t = 0; t < p->n_tasks; t++) {
			int16_t location = in->rows[i * p->width + p->column[t]];

			if (location >= 0)
				here[p->base[t] + location] = 1;
		}
}

/*
 * Add the new successors of states, from tally->next on, to ``out`` until ``room`` may not be enough for one state more,
 * of which ``most`` may follow, or that may be missing.
 */
void expand(const struct program *p, struct set *set, struct block *in, struct block *out, int64_t room, int64_t most,
	    struct missing *missing, int64_t missing_room, struct tally *tally)
{
	struct run r = { .program = p, .set = set, .in = in, .out = out, .tally = tally, .missing = missing };

	for (; tally->next < in->n; tally->next++) {
		int64_t state = tally->next;
		const int16_t *row = in->rows + state * p->width;

		if (out->n + r.n + most > room || tally->missing + most > missing_room)
			break;
		turn_to(&r, state);
		for (int64_t t = 0; t < p->n_tasks; t++) {
			const int64_t *number = p->number + p->base[t] + row[p->column[t]];

			if (row[p->column[t]] < 0)
				continue;
			for (int64_t k = number[0]; k < number[1]; k++)
				follow(&r, state, k);
		}
	}
	flush(&r);
}

/* The same for what was missing and is not any more; the room has to be enough. */
void expand_missing(const struct program *p, struct set *set, struct block *in, struct block *out,
		    const struct missing *missing, int64_t n, struct tally *tally)
{
	struct run r = { .program = p, .set = set, .in = in, .out = out, .tally = tally };

	for (int64_t k = 0; k < n; k++) {
		turn_to(&r, missing[k].state);
		follow(&r, missing[k].state, missing[k].table);
	}
	flush(&r);
}
