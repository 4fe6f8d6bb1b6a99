/* Programs in C without MPI: all ranks in one process, over functions that stand in for MPI's and deliver late, early,
 * copied at once or at the last moment. Ranks go on in any order.
 *
 * Arguments: a file of programs (for each group: ranks, then the length and bytes of every rank's), then
 *   orders N: N orders of arrival must give the results of the first;
 *   puts N:   the same, with notified puts between some or all ranks, over a network that cuts, reorders, delays and
 *             repeats;
 *   fuzz N:   N programs with changed bytes are refused, or run without touching other memory;
 *   threads N: every rank is a thread, and makes N calls;
 * then "apart", or "shared": through shared memory, in turn by reading, in pieces, and between some pairs only.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "share.h"

#define EXPECT(condition)                                                                   \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);        \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)
#define OK(call) EXPECT((call) == TC_OK)

#define MOST_RANKS 16
#define BYTE 77
#define SUM 78
#define TRUNCATED 15

static uint64_t seed = 1;

static uint32_t chance(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

/* --- what stands in for MPI ------------------------------------------------------------------------------ */
typedef struct operation {
    int from, to, tag, bytes, other; /* other: what it was matched with, -1: nothing yet */
    bool send, copied, done;
    char *at, *kept; /* kept: a message that was copied when it was sent */
} operation;

static operation *operations;
static int noperations, room;
static int wide;            /* requests of 8 bytes */
static bool drain;          /* everything is complete, nothing moves */
static unsigned delivered;
static uint64_t put_messages, put_parts, credits, links;
static tc_context *contexts[MOST_RANKS];
static tc_net *nets[MOST_RANKS]; /* ends of notified puts, if they are tried */

/* The way in which the ranks, all in this process, share memory. */
static enum { NOT_SHARED, BY_READING, IN_PIECES, SOME_SHARED, SHARINGS } sharing;

static void copy(operation *s, operation *r) {
    if (!s->copied) {
        s->copied = r->copied = true;
        int n = s->bytes < r->bytes ? s->bytes : r->bytes;
        if (n) memcpy(r->at, s->kept ? s->kept : s->at, (size_t)n);
    }
}

static int add(operation o, void *request) {
    if (noperations == room) {
        room = 2 * room + 64;
        operations = realloc(operations, (size_t)room * sizeof *operations);
        EXPECT(operations != NULL);
    }
    o.other = -1;
    for (int i = 0; i < noperations && o.other < 0; i++) {
        operation *m = &operations[i];
        if (m->other < 0 && m->send != o.send && m->from == o.from && m->to == o.to && m->tag == o.tag) {
            m->other = noperations;
            o.other = i;
        }
    }
    operations[noperations++] = o;
    if (wide)
        *(int64_t *)request = noperations;
    else
        *(int32_t *)request = noperations;
    return 0;
}

static int fake_isend(const void *at, int bytes, intptr_t type, int to, int tag, intptr_t comm, void *request) {
    EXPECT(type == BYTE && bytes >= 0 && to >= 0);
    operation o = {.from = (int)comm - 1, .to = to, .tag = tag, .bytes = bytes, .send = true,
                   .at = (char *)(uintptr_t)at};
    if (bytes && chance(2)) {
        o.kept = malloc((size_t)bytes);
        EXPECT(o.kept != NULL);
        memcpy(o.kept, at, (size_t)bytes);
    }
    return add(o, request);
}

static int fake_irecv(void *at, int bytes, intptr_t type, int from, int tag, intptr_t comm, void *request) {
    EXPECT(type == BYTE && bytes >= 0 && from >= 0);
    if (bytes) memset(at, 0xEE, (size_t)bytes);
    return add((operation){.from = from, .to = (int)comm - 1, .tag = tag, .bytes = bytes, .at = at}, request);
}

static int fake_test(void *request, int *flag, void *status) {
    int64_t number = wide ? *(int64_t *)request : *(int32_t *)request;
    EXPECT(number > 0 && number <= noperations);
    operation *o = &operations[number - 1];
    if (o->done) { /* as a null request: only one that had failed is asked for again */
        *flag = 1;
        *(int *)status = 0;
        return 0;
    }
    *flag = drain || ((o->other >= 0 || o->kept) && chance(3) == 0);
    if (!*flag) return 0;
    o->done = true;
    delivered++;
    *(int *)status = o->bytes;
    if (drain || o->other < 0) return 0;
    operation *other = &operations[o->other];
    copy(o->send ? o : other, o->send ? other : o);
    *(int *)status = other->bytes;
    return !o->send && other->bytes > o->bytes ? TRUNCATED : 0;
}

static int fake_count(const void *status, intptr_t type, int *count) {
    EXPECT(type == BYTE);
    *count = *(const int *)status;
    return 0;
}

static int fake_probe(int source, int tag, intptr_t comm, int *flag, void *status) {
    EXPECT(source == -2 && tag == -1 && comm > 0);
    *flag = 0;
    *(int *)status = 0;
    return 0;
}

static int fake_reduce(const void *in, void *inout, int n, intptr_t type, intptr_t op) {
    EXPECT(type == BYTE && op == SUM);
    for (int i = 0; i < n; i++) {
        int64_t x, y;
        memcpy(&x, (const char *)in + 8 * i, 8);
        memcpy(&y, (char *)inout + 8 * i, 8);
        y = (int64_t)((uint64_t)y * 3 + (uint64_t)x); /* tells the orders of operands apart */
        memcpy((char *)inout + 8 * i, &y, 8);
    }
    return 0;
}

static void forget(void) {
    for (int i = 0; i < noperations; i++) free(operations[i].kept);
    noperations = 0;
    drain = false;
}

/* --- running ---------------------------------------------------------------------------------------------- */
typedef struct group {
    uint32_t size;
    uint64_t length[MOST_RANKS];
    unsigned char *bytes[MOST_RANKS];
} group;

typedef struct rank {
    tc_comm *comm;
    tc_program *program;
    tc_run *run;
    char *send, *recv;
    tc_needs needs;
    int status;
} rank;

static tc_mpi functions(void) {
    return (tc_mpi){(uintptr_t)fake_isend, (uintptr_t)fake_irecv, (uintptr_t)fake_test, (uintptr_t)fake_count,
                    (uintptr_t)fake_reduce, BYTE, wide ? 8 : 4, 16, !nets[0] && chance(2) ? 1 + chance(100) : 1 << 30,
                    (uintptr_t)fake_probe, -2, -1};
}

/* --- notified puts ---------------------------------------------------------------------------------------- */
static bool putting;
static int32_t numbers[MOST_RANKS][MOST_RANKS]; /* of the members, as each rank sees them */

static void open_nets(uint64_t most) {
    static unsigned char address[MOST_RANKS][TC_ADDRESS_BYTES];
    size_t bytes[MOST_RANKS];
    tc_faults faults = {.seed = 1 + chance(1000), .reorder = 1, .pieces = 3, .delay_us = 5, .duplicate = 0.2};
    for (uint32_t r = 0; r < MOST_RANKS; r++) {
        tc_options options;
        tc_options_default(&options);
        options.rank = r;
        options.size = MOST_RANKS;
        options.transports = TC_SHM;
        options.signals = options.blocks;
        OK(tc_context_open(&options, &contexts[r]));
        if (chance(4)) OK(tc_context_faults(contexts[r], &faults));
        OK(tc_context_address(contexts[r], address[r], sizeof address[r], &bytes[r]));
        bool absent = r == MOST_RANKS - 1 && chance(2); /* a rank without a network */
        OK(tc_net_open(absent ? NULL : contexts[r], r, MOST_RANKS, most, &nets[r]));
    }
}

static void close_nets(void) {
    for (uint32_t r = 0; r < MOST_RANKS; r++) OK(tc_context_flush(contexts[r], 10)); /* repeats may be on their way */
    for (uint32_t r = 0; r < MOST_RANKS; r++) {
        tc_net_facts facts;
        tc_stats stats;
        OK(tc_net_info(nets[r], &facts));
        OK(tc_context_stats(contexts[r], &stats));
        EXPECT(stats.messages == facts.parts + facts.credits);
        put_messages += facts.messages;
        put_parts += facts.parts;
        credits += facts.credits;
        links += facts.links;
        OK(tc_net_close(nets[r]));
        OK(tc_context_close(contexts[r]));
    }
}

/* Rank r of the group is process r, in reverse for some; some pairs are reached by MPI's messages. */
static void choose_ways(uint32_t size) {
    bool reversed = chance(2), some = chance(2);
    for (uint32_t i = 0; i < size; i++)
        for (uint32_t k = 0; k < size; k++) {
            uint32_t number = reversed ? MOST_RANKS - 1 - k : k;
            numbers[i][k] = some && i != k && (i + k) % 3 == 0 ? -1 : (int32_t)number;
        }
}

static void open_puts(rank *r, uint32_t me) {
    OK(tc_comm_puts(r->comm, nets[numbers[me][me]], numbers[me], 9));
}

static bool open_rank(rank *r, const tc_mpi *mpi, const unsigned char *bytes, size_t length, uint32_t me, uint32_t size,
                      const int64_t *counts, size_t n) {
    char text[TC_TEXT_BYTES];
    memset(r, 0, sizeof *r);
    int status = tc_program_load(bytes, length, &r->program, text);
    EXPECT(status == TC_OK || (status == TC_ERR_PROGRAM && text[0]));
    if (status != TC_OK) return false;
    OK(tc_comm_open(mpi, (intptr_t)me + 1, me, size, NULL, 1, 3, &r->comm));
    if (putting) open_puts(r, me);
    if (tc_run_new(r->comm, r->program, &r->run) != TC_OK) return false; /* of another rank */
    tc_program_facts facts;
    OK(tc_program_info(r->program, &facts));
    if (tc_run_sizes(r->run, counts, n == facts.blocks ? n : 0, 8) != TC_OK) return false;
    OK(tc_run_needs(r->run, &r->needs));
    if (r->needs.send > 1 << 24 || r->needs.recv > 1 << 24 || r->needs.memory > 1 << 24) return false;
    uint32_t by = chance(3);
    tc_operation_choice choice = {.by = by == TC_BY_KERNEL ? TC_BY_MPI : by, .op = SUM, .type = BYTE};
    OK(tc_run_operation(r->run, &choice));
    r->send = malloc(r->needs.send);
    r->recv = malloc(r->needs.recv);
    EXPECT((r->send || !r->needs.send) && (r->recv || !r->needs.recv));
    for (uint64_t i = 0; i < r->needs.send; i++) r->send[i] = (char)(i * 7 + me * 31 + 1);
    if (r->needs.recv) memset(r->recv, 0x55, r->needs.recv);
    return true;
}

/* Share memory, of all ranks or of every other pair. */
static void share(rank *ranks, uint32_t size) {
    tc_share_address addresses[MOST_RANKS];
    tc_share_offer offers[MOST_RANKS];
    for (uint32_t i = 0; i < size; i++) {
        OK(tc_share_here(&addresses[i]));
        if (sharing == SOME_SHARED) addresses[i].host += i % 2;
    }
    for (uint32_t i = 0; i < size; i++) {
        OK(tc_comm_share(ranks[i].comm, addresses, sharing == IN_PIECES ? TC_SHARE_PIECES : TC_SHARE_READ, &offers[i]));
        EXPECT(offers[i].ready);
    }
    for (uint32_t i = 0; i < size; i++) {
        OK(tc_comm_shared(ranks[i].comm, offers));
        EXPECT(tc_comm_sharing(ranks[i].comm) == offers[i].members);
        EXPECT(sharing == SOME_SHARED || offers[i].members == size - 1);
    }
}

static void combine(rank *r) {
    uintptr_t in, inout;
    uint64_t bytes;
    OK(tc_run_operands(r->run, &in, &inout, &bytes));
    fake_reduce((const void *)in, (void *)inout, (int)(bytes / 8), BYTE, SUM);
    OK(tc_run_reduced(r->run));
}

static uint64_t progress(const rank *ranks, uint32_t size) {
    uint64_t sum = delivered;
    for (uint32_t i = 0; i < size; i++) sum += ranks[i].run->moved;
    return sum;
}

/* Let the ranks go on in any order, until all are done or nothing has happened for long. */
static bool run_all(rank *ranks, uint32_t size) {
    for (uint32_t i = 0; i < size; i++) ranks[i].status = tc_run_start(ranks[i].run, ranks[i].send, ranks[i].recv);
    uint64_t before = progress(ranks, size);
    unsigned idle = 0;
    for (;;) {
        bool all = true;
        for (uint32_t i = 0; i < size; i++) all = all && ranks[i].status == TC_OK;
        if (all) return true;
        rank *r = &ranks[chance(size)];
        if (r->status == TC_NEEDS_REDUCE) combine(r);
        if (r->status > 0) r->status = tc_run_test(r->run);
        uint64_t after = progress(ranks, size);
        idle = after == before ? idle + 1 : 0;
        before = after;
        if (idle > (putting ? 1000000 : 400)) return false;
    }
}

/* A run that is left under way is driven to its end, with nothing moving any more, so that it can be freed; but its
 * messages in shared memory have no end. */
static void end_run(rank *r) {
    drain = true;
    for (int tries = 0; r->run && r->status > 0 && (tries < 20 || !sharing); tries++) {
        if (r->status == TC_NEEDS_REDUCE) combine(r);
        r->status = tc_run_test(r->run);
    }
    if (r->status < 0 && r->run) {
        tc_failure failure;
        OK(tc_run_failure(r->run, &failure));
    }
}

static void free_run(rank *r) {
    if (r->program) tc_program_free(r->program);
    if (r->comm && !sharing) tc_comm_close(r->comm); /* the run still holds it */
    int status = r->run ? tc_run_free(r->run) : TC_OK;
    EXPECT(status == TC_OK || (status == TC_ERR_BUSY && sharing));
    if (status == TC_ERR_BUSY) return; /* it is left, with its buffers */
    free(r->send);
    free(r->recv);
}

/* Memory that is shared inside a process goes when nobody uses it any more. */
static void close_ranks(rank *ranks, uint32_t size) {
    for (uint32_t i = 0; i < size; i++) end_run(&ranks[i]);
    for (uint32_t i = 0; i < size; i++) free_run(&ranks[i]);
    for (uint32_t i = 0; i < size && sharing; i++)
        if (ranks[i].comm) tc_comm_close(ranks[i].comm);
}

static bool run_group(const group *g, const int64_t *counts, size_t n, char **results, bool first) {
    rank ranks[MOST_RANKS];
    tc_mpi mpi = functions();
    bool open = true;
    memset(ranks, 0, sizeof ranks);
    putting = nets[0] && chance(4);
    choose_ways(g->size);
    for (uint32_t i = 0; i < g->size && open; i++)
        open = open_rank(&ranks[i], &mpi, g->bytes[i], g->length[i], i, g->size, counts, n);
    if (open && sharing) share(ranks, g->size);
    bool done = open && run_all(ranks, g->size);
    if (done && chance(2)) { /* once more, with the memory as it is */
        for (uint32_t i = 0; i < g->size; i++)
            if (ranks[i].needs.recv) memset(ranks[i].recv, 0x55, ranks[i].needs.recv);
        done = run_all(ranks, g->size);
    }
    for (uint32_t i = 0; i < g->size && results && done; i++) {
        size_t bytes = ranks[i].needs.recv;
        if (first) {
            results[i] = malloc(bytes + 1);
            EXPECT(results[i] != NULL);
            if (bytes) memcpy(results[i], ranks[i].recv, bytes);
        } else {
            EXPECT(bytes == 0 || memcmp(results[i], ranks[i].recv, bytes) == 0);
        }
    }
    close_ranks(ranks, g->size);
    forget();
    return done;
}

static size_t choose_counts(const group *g, int64_t *counts) {
    tc_program *program;
    tc_program_facts facts;
    char text[TC_TEXT_BYTES];
    OK(tc_program_load(g->bytes[0], g->length[0], &program, text));
    OK(tc_program_info(program, &facts));
    tc_program_free(program);
    EXPECT(facts.rank == 0 && facts.size == g->size && facts.blocks <= 4096);
    int64_t scale = nets[0] && facts.blocks <= 8 && chance(4) == 0 ? 1000 : 1; /* longer than a part of a lane */
    for (size_t i = 0; i < 4096; i++) counts[i] = chance(4) ? scale * chance(9) : 0;
    bool whole = true; /* the vector holds all slots, so a table of sizes means the same to all ranks */
    for (uint32_t i = 0; i < g->size; i++) {
        int64_t header[16];
        memcpy(header, g->bytes[i], sizeof header);
        whole = whole && header[11] == header[4];
    }
    return whole && chance(3) ? facts.blocks : 0;
}

static void orders(const group *g, unsigned times) {
    static int64_t counts[4096];
    size_t n = choose_counts(g, counts);
    char *results[MOST_RANKS] = {0};
    for (unsigned k = 0; k < times; k++) {
        if (sharing) sharing = 1 + k % (SHARINGS - 1);
        EXPECT(run_group(g, counts, n, results, k == 0));
    }
    for (uint32_t i = 0; i < g->size; i++) free(results[i]);
}

/* --- programs that are none ------------------------------------------------------------------------------- */
static unsigned refused, ended, stuck;

static uint32_t odd_number(uint32_t old) {
    switch (chance(8)) {
    case 0: return old + 1;
    case 1: return old - 1;
    case 2: return chance(40) ? chance(64) : 0x7FFFFFFF;
    case 3: return chance(40) ? 0u - chance(64) : 0x80000000;
    case 4: return old ^ 1u << chance(chance(20) ? 8 : 32);
    default: return chance(9);
    }
}

static void change(unsigned char *bytes, uint64_t *length) {
    for (uint32_t k = 1 + chance(3); k; k--) {
        uint32_t at = 4 * chance((uint32_t)(*length / 4)), old, other = 4 * chance((uint32_t)(*length / 4));
        if (at < 128 && chance(8)) continue;
        memcpy(&old, bytes + at, 4);
        old = odd_number(old);
        if (chance(8) == 0) memcpy(&old, bytes + other, 4);
        memcpy(bytes + at, &old, 4);
    }
    if (chance(100) == 0) *length -= chance(200) % *length;
}

static void fuzz(const group *g) {
    static int64_t counts[4096];
    size_t n = choose_counts(g, counts);
    group changed = {.size = g->size};
    for (uint32_t i = 0; i < g->size; i++) {
        changed.length[i] = g->length[i];
        changed.bytes[i] = malloc(g->length[i]);
        EXPECT(changed.bytes[i] != NULL);
        memcpy(changed.bytes[i], g->bytes[i], g->length[i]);
    }
    uint32_t victim = chance(g->size);
    change(changed.bytes[victim], &changed.length[victim]);
    unsigned char *exact = malloc(changed.length[victim]); /* so that reading past the end is seen */
    EXPECT(exact != NULL || changed.length[victim] == 0);
    memcpy(exact, changed.bytes[victim], changed.length[victim]);
    free(changed.bytes[victim]);
    changed.bytes[victim] = exact;
    tc_program *program;
    char text[TC_TEXT_BYTES];
    if (tc_program_load(exact, changed.length[victim], &program, text) != TC_OK) {
        refused++;
    } else {
        tc_program_free(program);
        if (run_group(&changed, counts, n, NULL, false)) ended++;
        else stuck++;
    }
    for (uint32_t i = 0; i < g->size; i++) free(changed.bytes[i]);
}

/* --- every rank a thread ---------------------------------------------------------------------------------------- */
static unsigned calls;

static void *call_often(void *user) {
    rank *r = user;
    for (unsigned k = 0; k < calls; k++) {
        r->status = tc_run_call(r->run, r->send, r->recv, 0.01);
        while (r->status > 0) {
            if (r->status == TC_NEEDS_REDUCE) combine(r);
            r->status = tc_run_wait(r->run, 0.01);
        }
        if (r->status != TC_OK) break;
    }
    return NULL;
}

static void threads(const group *g) {
    static int64_t counts[4096];
    size_t n = choose_counts(g, counts);
    rank ranks[MOST_RANKS];
    pthread_t thread[MOST_RANKS];
    tc_mpi mpi = functions();
    memset(ranks, 0, sizeof ranks);
    for (uint32_t i = 0; i < g->size; i++)
        EXPECT(open_rank(&ranks[i], &mpi, g->bytes[i], g->length[i], i, g->size, counts, n));
    share(ranks, g->size);
    for (uint32_t i = 0; i < g->size; i++) EXPECT(pthread_create(&thread[i], NULL, call_often, &ranks[i]) == 0);
    for (uint32_t i = 0; i < g->size; i++) EXPECT(pthread_join(thread[i], NULL) == 0);
    for (uint32_t i = 0; i < g->size; i++) OK(ranks[i].status);
    close_ranks(ranks, g->size);
}

/* --- files ------------------------------------------------------------------------------------------------ */
static bool read_group(FILE *file, group *g) {
    if (fread(&g->size, 4, 1, file) != 1) return false;
    EXPECT(g->size >= 1 && g->size <= MOST_RANKS);
    for (uint32_t i = 0; i < g->size; i++) {
        EXPECT(fread(&g->length[i], 8, 1, file) == 1);
        g->bytes[i] = malloc(g->length[i]);
        EXPECT(g->bytes[i] != NULL && fread(g->bytes[i], g->length[i], 1, file) == 1);
    }
    return true;
}

int main(int argc, char **argv) {
    EXPECT(argc == 5);
    FILE *file = fopen(argv[1], "rb");
    EXPECT(file != NULL);
    unsigned times = (unsigned)atoi(argv[3]), groups = 0;
    bool fuzzing = strcmp(argv[2], "fuzz") == 0, puts = strcmp(argv[2], "puts") == 0;
    bool threaded = strcmp(argv[2], "threads") == 0, shares = strcmp(argv[4], "shared") == 0;
    calls = times;
    for (group g; read_group(file, &g); groups++) {
        wide = (int)groups & 1;
        for (unsigned k = 0; k < times && fuzzing; k++) {
            sharing = shares ? 1 + k % (SHARINGS - 1) : NOT_SHARED;
            fuzz(&g);
        }
        if (puts && groups % 50 == 0) { /* with room for all, or for few */
            if (groups) close_nets();
            open_nets((uint64_t)1 << (16 + 2 * (groups / 50 % 5)));
        }
        sharing = shares ? BY_READING + groups % 2 : NOT_SHARED;
        if (threaded) threads(&g);
        else if (!fuzzing) orders(&g, times);
        for (uint32_t i = 0; i < g.size; i++) free(g.bytes[i]);
    }
    if (puts) close_nets();
    fclose(file);
    free(operations);
    EXPECT(groups > 0);
    printf("%u groups, %u deliveries; of changed programs %u were refused, %u ended, %u did not\n", groups, delivered,
           refused, ended, stuck);
    printf("%lu messages put in %lu parts, %lu credits, %lu links\n", put_messages, put_parts, credits, links);
    return 0;
}
