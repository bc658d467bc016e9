// SPDX-License-Identifier: GPL-2.0-only
/*
 * The inner loop of verify.explore's search: what table.py and search.py do column by column with NumPy, state by state,
 * so that a successor that is known already costs one look into a hash set and no array.  It knows no kernel: the
 * outcomes of operations come from the tables, which Python fills.  native.py compiles and calls it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* a table: where its operation need not be tried, how a row is looked up; _Prepared in native.py */
struct table {
	int64_t n_needs;
	const int32_t *needs;		/* (column, value): without it the operation waits */
	int64_t n_tasks;
	const int32_t *tasks;		/* (length, pairs of columns): all equal, and an equal task comes first */
	int64_t n_cpus;
	const int32_t *cpus;		/* pairs of classes: equal sums, and an equal CPU comes first */
	int64_t hashed;			/* there is no tree, but a map of the hashes of its key columns */
	int64_t n_key;
	const int32_t *key;
	const uint64_t *key_factor;
	int64_t n_away;
	const int32_t *away;
	const uint64_t *away_factor;
};

/* leaves by the hash of the key columns; _Map */
struct map {
	int64_t mask;			/* of the next two */
	const uint64_t *known;
	const int32_t *leaf;		/* -1: not known */
};

/* A target is a node, or UNKNOWN, or -1 - the leaf.  These are the arrays of arena.py. */
#define UNKNOWN INT32_MIN

/* a question and one answer to it; a way through a tree mostly goes on with what lies next in memory */
struct node {
	int32_t question;		/* a column, or -1 - the number of what is away */
	int32_t answer;
	int32_t target;
	int32_t other;			/* a node with the same question and another answer, or UNKNOWN */
};

struct leaf {
	int64_t first;			/* of its outcomes */
	int64_t count;
};

struct outcome {
	int64_t bad;
	int32_t first;			/* of its writes */
	int32_t count;
};

struct write {
	int32_t column;
	int32_t value;
};

/* whether a task is away from some locations: a line has it for each location, and last for a task that has returned */
struct away {
	int32_t column;
	int32_t begin;
	int32_t length;
};

/*
 * All tables: those of task t at location l are number[base[t] + l] up to number[base[t] + l + 1]; _Program.
 *
 * A table may learn while other threads look into it.  What is learnt lies behind what was known, and is complete when
 * a node or a root comes to lead there, which is told by a store with release order.  Each call has a program of its own:
 * where an array has to move, the nodes and the roots move with it, so that nothing in the old ones ever leads to what
 * lies in the new ones only.
 */
struct program {
	int64_t width;
	int64_t classes;
	int64_t n_tasks;
	const int64_t *column;
	const int64_t *base;
	const int64_t *number;
	const struct table *tables;
	const int64_t *roots;		/* of each table: a target, or where its map is */
	const struct node *nodes;
	const struct leaf *leaves;
	const struct outcome *outcomes;
	const struct write *writes;
	const uint64_t *deltas;		/* one for each class, for each outcome */
	const struct away *away;
	const uint8_t *lines;
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

/* where a column of a row lies among the words of a packed one */
struct part {
	int32_t column;
	int32_t least;
	int32_t word;
	int32_t shift;
	uint64_t mask;
};

/* how the rows of a block are packed; _Packing */
struct packing {
	int64_t words;			/* of a row */
	int64_t n;
	const struct part *parts;
};

/* what a call did; _Tally */
struct tally {
	int64_t next;		/* the state to go on with */
	int64_t missing;
	int64_t transitions;
	int64_t violated;
};

/* successors that are gathered before the set is asked for them, classes of a row, and states followed by a table on end */
#define WAITING 64
#define CLASSES 64
#define CHUNK 128

struct successor {
	uint64_t print;
	int64_t parent;
	int64_t outcome;
	int64_t table;
};

/* a table does not know a state: an answer that its tree has not, or the hash of its key columns */
struct missing {
	int64_t state;
	int64_t table;
	uint64_t what;
};

/* what a tree does not know of a state: nothing of it, or nothing at all is missing but room */
#define NOWHERE UINT64_MAX

/* one call */
struct run {
	const struct program *program;
	struct set *set;
	struct block *in;
	struct block *out;
	struct tally *tally;
	struct missing *missing;
	int64_t room;			/* of out */
	/* of the state that is followed: its fingerprint, and what each class has in it */
	uint64_t total;
	const uint64_t *mixed;
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

/* cells at the beginning of a set, and at the end of one, whose fingerprints are moved last */
#define HEAD (1 << 16)

/* How many cells on end are taken, at most. */
static int64_t longest(const struct set *set, int64_t cells)
{
	int64_t most = 0, here = 0;

	for (int64_t i = 0; i < 2 * cells; i++) {
		/* what finds no place at the end goes on at the beginning */
		here = set->cells[i < cells ? i : i - cells] ? here + 1 : 0;
		most = here > most ? here : most;
		if (i >= cells && !here)
			break;
	}
	return most;
}

/*
 * Move fingerprints to their places in a set that had room for ``before`` cells, where there are more now, all empty; 0
 * where that takes another way.  One that lay in cell i lay less than HEAD / 2 behind its place, so that its new place,
 * at least twice as far, is behind i from HEAD on: from the last one down, each is put behind all that have still to
 * move.  L cells that are taken on end were L / 2 before at least, so that only those of the last HEAD may go on at the
 * beginning; they and the first ones are put in when all others are.
 */
int64_t widen(struct set *set, int64_t before)
{
	int64_t n = 0, end = set->mask + 1 - HEAD;
	uint64_t *rest;

	if (longest(set, before) >= HEAD / 2 - 1)
		return 0;
	rest = malloc(2 * HEAD * sizeof(*rest));
	if (!rest)
		return 0;
	for (int64_t i = before - 1; i >= 0; i--) {
		uint64_t print = set->cells[i];

		if (!print)
			continue;
		set->cells[i] = 0;
		if (i < HEAD || (int64_t)place(print, set->mask) >= end)
			rest[n++] = print;
		else
			insert(set, print);
	}
	for (int64_t i = 0; i < n; i++)
		insert(set, rest[i]);
	free(rest);
	return 1;
}

/* What rows have in each column at least and at most. */
void ranges(const struct block *b, int64_t width, int16_t *least, int16_t *most)
{
	memcpy(least, b->rows, (size_t)width * sizeof(*least));
	memcpy(most, b->rows, (size_t)width * sizeof(*most));
	for (int64_t i = 1; i < b->n; i++) {
		const int16_t *row = b->rows + i * width;

		for (int64_t c = 0; c < width; c++) {
			least[c] = row[c] < least[c] ? row[c] : least[c];
			most[c] = row[c] > most[c] ? row[c] : most[c];
		}
	}
}

/* Write of each row the columns that differ, each less the least that it is, into the bits of its words. */
void pack(const struct block *b, int64_t width, const struct packing *p, uint64_t *packed)
{
	memset(packed, 0, (size_t)(b->n * p->words) * sizeof(*packed));
	for (int64_t i = 0; i < b->n; i++, packed += p->words) {
		const int16_t *row = b->rows + i * width;

		for (int64_t k = 0; k < p->n; k++) {
			const struct part *part = p->parts + k;

			packed[part->word] |= (uint64_t)(row[part->column] - part->least) << part->shift;
		}
	}
}

/* The same rows again; ``same`` is what their columns are at least. */
void unpack(struct block *b, int64_t width, const struct packing *p, const uint64_t *packed, const int16_t *same)
{
	for (int64_t i = 0; i < b->n; i++, packed += p->words) {
		int16_t *row = b->rows + i * width;

		memcpy(row, same, (size_t)width * sizeof(*row));
		for (int64_t k = 0; k < p->n; k++) {
			const struct part *part = p->parts + k;

			row[part->column] = (int16_t)(part->least + (int16_t)(packed[part->word] >> part->shift & part->mask));
		}
	}
}

/* Have a node lead to another one, and a table to its tree or map, when all that lies there has been written. */
void lead(int32_t *from, int64_t to)
{
	__atomic_store_n(from, (int32_t)to, __ATOMIC_RELEASE);
}

void plant(int64_t *root, int64_t to)
{
	__atomic_store_n(root, to, __ATOMIC_RELEASE);
}

/* Make the map from the hash of a row's key columns to its leaf. */
void map(const uint64_t *hashes, const int64_t *leaves, int64_t n, int64_t mask, uint64_t *known, int32_t *leaf)
{
	for (int64_t i = 0; i <= mask; i++)
		leaf[i] = -1;
	for (int64_t i = 0; i < n; i++) {
		uint64_t at = place(hashes[i], mask);

		while (leaf[at] >= 0)
			at = (at + 1) & (uint64_t)mask;
		known[at] = hashes[i];
		leaf[at] = (int32_t)leaves[i];
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

static inline int32_t is_away(const struct program *p, const int16_t *row, int32_t which)
{
	const struct away *a = p->away + which;
	int32_t where = row[a->column];

	return p->lines[a->begin + (where < 0 ? a->length - 1 : where)];
}

static uint64_t key_hash(const struct program *p, const struct table *t, const int16_t *row)
{
	uint64_t hash = 0;

	for (int64_t k = 0; k < t->n_key; k++)
		hash += (uint64_t)(int64_t)row[t->key[k]] * t->key_factor[k];
	for (int64_t k = 0; k < t->n_away; k++)
		hash += (uint64_t)is_away(p, row, t->away[k]) * t->away_factor[k];
	return hash;
}

/* The leaf of a row, or -1: then ``what`` is not known. */
static int32_t look_up(const struct program *p, int64_t number, const int16_t *row, uint64_t *what)
{
	const struct table *t = p->tables + number;
	int64_t root = __atomic_load_n(&p->roots[number], __ATOMIC_ACQUIRE);
	int32_t target = (int32_t)root;

	if (t->hashed) {
		const struct map *m = (const struct map *)(intptr_t)root;

		*what = key_hash(p, t, row);
		for (uint64_t at = place(*what, m->mask); m->leaf[at] >= 0; at = (at + 1) & (uint64_t)m->mask)
			if (m->known[at] == *what)
				return m->leaf[at];
		return -1;
	}
	*what = NOWHERE;
	while (target >= 0) {
		const struct node *node = p->nodes + target;
		int32_t other, value = node->question < 0 ? is_away(p, row, -1 - node->question) : row[node->question];

		if (node->answer == value) {
			target = node->target;
			continue;
		}
		other = __atomic_load_n(&node->other, __ATOMIC_ACQUIRE);
		if (other == UNKNOWN)
			*what = (uint64_t)target << 32 | (uint32_t)value;
		target = other;
	}
	return target == UNKNOWN ? -1 : -1 - target;
}

static void write_new(const struct run *r, const struct successor *s)
{
	const struct program *p = r->program;
	const struct outcome *o = p->outcomes + s->outcome;
	int16_t *row = r->out->rows + r->out->n * p->width;
	uint64_t *hashes = r->out->hashes + r->out->n * p->classes;

	memcpy(row, r->in->rows + s->parent * p->width, (size_t)p->width * sizeof(*row));
	for (int32_t k = o->first; k < o->first + o->count; k++)
		row[p->writes[k].column] = (int16_t)p->writes[k].value;
	for (int64_t c = 0; c < p->classes; c++)
		hashes[c] = r->in->hashes[s->parent * p->classes + c] + p->deltas[s->outcome * p->classes + c];
	r->out->from[r->out->n++] = (int32_t)s->table;
}

static void flush(struct run *r)
{
	for (int64_t k = 0; k < r->n; k++)
		if (insert(r->set, r->waiting[k].print))
			write_new(r, r->waiting + k);
	r->n = 0;
}

static uint64_t mix(const struct run *r, int64_t state, uint64_t *mixes)
{
	const uint64_t *hashes = r->in->hashes + state * r->program->classes;
	uint64_t total = hashes[0];

	for (int64_t c = 1; c < r->program->classes; c++) {
		mixes[c] = mixed(hashes[c]);
		total += mixes[c];
	}
	return total;
}

/* The successors of one state by one table, or what is missing for them. */
static void follow(struct run *r, int64_t state, int64_t number)
{
	const struct program *p = r->program;
	const struct table *t = p->tables + number;
	const int16_t *row = r->in->rows + state * p->width;
	const uint64_t *hashes = r->in->hashes + state * p->classes;
	const struct leaf *found;
	uint64_t what;
	int32_t leaf;

	if (!tried(t, row, hashes))
		return;
	leaf = look_up(p, number, row, &what);
	found = p->leaves + leaf;
	/* the leaf may have been learnt since the room was made: then it is asked for again, with more */
	if (leaf < 0 || r->out->n + r->n + found->count > r->room) {
		r->missing[r->tally->missing++] = (struct missing){ state, number, what };
		return;
	}
	for (int64_t o = found->first; o < found->first + found->count; o++) {
		const uint64_t *delta = p->deltas + o * p->classes;
		uint64_t print = r->total + delta[0];

		for (int64_t c = 1; c < p->classes; c++)
			if (delta[c])
				print += mixed(hashes[c] + delta[c]) - r->mixed[c];
		print += !print;
		__builtin_prefetch(&r->set->cells[place(print, r->set->mask)]);
		r->tally->transitions++;
		r->tally->violated |= p->outcomes[o].bad;
		r->in->alive[state] = 1;
		r->waiting[r->n++] = (struct successor){ print, state, o, number };
		if (r->n == WAITING)
			flush(r);
	}
}

/*
 * Add the new successors of states, from tally->next on, to ``out`` until ``room`` may not be enough for one state more,
 * of which ``most`` may follow, or that may be missing.
 */
void expand(const struct program *p, struct set *set, struct block *in, struct block *out, int64_t room, int64_t most,
	    struct missing *missing, int64_t missing_room, struct tally *tally)
{
	struct run r = { .program = p, .set = set, .in = in, .out = out, .tally = tally, .missing = missing, .room = room };

	uint64_t totals[CHUNK], mixes[CHUNK * CLASSES];

	while (tally->next < in->n) {
		int64_t first = tally->next, n = in->n - first < CHUNK ? in->n - first : CHUNK;

		while (n && (out->n + r.n + n * most > room || tally->missing + n * most > missing_room))
			n /= 2;
		if (!n)
			break;
		for (int64_t k = 0; k < n; k++)
			totals[k] = mix(&r, first + k, mixes + k * p->classes);
		/* what one task may do is looked up for many states on end: its trees stay near */
		for (int64_t t = 0; t < p->n_tasks; t++)
			for (int64_t state = first; state < first + n; state++) {
				int16_t location = in->rows[state * p->width + p->column[t]];
				const int64_t *number = p->number + p->base[t] + location;

				if (location < 0 || number[0] == number[1])
					continue;
				r.total = totals[state - first];
				r.mixed = mixes + (state - first) * p->classes;
				for (int64_t k = number[0]; k < number[1]; k++)
					follow(&r, state, k);
			}
		tally->next += n;
	}
	flush(&r);
}

/* The same for what was missing and may not be any more.  What is still missing is said again. */
void expand_missing(const struct program *p, struct set *set, struct block *in, struct block *out, int64_t room,
		    const struct missing *missing, int64_t n, struct missing *still, struct tally *tally)
{
	struct run r = { .program = p, .set = set, .in = in, .out = out, .tally = tally, .missing = still, .room = room };

	uint64_t mixes[CLASSES];

	tally->missing = 0;
	r.mixed = mixes;
	for (int64_t k = 0; k < n; k++) {
		r.total = mix(&r, missing[k].state, mixes);
		follow(&r, missing[k].state, missing[k].table);
	}
	flush(&r);
}
