/* Everybody puts to everybody, in threads, with alternating buffers and checked mode: sizes around every boundary,
 * strided on both sides, under a simulated network that cuts, reorders, delays and repeats. All bytes are checked on
 * every notification, and so are the bytes around them.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "expect.h"

#define MAX_RANKS 8
#define BUFFERS 2
#define GUARD 64

typedef struct shape {
    const char *name;
    tc_layout here, there; /* of the source, and in the target's area */
    uint64_t head;         /* bytes that come from memory of their own */
} shape;

static const shape shapes[] = {
    {"zero", {0, 0, {1, 1, 1}, {0}}, {0, 0, {1, 1, 1}, {0}}, 0},
    {"byte", {0, 1, {1, 1, 1}, {0}}, {0, 1, {1, 1, 1}, {0}}, 0},
    {"odd", {3, 1021, {1, 1, 1}, {0}}, {5, 1021, {1, 1, 1}, {0}}, 0},
    {"columns", {0, 24, {5, 7, 1}, {800, 96, 0}}, {8, 8, {3, 5, 7}, {1400, 240, 24}}, 0},
    {"packed here", {0, 840, {1, 1, 1}, {0}}, {16, 8, {3, 5, 7}, {1400, 240, 24}}, 0},
    {"packed there", {8, 12, {10, 7, 1}, {200, 24, 0}}, {0, 840, {1, 1, 1}, {0}}, 0},
    {"large", {0, 70000, {1, 1, 1}, {0}}, {0, 70000, {1, 1, 1}, {0}}, 0},
    {"headed", {3, 1021, {1, 1, 1}, {0}}, {5, 1021, {1, 1, 1}, {0}}, 32},
    {"head alone", {0, 24, {1, 1, 1}, {0}}, {5, 24, {1, 1, 1}, {0}}, 24},
    {"large headed", {0, 70032, {1, 1, 1}, {0}}, {0, 70032, {1, 1, 1}, {0}}, 32},
};
#define AREA 80000

static uint32_t ranks, rounds;
static _Atomic uint32_t finished;
static const shape *current;
static tc_context *group[MAX_RANKS];
static tc_memory *memories[MAX_RANKS];
static tc_signal *signals[MAX_RANKS][BUFFERS];
static tc_block *blocks[MAX_RANKS][MAX_RANKS][BUFFERS];
static tc_target *targets[MAX_RANKS][MAX_RANKS][BUFFERS]; /* [holder][owner] */

static unsigned char datum(uint32_t from, uint32_t to, uint32_t round, uint64_t at) {
    return (unsigned char)(from * 31 + to * 17 + round * 7 + at * 13 + (at >> 8));
}

static uint64_t place(const tc_layout *l, uint64_t at) {
    uint64_t run = at / l->run, c2 = run % l->count[2], c1 = run / l->count[2] % l->count[1],
             c0 = run / l->count[2] / l->count[1];
    return l->offset + c0 * l->stride[0] + c1 * l->stride[1] + c2 * l->stride[2] + at % l->run;
}

static uint64_t length(const tc_layout *l) {
    return l->run * l->count[0] * l->count[1] * l->count[2];
}

static uint64_t area_of(uint32_t from, int buffer) {
    return (from * BUFFERS + (uint64_t)buffer) * (AREA + GUARD);
}

static void check(uint32_t me, uint32_t from, uint32_t round, unsigned char *all, unsigned char *mirror) {
    unsigned char *area = all + area_of(from, round % BUFFERS);
    memset(mirror, 0xee, AREA + GUARD);
    for (uint64_t at = 0; at < length(&current->there); at++)
        mirror[place(&current->there, at)] = datum(from, me, round, at);
    EXPECT(memcmp(area, mirror, AREA + GUARD) == 0);
}

/* Everybody reads what it wrote in the last round but one; the owner's signal counts that like a put. */
static void read_back(uint32_t me, unsigned char *source) {
    int b = rounds % BUFFERS;
    tc_plan *plan;
    OK(tc_plan_create(group[me], TC_LOCAL, &plan));
    memset(source, 0xee, (size_t)ranks * AREA);
    for (uint32_t to = 0; to < ranks; to++)
        OK(tc_plan_get(plan, targets[me][to][b], source + to * AREA, &current->here, 0));
    OK(tc_plan_start(plan));
    OK(tc_plan_wait(plan, 30));
    for (uint32_t to = 0; to < ranks; to++)
        for (uint64_t at = 0; at < length(&current->here); at++)
            EXPECT(source[to * AREA + place(&current->here, at)] == datum(me, to, rounds - BUFFERS, at));
    OK(tc_signal_wait(signals[me][b], 30));
    EXPECT_STATUS(tc_signal_rearm(signals[me][b]), TC_OK);
    OK(tc_plan_free(plan));
}

static void add(tc_plan *plan, tc_target *target, const unsigned char *source, const unsigned char *head, uint32_t me) {
    uint64_t first = current->here.offset + current->head;
    if (current->head)
        OK(tc_plan_put_headed(plan, target, 0, head, current->head, source + first, length(&current->here) - current->head,
                              me));
    else
        OK(tc_plan_put(plan, target, source, &current->here, me));
}

/* Keep a message's head apart, and spoil where it was. */
static void behead(unsigned char *head, unsigned char *source) {
    memcpy(head, source + current->here.offset, current->head);
    memset(source + current->here.offset, 0x77, current->head);
}

static void *work(void *user) {
    uint32_t me = (uint32_t)(uintptr_t)user;
    unsigned char *source = malloc((size_t)MAX_RANKS * AREA), *mirror = malloc(AREA + GUARD);
    unsigned char heads[MAX_RANKS][32];
    tc_plan *plans[BUFFERS];
    void *all;
    uint64_t bytes;
    OK(tc_memory_base(memories[me], &all, &bytes));
    for (int b = 0; b < BUFFERS; b++) {
        OK(tc_plan_create(group[me], TC_REMOTE, &plans[b]));
        for (uint32_t to = 0; to < ranks; to++) add(plans[b], targets[me][to][b], source + to * AREA, heads[to], me);
        EXPECT_STATUS(tc_plan_clear(plans[b]), TC_OK);
        for (uint32_t to = 0; to < ranks; to++) add(plans[b], targets[me][to][b], source + to * AREA, heads[to], me);
    }
    for (uint32_t round = 0; round < rounds; round++) {
        int b = round % BUFFERS;
        for (uint32_t to = 0; to < ranks; to++)
            for (uint64_t at = 0; at < length(&current->here); at++)
                source[to * AREA + place(&current->here, at)] = datum(me, to, round, at);
        for (uint32_t to = 0; to < ranks; to++) behead(heads[to], source + to * AREA);
        OK(tc_plan_start(plans[b]));
        OK(tc_plan_wait(plans[b], 30));
        OK(tc_signal_wait(signals[me][b], 30));
        for (uint32_t from = 0; from < ranks; from++) check(me, from, round, all, mirror);
        EXPECT_STATUS(tc_signal_rearm(signals[me][b]), TC_OK);
    }
    read_back(me, source);
    OK(tc_context_flush(group[me], 30));
    atomic_fetch_add(&finished, 1); /* who has nothing left to do still answers the others */
    while (atomic_load(&finished) < ranks) OK(tc_context_progress(group[me]));
    for (int b = 0; b < BUFFERS; b++) OK(tc_plan_free(plans[b]));
    free(source);
    free(mirror);
    return NULL;
}

static void prepare(const tc_options *options, const tc_faults *faults) {
    open_group(ranks, options, faults, group);
    for (uint32_t me = 0; me < ranks; me++) {
        void *base;
        uint64_t bytes;
        OK(tc_memory_allocate(group[me], ranks * BUFFERS * (uint64_t)(AREA + GUARD), &memories[me]));
        OK(tc_memory_base(memories[me], &base, &bytes));
        memset(base, 0xee, bytes);
        for (int b = 0; b < BUFFERS; b++) {
            OK(tc_signal_create(group[me], TC_COUNTED, &signals[me][b]));
            for (uint32_t from = 0; from < ranks; from++) {
                tc_layout there = current->there;
                there.offset += area_of(from, b);
                targets[from][me][b] = give(memories[me], there, signals[me][b], group[from], from, 10u + b,
                                            &blocks[me][from][b]);
            }
        }
    }
}

static void run(const tc_options *options, const tc_faults *faults) {
    pthread_t threads[MAX_RANKS];
    tc_stats stats;
    prepare(options, faults);
    atomic_store(&finished, 0);
    for (uintptr_t r = 0; r < ranks; r++) EXPECT(pthread_create(&threads[r], NULL, work, (void *)r) == 0);
    for (uint32_t r = 0; r < ranks; r++) pthread_join(threads[r], NULL);
    for (uint32_t r = 0; r < ranks; r++) {
        uint64_t epoch, expected, arrived, early, surplus;
        OK(tc_context_stats(group[r], &stats));
        EXPECT(stats.messages == (uint64_t)ranks * (rounds + 1));
        EXPECT(stats.control == (options->checked && options->transports == TC_OFI ? stats.messages : 0));
        OK(tc_signal_state(signals[r][0], &epoch, &expected, &arrived, &early, &surplus));
        EXPECT(expected == ranks && early == 0 && (faults || surplus == 0));
    }
    for (uint32_t r = 0; r < ranks; r++) OK(tc_context_close(group[r]));
}

int main(int argc, char **argv) {
    tc_options options = shm_options();
    tc_faults faults = {.seed = 1, .reorder = 1, .pieces = 3, .delay_us = 50, .duplicate = 0.2};
    rounds = argc > 1 ? (uint32_t)atoi(argv[1]) : 20;
    options.blocks = 512;
    if (argc > 3) { /* over libfabric instead: provider, and two rails of the same interface */
        options.transports = TC_OFI;
        snprintf(options.provider, sizeof options.provider, "%s", argv[2]);
        snprintf(options.nics, sizeof options.nics, "%s", argv[3]);
        options.stripe_from = 512;
        options.weights[1] = 2;
    }
    options.progress_thread = argc > 4;
    bool network = argc > 3, thread = argc > 4; /* opening a context over libfabric takes long: fewer of them */
    for (int checked = thread; checked < 2; checked++)
        for (int faulty = network ? checked : 0; faulty <= (network ? checked : 1); faulty++)
            for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s += thread ? 3 : 1) {
                current = &shapes[s];
                EXPECT(length(&current->here) == length(&current->there));
                options.checked = (uint32_t)checked;
                ranks = 2 + (uint32_t)s % 3;
                faults.seed = s + 1;
                run(&options, faulty ? &faults : NULL);
            }
    ranks = thread ? 3 : 8;
    current = &shapes[2];
    run(&options, &faults);
    printf("%zu shapes, %u rounds\n", sizeof shapes / sizeof shapes[0], rounds);
    return 0;
}
