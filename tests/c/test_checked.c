/* Checked mode for long, and with many blocks: proofs longer than one message, numbers and epochs beyond 32 bits, tickets
 * opened again. Arguments: for libfabric provider and interface, else shared memory. */
#include "expect.h"
#include "internal.h"

#define MANY 1100u

static tc_options options;
static tc_context *group[2];
static unsigned char source[8];
static const tc_layout eight = {.run = 8, .count = {1, 1, 1}};

static void drive(int times) {
    for (int i = 0; i < times; i++)
        for (int r = 0; r < 2; r++) OK(tc_context_progress(group[r]));
}

static void finish(tc_plan *plan, tc_signal *signal) {
    int here = TC_AGAIN, there = TC_AGAIN;
    for (double end = now() + 20; (here == TC_AGAIN || there == TC_AGAIN) && now() < end;) {
        drive(1);
        here = tc_plan_test(plan);
        there = tc_signal_test(signal);
    }
    OK(here);
    OK(there);
}

typedef struct side { /* blocks of one rank, and a plan of the other that puts to all of them */
    tc_memory *memory;
    tc_signal *signal;
    tc_block *block[MANY];
    tc_target *target[MANY];
    tc_plan *plan;
} side;

static void equip(side *s, uint32_t owner, uint32_t count, uint64_t epoch) {
    OK(tc_memory_allocate(group[owner], 8 * count, &s->memory));
    OK(tc_signal_create(group[owner], TC_COUNTED, &s->signal));
    atomic_store(&s->signal->shared->epoch, epoch); /* as if it had gone through as many */
    OK(tc_plan_create(group[1 - owner], TC_LOCAL, &s->plan));
    for (uint32_t i = 0; i < count; i++) {
        s->target[i] = give(s->memory, plain(8 * i, 8), s->signal, group[1 - owner], 1 - owner, i, &s->block[i]);
        OK(tc_plan_put(s->plan, s->target[i], source, &eight, 0));
    }
}

/* What a peer has been told is not repeated with the next message to it. */
static void tells_once(void) {
    static side more;
    tc_stats before, after;
    equip(&more, 0, 1, 0);
    OK(tc_context_stats(group[1], &before));
    OK(tc_plan_start(more.plan));
    finish(more.plan, more.signal);
    OK(tc_context_stats(group[1], &after));
    EXPECT(after.control - before.control == 1);
    OK(tc_plan_free(more.plan));
}

/* There and back: each way proves that what went the other way in the round before has been read. */
static void rounds(uint32_t count, uint64_t epoch, uint64_t sent, int times) {
    static side to, back;
    open_group(2, &options, NULL, group);
    for (int r = 0; r < 2; r++) group[r]->peers[1 - r].sent = sent;
    equip(&to, 1, count, epoch);
    equip(&back, 0, 1, epoch);
    for (int i = 0; i < times; i++) {
        OK(tc_plan_start(to.plan));
        finish(to.plan, to.signal);
        OK(tc_signal_rearm(to.signal));
        drive(20);
        if (i == times / 2) EXPECT_STATUS(tc_plan_start(to.plan), TC_ERR_NOT_PROVEN); /* nothing came back since */
        OK(tc_plan_start(back.plan));
        finish(back.plan, back.signal);
        OK(tc_signal_rearm(back.signal));
        drive(20);
    }
    if (group[0]->transports[AT_OFI]) tells_once();
    EXPECT(atomic_load(&to.signal->shared->epoch) == epoch + (uint64_t)times);
    OK(tc_plan_free(to.plan));
    OK(tc_plan_free(back.plan));
    OK(tc_context_close(group[0]));
    OK(tc_context_close(group[1]));
}

/* What has been put to is not opened again, as its epochs are not known any more; what has not been used may be. */
static void opened_again(void) {
    static side s;
    tc_target *twin;
    unsigned char wire[TC_BLOCK_BYTES];
    size_t length;
    open_group(2, &options, NULL, group);
    equip(&s, 1, 1, 0);
    OK(tc_block_export(s.block[0], wire, sizeof wire, &length));
    EXPECT_STATUS(tc_target_open(group[0], wire, length, &twin), TC_ERR_OPENED);
    OK(tc_plan_free(s.plan));
    OK(tc_target_close(s.target[0]));
    OK(tc_target_open(group[0], wire, length, &twin));
    OK(tc_plan_create(group[0], TC_LOCAL, &s.plan));
    OK(tc_plan_put(s.plan, twin, source, &eight, 0));
    OK(tc_plan_start(s.plan));
    finish(s.plan, s.signal);
    OK(tc_plan_free(s.plan));
    OK(tc_target_close(twin));
    EXPECT_STATUS(tc_target_open(group[0], wire, length, &twin), TC_ERR_OPENED);
    OK(tc_signal_rearm(s.signal));
    unsigned char next[TC_BLOCK_BYTES];
    for (uint32_t i = 0; i < options.blocks; i++) { /* until its slot is used again, for a new generation */
        OK(tc_block_free(s.block[0]));
        OK(tc_block_issue(s.memory, &eight, s.signal, 0, i, &s.block[0]));
        drive(1);
    }
    OK(tc_block_export(s.block[0], next, sizeof next, &length));
    OK(tc_target_open(group[0], next, length, &twin));
    OK(tc_target_close(twin));
    drive(100);
    EXPECT_STATUS(tc_target_open(group[0], wire, length, &twin), TC_ERR_STALE);
    OK(tc_context_close(group[0]));
    OK(tc_context_close(group[1]));
}

int main(int argc, char **argv) {
    options = shm_options();
    options.blocks = 2 * MANY;
    options.checked = 1;
    if (argc > 2) {
        options.transports = TC_OFI;
        snprintf(options.provider, sizeof options.provider, "%s", argv[1]);
        snprintf(options.nics, sizeof options.nics, "%s", argv[2]);
    }
    rounds(MANY, 0, 0, 3);
    rounds(1, (1ull << 32) - 3, 0, 8);
    rounds(1, (1ull << 16) - 3, (1ull << 32) - 5, 8);
    rounds(1, 0, 5ull << 32, 8);
    opened_again();
    return 0;
}
