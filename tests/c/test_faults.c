/* What goes wrong between two ends: one message too many, notifications nobody takes, pieces that never come, no memory,
 * and a kernel that forbids cross-memory attach. */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "expect.h"
#include "internal.h"

static const unsigned char source[128];

static int nothing(void *user) {
    (void)user;
    return TC_OK;
}

/* Two ends, which may be one context, and a block of the second one's memory with a plan of the first to put there. */
typedef struct pair {
    tc_context *end[2];
    tc_memory *memory;
    tc_signal *signal;
    tc_block *block;
    tc_target *target;
    tc_plan *plan;
} pair;

static void equip(pair *p, uint32_t kind, uint32_t completion, uint64_t bytes, uint64_t value) {
    tc_layout layout = plain(0, bytes);
    OK(tc_memory_allocate(p->end[1], 64, &p->memory));
    OK(tc_signal_create(p->end[1], kind, &p->signal));
    p->target = give(p->memory, layout, p->signal, p->end[0], 0, 3, &p->block);
    OK(tc_plan_create(p->end[0], completion, &p->plan));
    OK(tc_plan_put(p->plan, p->target, source, &layout, value));
}

static pair open_pair(const tc_options *options, uint32_t kind) {
    pair p;
    open_group(2, options, NULL, p.end);
    equip(&p, kind, TC_LOCAL, 8, 0);
    return p;
}

static tc_context *alone;

static size_t missing_bytes; /* of a reply's data, at its first try */

static int hand_over(void *user, uint32_t peer_rank, const void *data, size_t bytes) {
    (void)user;
    (void)peer_rank;
    if (missing_bytes && ((const message *)data)->kind == MESSAGE_REPLY)
        EXPECT_STATUS(tc_message_in(alone, data, bytes - missing_bytes), TC_ERR_BLOCK);
    (void)tc_message_in(alone, data, bytes); /* what it refuses shows at the signal */
    return TC_OK;
}

/* One context that puts into its own memory over messages. */
static pair open_over_messages(tc_options options, uint32_t kind, uint32_t completion, uint64_t value) {
    pair p;
    unsigned char address[TC_ADDRESS_BYTES];
    size_t n;
    options.transports = TC_MSG;
    OK(tc_context_open(&options, &alone));
    OK(tc_context_messages(alone, hand_over, nothing, NULL));
    OK(tc_context_address(alone, address, sizeof address, &n));
    OK(tc_context_connect(alone, 0, address, n));
    p.end[0] = p.end[1] = alone;
    equip(&p, kind, completion, 8, value);
    return p;
}

static void close_pair(pair *p) {
    OK(tc_plan_free(p->plan));
    OK(tc_context_close(p->end[0]));
    if (p->end[1] != p->end[0]) OK(tc_context_close(p->end[1]));
}

/* A sender that counts its epochs wrongly sends two messages in one. */
static void surplus(void) {
    tc_options options = shm_options();
    pair p = open_pair(&options, TC_COUNTED);
    OK(tc_plan_start(p.plan));
    OK(tc_signal_wait(p.signal, 1));
    p.target->epoch = 0;
    OK(tc_plan_start(p.plan));
    EXPECT_STATUS(tc_signal_wait(p.signal, 1), TC_ERR_SURPLUS);
    EXPECT_STATUS(tc_signal_rearm(p.signal), TC_ERR_SURPLUS);
    EXPECT_STATUS(tc_signal_test(p.signal), TC_AGAIN); /* re-armed all the same */
    OK(tc_plan_start(p.plan));
    OK(tc_signal_wait(p.signal, 1));
    OK(tc_signal_rearm(p.signal));
    p.target->epoch = 1;
    OK(tc_plan_start(p.plan)); /* for the epoch before: late */
    EXPECT_STATUS(tc_signal_test(p.signal), TC_AGAIN);
    OK(tc_plan_start(p.plan));
    EXPECT_STATUS(tc_signal_wait(p.signal, 1), TC_ERR_SURPLUS);
    EXPECT_STATUS(tc_signal_rearm(p.signal), TC_ERR_SURPLUS);
    close_pair(&p);
}

/* Notifications that nobody takes fill their queue: in shared memory that holds the sender back, over messages some are
 * lost. The receiver is told, and neither its other signals nor what comes later are the worse for it. */
static void overflow(void) {
    tc_options options = shm_options();
    tc_event event;
    options.queue_depth = 4;
    pair p = open_pair(&options, TC_IDENTIFIED);
    for (int i = 0; i < 4; i++) {
        OK(tc_plan_start(p.plan));
        OK(tc_signal_wait(p.signal, 1));
        OK(tc_signal_rearm(p.signal));
    }
    OK(tc_plan_start(p.plan));
    EXPECT_STATUS(tc_plan_test(p.plan), TC_AGAIN);
    EXPECT_STATUS(tc_signal_wait(p.signal, 0.01), TC_ERR_OVERFLOW);
    for (uint64_t epoch = 0; epoch < 5; epoch++) {
        OK(tc_signal_event(p.signal, &event));
        EXPECT(event.epoch == epoch);
        if (epoch == 0) OK(tc_plan_test(p.plan));
    }
    OK(tc_signal_test(p.signal));
    EXPECT_STATUS(tc_signal_event(p.signal, &event), TC_AGAIN);
    close_pair(&p);

    p = open_over_messages(options, TC_IDENTIFIED, TC_LOCAL, 1ull << 63); /* values have 64 bits here */
    for (int i = 0; i < 4; i++) {
        OK(tc_plan_start(p.plan));
        OK(tc_signal_test(p.signal));
        OK(tc_signal_rearm(p.signal));
    }
    OK(tc_plan_start(p.plan)); /* the sender cannot know */
    OK(tc_signal_event(p.signal, &event));
    EXPECT(event.value == 1ull << 63);
    for (int i = 0; i < 3; i++) OK(tc_signal_event(p.signal, &event));
    EXPECT_STATUS(tc_signal_event(p.signal, &event), TC_ERR_OVERFLOW);
    EXPECT_STATUS(tc_signal_event(p.signal, &event), TC_AGAIN); /* said once */
    OK(tc_signal_wait(p.signal, 1));
    OK(tc_signal_rearm(p.signal));
    OK(tc_plan_start(p.plan));
    OK(tc_signal_event(p.signal, &event));
    EXPECT(event.epoch == 5);
    close_pair(&p);
}

/* Over messages a holder is told, too: of a freed block when it starts, of a stray when it asked to know. */
static void freed_over_messages(void) {
    pair p = open_over_messages(shm_options(), TC_COUNTED, TC_REMOTE, 0);
    tc_stats stats;
    OK(tc_plan_start(p.plan));
    OK(tc_plan_wait(p.plan, 1));
    OK(tc_block_free(p.block));
    EXPECT_STATUS(tc_plan_start(p.plan), TC_ERR_STALE);
    OK(tc_context_stats(alone, &stats));
    EXPECT(stats.strays == 0 && stats.messages == 1);
    close_pair(&p);
}

/* A reply that is shorter than it says is refused, and the whole one is still taken. */
static void short_reply(void) {
    pair p = open_over_messages(shm_options(), TC_COUNTED, TC_LOCAL, 0);
    unsigned char got[8] = {0};
    tc_layout layout = plain(0, 8);
    tc_plan *get;
    void *base;
    uint64_t bytes;
    OK(tc_memory_base(p.memory, &base, &bytes));
    memcpy(base, "8 bytes.", 8);
    OK(tc_plan_create(alone, TC_LOCAL, &get));
    OK(tc_plan_get(get, p.target, got, &layout, 0));
    missing_bytes = 1;
    OK(tc_plan_start(get));
    OK(tc_plan_wait(get, 1));
    missing_bytes = 0;
    EXPECT(memcmp(got, "8 bytes.", 8) == 0);
    OK(tc_plan_free(get));
    close_pair(&p);
}

/* Pieces that a network drops are missing by name: who, which block, how many of them came. */
static void dropped(void) {
    tc_options options = shm_options();
    int whole = 0, part = 0, none = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        tc_faults faults = {.seed = seed, .reorder = 1, .pieces = 3, .drop = 0.5};
        tc_missing missing[2];
        uint32_t n;
        pair p;
        open_group(2, &options, &faults, p.end);
        equip(&p, TC_COUNTED, TC_LOCAL, 64, 0);
        OK(tc_plan_start(p.plan));
        OK(tc_plan_wait(p.plan, 1));
        int status = tc_signal_wait(p.signal, 0.002);
        OK(tc_signal_missing(p.signal, missing, 2, &n));
        if (status == TC_OK) {
            EXPECT(n == 0);
            whole++;
        } else {
            EXPECT_STATUS(status, TC_ERR_TIMEOUT);
            EXPECT(n == 1 && missing[0].source == 0 && missing[0].tag == 3 && missing[0].pieces <= 3);
            EXPECT(missing[0].pieces ? missing[0].arrived && missing[0].arrived != (1u << missing[0].pieces) - 1
                                     : !missing[0].arrived);
            *(missing[0].pieces ? &part : &none) += 1;
        }
        close_pair(&p);
    }
    EXPECT(whole > 0 && part > 0 && none > 0);
}

/* Who waits for an answer of a network that drops everything is never told that all is well. */
static void dropped_answers(void) {
    tc_options options = shm_options();
    tc_faults faults = {.drop = 1};
    unsigned char got[8] = {7};
    tc_layout layout = plain(0, 8);
    tc_plan *get;
    pair p;
    open_group(2, &options, &faults, p.end);
    equip(&p, TC_COUNTED, TC_REMOTE, 8, 0);
    OK(tc_plan_start(p.plan));
    EXPECT_STATUS(tc_plan_wait(p.plan, 0.01), TC_ERR_TIMEOUT);
    OK(tc_plan_create(p.end[0], TC_LOCAL, &get));
    OK(tc_plan_get(get, p.target, got, &layout, 0));
    OK(tc_plan_start(get));
    EXPECT_STATUS(tc_plan_wait(get, 0.01), TC_ERR_TIMEOUT);
    EXPECT(got[0] == 7);
    OK(tc_context_flush(p.end[0], 1));
    OK(tc_plan_free(get)); /* nothing is under way */
    close_pair(&p);
}

/* In shared memory, too, pieces are counted where they start, and what came twice where it came. */
static void counts(void) {
    tc_options options = shm_options();
    tc_faults faults = {.seed = 1, .pieces = 3, .duplicate = 1};
    tc_stats sent, came;
    pair p;
    options.signals = 1;
    open_group(2, &options, &faults, p.end);
    equip(&p, TC_COUNTED, TC_LOCAL, 64, 0);
    OK(tc_plan_start(p.plan));
    OK(tc_plan_wait(p.plan, 1));
    OK(tc_context_flush(p.end[0], 1));
    OK(tc_signal_wait(p.signal, 1));
    OK(tc_context_stats(p.end[0], &sent));
    OK(tc_context_stats(p.end[1], &came));
    EXPECT(sent.messages == 1 && sent.pieces >= 2 && sent.pieces % 2 == 0 && sent.surplus == 0);
    EXPECT(came.pieces == 0 && came.surplus == sent.pieces / 2);
    OK(tc_block_free(p.block));
    OK(tc_signal_free(p.signal));
    OK(tc_signal_create(p.end[1], TC_COUNTED, &p.signal)); /* where the freed one was */
    OK(tc_context_stats(p.end[1], &came));
    EXPECT(came.surplus == sent.pieces / 2);
    close_pair(&p);
}

static void no_memory(void) {
    tc_options options = shm_options();
    struct rlimit old, few;
    tc_context *none;
    tc_memory *m;
    int open = 0;
    pair p = open_pair(&options, TC_COUNTED);
    DIR *dir = opendir("/proc/self/fd");
    EXPECT(dir != NULL);
    while (readdir(dir)) open++;
    closedir(dir);
    EXPECT(getrlimit(RLIMIT_NOFILE, &old) == 0);
    few = old;
    few.rlim_cur = 3;
    EXPECT(setrlimit(RLIMIT_NOFILE, &few) == 0);
    EXPECT_STATUS(tc_memory_allocate(p.end[1], 64, &m), TC_ERR_NO_MEMORY);
    EXPECT_STATUS(tc_context_open(&options, &none), TC_ERR_NO_MEMORY);
    EXPECT(setrlimit(RLIMIT_NOFILE, &old) == 0);
    OK(tc_memory_allocate(p.end[1], 64, &m));
    OK(tc_memory_free(m));
    dir = opendir("/proc/self/fd");
    while (readdir(dir)) open--;
    closedir(dir);
    EXPECT(open == 0);
    close_pair(&p);
}

/* A kernel that forbids cross-memory attach, from here on: registered arrays are refused, allocated memory is not. */
static void denied(void) {
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1 /* EPERM */),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rules / sizeof rules[0], rules};
    tc_options options = shm_options();
    tc_layout layout = plain(0, 64);
    static unsigned char array[64];
    tc_memory *private;
    tc_block *b;
    tc_target *t;
    unsigned char bytes[TC_BLOCK_BYTES];
    size_t n;
    tc_capability list[3 + TC_MAX_RAILS];
    uint32_t count;
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    pair p = open_pair(&options, TC_COUNTED);
    OK(tc_plan_start(p.plan));
    OK(tc_signal_wait(p.signal, 1));
    OK(tc_memory_register(p.end[1], array, sizeof array, &private));
    OK(tc_block_issue(private, &layout, p.signal, 0, 8, &b));
    OK(tc_block_export(b, bytes, sizeof bytes, &n));
    EXPECT_STATUS(tc_target_open(p.end[0], bytes, n, &t), TC_ERR_DENIED);
    OK(tc_capabilities(p.end[0], list, 3 + TC_MAX_RAILS, &count));
    EXPECT(strstr(list[0].note, "forbidden by the kernel"));
    close_pair(&p);
}

int main(void) {
    surplus();
    overflow();
    freed_over_messages();
    short_reply();
    dropped();
    dropped_answers();
    counts();
    no_memory();
    denied();
    return 0;
}
