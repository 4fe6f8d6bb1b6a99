/* Over libfabric, both ends in this process; arguments: provider, interface. What a holder may not do any more, or twice,
 * is refused or counted, never a crash and never data in another's memory; strided gets take one read per run. */
#include <fcntl.h>

#include "expect.h"
#include "internal.h"

static tc_options options;
static tc_context *group[2];
static unsigned char source[256];

static void drive(void) {
    OK(tc_context_progress(group[0]));
    OK(tc_context_progress(group[1]));
}

static void finish(tc_plan *plan) {
    int status = TC_AGAIN;
    for (long i = 0; i < 100000000 && status == TC_AGAIN; i++) {
        drive();
        status = tc_plan_test(plan);
    }
    OK(status);
    OK(tc_plan_free(plan));
}

static void arrive_at(tc_signal *signal) {
    int status = TC_AGAIN;
    for (long i = 0; i < 100000000 && status == TC_AGAIN; i++) {
        drive();
        status = tc_signal_test(signal);
    }
    OK(status);
}

static tc_plan *plan_of(tc_target *target, const void *data, tc_layout layout, uint64_t value) {
    tc_plan *plan;
    OK(tc_plan_create(group[0], TC_REMOTE, &plan));
    OK(tc_plan_put(plan, target, data, &layout, value));
    return plan;
}

static void values_have_eight_bits(void) {
    tc_memory *memory;
    tc_signal *signal;
    tc_block *block;
    tc_plan *plan;
    tc_event event;
    tc_layout layout = plain(0, 8);
    OK(tc_memory_allocate(group[1], 64, &memory));
    OK(tc_signal_create(group[1], TC_IDENTIFIED, &signal));
    tc_target *target = give(memory, layout, signal, group[0], 0, 3, &block);
    OK(tc_plan_create(group[0], TC_REMOTE, &plan));
    EXPECT_STATUS(tc_plan_put(plan, target, source, &layout, 256), TC_ERR_VALUE);
    OK(tc_plan_put(plan, target, source, &layout, 255));
    EXPECT_STATUS(tc_plan_value(plan, 0, 1ull << 40), TC_ERR_VALUE);
    OK(tc_plan_start(plan));
    finish(plan);
    OK(tc_signal_event_wait(signal, 5, &event));
    EXPECT(event.value == 255 && event.source == 0 && event.tag == 3 && event.epoch == 0 && event.bytes == 8);
}

/* A put that was on its way when its block was freed is a stray; one that would start after that is refused. */
static void freed_blocks(void) {
    tc_memory *memory;
    tc_signal *signal;
    tc_block *block;
    tc_target *again;
    tc_stats stats;
    void *base;
    unsigned char wire[TC_BLOCK_BYTES];
    size_t length;
    uint64_t bytes, epoch, expected, arrived, early, surplus;
    uint32_t item, peer_rank, tag;
    OK(tc_memory_allocate(group[1], 64, &memory));
    OK(tc_memory_base(memory, &base, &bytes));
    OK(tc_signal_create(group[1], TC_COUNTED, &signal));
    tc_target *target = give(memory, plain(8, 8), signal, group[0], 0, 77, &block);
    OK(tc_block_export(block, wire, sizeof wire, &length));
    tc_plan *plan = plan_of(target, source, plain(0, 8), 0);
    OK(tc_plan_start(plan)); /* the owner has not called in yet */
    OK(tc_block_free(block));
    finish(plan);
    OK(tc_context_stats(group[1], &stats));
    EXPECT(stats.strays == 1 && stats.control == 1);
    OK(tc_signal_state(signal, &epoch, &expected, &arrived, &early, &surplus));
    EXPECT(arrived == 0 && early == 0 && surplus == 0);
    unsigned char before[64];
    memcpy(before, base, sizeof before);
    plan = plan_of(target, source + 64, plain(0, 8), 0);
    EXPECT_STATUS(tc_plan_start(plan), TC_ERR_STALE);
    OK(tc_plan_culprit(plan, &item, &peer_rank, &tag));
    EXPECT(item == 0 && peer_rank == 1 && tag == 77);
    OK(tc_plan_free(plan));
    EXPECT_STATUS(tc_target_open(group[0], wire, length, &again), TC_ERR_STALE);
    OK(tc_target_close(target));
    OK(tc_signal_free(signal));
    OK(tc_memory_free(memory));
    for (int i = 0; i < 100; i++) drive();
    OK(tc_context_stats(group[1], &stats));
    EXPECT(stats.strays == 1);
}

/* A sender that counts its epochs wrongly gets in one message per epoch all the same. */
static void sent_twice(void) {
    tc_memory *memory;
    tc_signal *signal;
    tc_block *block;
    tc_stats stats;
    uint64_t epoch, expected, arrived, early, surplus;
    OK(tc_memory_allocate(group[1], 64, &memory));
    OK(tc_signal_create(group[1], TC_COUNTED, &signal));
    tc_target *target = give(memory, plain(0, 8), signal, group[0], 0, 1, &block);
    tc_plan *first = plan_of(target, source, plain(0, 8), 0), *second = plan_of(target, source, plain(0, 8), 0);
    OK(tc_plan_start(first));
    target->epoch = 0;
    OK(tc_plan_start(second));
    finish(first);
    finish(second);
    arrive_at(signal);
    OK(tc_signal_state(signal, &epoch, &expected, &arrived, &early, &surplus));
    EXPECT(arrived == 1 && surplus == 1);
    OK(tc_signal_rearm(signal));
    EXPECT_STATUS(tc_signal_test(signal), TC_AGAIN);
    OK(tc_context_stats(group[1], &stats));
    EXPECT(stats.surplus == 1);
}

/* More runs than there are slots; the owner's memory is only read, and its signal counts one message. */
static void strided_gets(void) {
    static unsigned char got[2][600];
    tc_memory *memory;
    tc_signal *signal;
    tc_block *blocks[2];
    tc_target *targets[2];
    tc_plan *plan;
    tc_stats before, after;
    void *base;
    uint64_t bytes;
    tc_layout there = {.offset = 3, .run = 5, .count = {4, 3, 10}, .stride = {500, 150, 12}};
    tc_layout here = {.offset = 0, .run = 60, .count = {10, 1, 1}, .stride = {60, 0, 0}};
    OK(tc_memory_allocate(group[1], 4096, &memory));
    OK(tc_memory_base(memory, &base, &bytes));
    OK(tc_signal_create(group[1], TC_COUNTED, &signal));
    unsigned char *data = base, *copy = malloc(4096);
    for (int i = 0; i < 4096; i++) copy[i] = data[i] = (unsigned char)(i * 7 + (i >> 8));
    OK(tc_plan_create(group[0], TC_LOCAL, &plan));
    for (int k = 0; k < 2; k++) {
        there.offset = 3 + 2000u * (uint32_t)k;
        targets[k] = give(memory, there, signal, group[0], 0, (uint32_t)k, &blocks[k]);
        OK(tc_plan_get(plan, targets[k], got[k], &here, 0));
    }
    OK(tc_context_stats(group[0], &before));
    OK(tc_plan_start(plan));
    finish(plan);
    OK(tc_context_stats(group[0], &after));
    EXPECT(after.messages - before.messages == 2 && after.pieces - before.pieces == 2 * (120 + 1));
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 600; i++) {
            int run = i / 5, at = 3 + 2000 * k + run / 30 * 500 + run / 10 % 3 * 150 + run % 10 * 12 + i % 5;
            EXPECT(got[k][i] == copy[at]);
        }
    arrive_at(signal);
    OK(tc_signal_rearm(signal));
    EXPECT(memcmp(data, copy, 4096) == 0);
    free(copy);
}

/* A strided block is freed while a put to it is under way: that put is a stray, and all else goes on. What is kept for
 * such puts is bounded. */
static void freed_under_way(void) {
    tc_memory *memory;
    tc_signal *signal;
    tc_block *block, *other;
    tc_stats before, after;
    tc_layout spread = {.offset = 0, .run = 8, .count = {4, 1, 1}, .stride = {16, 0, 0}};
    tc_layout far = {.offset = 0, .run = 1 << 20, .count = {16, 1, 1}, .stride = {1 << 20, 0, 0}};
    OK(tc_memory_allocate(group[1], 16 << 20, &memory));
    OK(tc_signal_create(group[1], TC_COUNTED, &signal));
    OK(tc_context_stats(group[1], &before));
    tc_target *target = give(memory, spread, signal, group[0], 0, 1, &block);
    tc_plan *plan = plan_of(target, source, plain(0, 32), 0);
    OK(tc_plan_start(plan));
    OK(tc_block_free(block));
    finish(plan);
    OK(tc_context_stats(group[1], &after));
    EXPECT(after.strays == before.strays + 1);
    target = give(memory, plain(0, 8), signal, group[0], 0, 2, &other);
    plan = plan_of(target, source + 1, plain(0, 8), 0);
    OK(tc_plan_start(plan));
    finish(plan);
    arrive_at(signal);
    OK(tc_block_free(other));
    for (int i = 0; i < 12; i++) {
        OK(tc_block_issue(memory, &far, signal, 0, 1, &block));
        while (tc_block_free(block) == TC_FULL) drive();
        drive();
        EXPECT(group[1]->old_bytes <= 64 << 20 || group[1]->old_count <= 4);
    }
    EXPECT(group[1]->old_count == 4);
    OK(tc_memory_free(memory));
}

static int count_descriptors(void) {
    int n = 0;
    for (int fd = 0; fd < 1024; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Strided blocks take no descriptor, and for peers in shared memory nothing lands anywhere else. */
static void strided_blocks_are_cheap(void) {
    tc_options both = options;
    tc_context *one;
    tc_memory *memory;
    tc_signal *signal;
    tc_block *block;
    tc_layout spread = {.offset = 0, .run = 8, .count = {4, 1, 1}, .stride = {16, 0, 0}};
    both.transports = TC_SHM | TC_OFI;
    open_group(1, &both, NULL, &one);
    tc_context *ends[2] = {one, group[1]};
    for (int k = 0; k < 2; k++) {
        OK(tc_memory_allocate(ends[k], 64, &memory));
        OK(tc_signal_create(ends[k], TC_COUNTED, &signal));
        int before = count_descriptors();
        for (int i = 0; i < 20; i++) {
            OK(tc_block_issue(memory, &spread, signal, 0, 1, &block));
            EXPECT((block->landing != NULL) == (k == 1));
        }
        EXPECT(count_descriptors() == before);
    }
    OK(tc_context_close(one));
}

/* Nothing, into an array of nothing; and nothing, at the very end of something. */
static void zero_bytes(void) {
    static unsigned char array[64];
    tc_memory *memory;
    tc_signal *signal;
    tc_block *block;
    for (uint64_t bytes = 0; bytes <= 64; bytes += 64) {
        OK(tc_memory_register(group[1], bytes ? array : NULL, bytes, &memory));
        OK(tc_signal_create(group[1], TC_COUNTED, &signal));
        tc_target *target = give(memory, plain(bytes, 0), signal, group[0], 0, 1, &block);
        tc_plan *plan = plan_of(target, NULL, plain(0, 0), 0);
        OK(tc_plan_start(plan));
        finish(plan);
        arrive_at(signal);
        OK(tc_signal_rearm(signal));
        OK(tc_plan_create(group[0], TC_LOCAL, &plan));
        tc_layout none = plain(0, 0);
        OK(tc_plan_get(plan, target, NULL, &none, 0));
        OK(tc_plan_start(plan));
        finish(plan);
        arrive_at(signal);
    }
}

/* A put is under way while its block's slot, the only one, is issued again many times. */
static void slot_used_often(void) {
    tc_options small = options;
    tc_memory *memory;
    tc_signal *signal;
    tc_block *block;
    tc_stats stats;
    tc_layout layout = plain(0, 8);
    small.blocks = 1;
    small.outstanding = 256;
    open_group(2, &small, NULL, group);
    OK(tc_memory_allocate(group[1], 8, &memory));
    OK(tc_signal_create(group[1], TC_COUNTED, &signal));
    tc_target *target = give(memory, layout, signal, group[0], 0, 1, &block);
    tc_plan *plan = plan_of(target, source, layout, 0);
    OK(tc_plan_start(plan));
    for (int i = 0; i < 8; i++) {
        OK(tc_block_free(block));
        OK(tc_block_issue(memory, &layout, signal, 0, 1, &block));
    }
    finish(plan);
    OK(tc_context_stats(group[1], &stats));
    EXPECT(stats.strays == 1);
    EXPECT_STATUS(tc_signal_test(signal), TC_AGAIN);
    OK(tc_context_close(group[0]));
    OK(tc_context_close(group[1]));
}

/* What comes late of a block freed earlier does not undo what is known of its slot's next one. */
static void freed_out_of_order(void) {
    message freed = {.kind = MESSAGE_FREED, .origin = 1, .block = 200, .magic = 0x54434d31u, .generation = 5};
    OK(tc_message_in(group[0], &freed, sizeof freed));
    freed.generation = 3;
    OK(tc_message_in(group[0], &freed, sizeof freed));
    EXPECT(group[0]->peers[1].freed[200] == 5);
}

static void names_without_end(void) {
    tc_context *none;
    tc_options long_names = options;
    memset(long_names.provider, 'x', sizeof long_names.provider);
    EXPECT_STATUS(tc_context_open(&long_names, &none), TC_ERR_ARGUMENT);
    long_names = options;
    memset(long_names.nics, 'x', sizeof long_names.nics);
    EXPECT_STATUS(tc_context_open(&long_names, &none), TC_ERR_ARGUMENT);
    long_names = options;
    long_names.outstanding = UINT32_MAX;
    EXPECT_STATUS(tc_context_open(&long_names, &none), TC_ERR_ARGUMENT);
}

int main(int argc, char **argv) {
    EXPECT(argc == 3);
    options = shm_options();
    options.transports = TC_OFI;
    snprintf(options.provider, sizeof options.provider, "%s", argv[1]);
    snprintf(options.nics, sizeof options.nics, "%s", argv[2]);
    for (options.outstanding = 3; options.outstanding < 300; options.outstanding *= 8) {
        for (size_t i = 0; i < sizeof source; i++) source[i] = (unsigned char)i;
        open_group(2, &options, NULL, group);
        freed_blocks();
        values_have_eight_bits();
        sent_twice();
        strided_gets();
        freed_under_way();
        strided_blocks_are_cheap();
        zero_bytes();
        freed_out_of_order();
        OK(tc_context_close(group[0]));
        OK(tc_context_close(group[1]));
    }
    slot_used_often();
    names_without_end();
    return 0;
}
