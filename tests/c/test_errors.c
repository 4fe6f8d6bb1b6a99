/* The error codes that one process can provoke on purpose, and that nothing moves when they are. */
#include "expect.h"

static tc_context *group[2];
static tc_memory *memory;
static tc_signal *counted, *stream;
static tc_block *block;
static tc_target *target;
static unsigned char source[128], wire[TC_BLOCK_BYTES];
static size_t length;

static tc_plan *plan_of(tc_target *t, uint64_t bytes) {
    tc_plan *plan;
    tc_layout layout = plain(0, bytes);
    OK(tc_plan_create(group[0], TC_LOCAL, &plan));
    OK(tc_plan_put(plan, t, source, &layout, 0));
    return plan;
}

static void bad_arguments(void) {
    tc_options options = shm_options();
    tc_context *none;
    tc_plan *plan;
    tc_layout layout = plain(0, 64);
    uint32_t kind;
    EXPECT_STATUS(tc_context_open(NULL, &none), TC_ERR_ARGUMENT);
    options.rank = 1;
    EXPECT_STATUS(tc_context_open(&options, &none), TC_ERR_ARGUMENT);
    EXPECT_STATUS(tc_signal_create(group[1], 99, &counted), TC_ERR_ARGUMENT);
    EXPECT_STATUS(tc_peer_transport(group[0], 7, &kind), TC_ERR_ARGUMENT);
    EXPECT_STATUS(tc_plan_create(group[0], 5, &plan), TC_ERR_ARGUMENT);
    OK(tc_plan_create(group[0], TC_LOCAL, &plan));
    EXPECT_STATUS(tc_plan_put(plan, target, NULL, &layout, 0), TC_ERR_ARGUMENT);
    OK(tc_plan_put(plan, target, source, &layout, 0));
    EXPECT_STATUS(tc_plan_put(plan, target, source, &layout, 0), TC_ERR_ARGUMENT); /* twice in one epoch */
    OK(tc_plan_free(plan));
}

static void bad_ranges(void) {
    tc_block *b;
    tc_plan *plan;
    tc_layout over = plain(65, 64), wraps = plain(UINT64_MAX, 2), far = plain(0, 8), small = plain(0, 63);
    far.count[0] = 3;
    far.stride[0] = 61;
    EXPECT_STATUS(tc_block_issue(memory, &over, counted, 0, 0, &b), TC_ERR_RANGE);
    EXPECT_STATUS(tc_block_issue(memory, &wraps, counted, 0, 0, &b), TC_ERR_RANGE);
    EXPECT_STATUS(tc_block_issue(memory, &far, counted, 0, 0, &b), TC_ERR_RANGE);
    OK(tc_plan_create(group[0], TC_LOCAL, &plan));
    EXPECT_STATUS(tc_plan_put(plan, target, source, &small, 0), TC_ERR_RANGE);
    EXPECT_STATUS(tc_plan_put_part(plan, target, 2, source, &small, 0), TC_ERR_RANGE);
    EXPECT_STATUS(tc_plan_put_headed(plan, target, 0, source, small.run, source, UINT64_MAX, 0), TC_ERR_RANGE);
    EXPECT_STATUS(tc_plan_put_headed(plan, target, 1, NULL, 1, source, 1, 0), TC_ERR_ARGUMENT);
    OK(tc_plan_put_part(plan, target, 1, source, &small, 0));
    OK(tc_plan_free(plan));
}

static void bad_blocks(void) {
    tc_target *t;
    unsigned char broken[TC_BLOCK_BYTES];
    EXPECT_STATUS(tc_target_open(group[0], wire, 10, &t), TC_ERR_BLOCK);
    memcpy(broken, wire, sizeof wire);
    broken[40] ^= 1;
    EXPECT_STATUS(tc_target_open(group[0], broken, length, &t), TC_ERR_BLOCK);
    EXPECT_STATUS(tc_target_open(group[1], wire, length, &t), TC_ERR_NOT_YOURS);
    EXPECT_STATUS(tc_signal_take(counted, 1), TC_ERR_UNSUPPORTED);
    EXPECT_STATUS(tc_signal_test(stream), TC_ERR_UNSUPPORTED);
}

static void freed_and_stale(void) {
    tc_block *b;
    tc_signal *s;
    tc_memory *m;
    tc_layout layout = plain(0, 16);
    uint32_t item, peer_rank, tag;
    OK(tc_memory_allocate(group[1], 64, &m));
    OK(tc_signal_create(group[1], TC_COUNTED, &s));
    tc_target *t = give(m, layout, s, group[0], 0, 77, &b);
    tc_plan *plan = plan_of(t, 16);
    EXPECT_STATUS(tc_target_close(t), TC_ERR_BUSY);
    EXPECT_STATUS(tc_memory_free(m), TC_ERR_BUSY);
    EXPECT_STATUS(tc_signal_free(s), TC_ERR_BUSY);
    OK(tc_block_free(b));
    EXPECT_STATUS(tc_block_free(b), TC_ERR_FREED);
    EXPECT_STATUS(tc_plan_start(plan), TC_ERR_STALE);
    OK(tc_plan_culprit(plan, &item, &peer_rank, &tag));
    EXPECT(item == 0 && peer_rank == 1 && tag == 77);
    OK(tc_plan_free(plan));
    OK(tc_target_close(t));
    EXPECT_STATUS(tc_target_close(t), TC_ERR_FREED);
    OK(tc_signal_free(s));
    EXPECT_STATUS(tc_signal_test(s), TC_ERR_FREED);
    OK(tc_memory_free(m));
    EXPECT_STATUS(tc_memory_free(m), TC_ERR_FREED);
    EXPECT_STATUS(tc_block_issue(m, &layout, counted, 0, 0, &b), TC_ERR_FREED);
}

/* Three epochs unread fill the lanes: the fourth put is held back, and goes when one is consumed. */
static void back_pressure(void) {
    tc_plan *plan = plan_of(target, 64);
    uint64_t epoch, expected, arrived, early, surplus;
    for (int i = 0; i < 3; i++) OK(tc_plan_start(plan));
    memset(source, 9, sizeof source);
    EXPECT_STATUS(tc_plan_start(plan), TC_FULL);
    OK(tc_signal_state(counted, &epoch, &expected, &arrived, &early, &surplus));
    EXPECT(epoch == 0 && expected == 1 && arrived == 1 && early == 2 && surplus == 0);
    for (int i = 0; i < 3; i++) {
        OK(tc_signal_test(counted));
        OK(tc_signal_rearm(counted));
    }
    EXPECT_STATUS(tc_signal_test(counted), TC_AGAIN);
    EXPECT_STATUS(tc_signal_rearm(counted), TC_AGAIN);
    EXPECT_STATUS(tc_plan_start_after(plan, counted), TC_ERR_BUSY);
    OK(tc_plan_start(plan));
    OK(tc_plan_start_after(plan, counted));
    OK(tc_signal_test(counted));
    OK(tc_signal_rearm(counted));
    OK(tc_plan_free(plan));
}

static void time_out_names_the_missing(void) {
    tc_missing missing[4];
    uint32_t n;
    EXPECT_STATUS(tc_signal_wait(counted, 0.01), TC_ERR_TIMEOUT);
    OK(tc_signal_missing(counted, missing, 4, &n));
    EXPECT(n == 1 && missing[0].source == 0 && missing[0].tag == 5 && missing[0].pieces == 0);
}

static void limits(void) {
    tc_signal *s[70];
    int made = 0, status;
    while ((status = tc_signal_create(group[1], TC_COUNTED, &s[made])) == TC_OK) made++;
    EXPECT_STATUS(status, TC_ERR_LIMIT);
    EXPECT(made == 62);
    while (made > 0) OK(tc_signal_free(s[--made]));
}

/* A put that is not proven: the owner consumed the epoch, but nothing received says so. */
static void not_proven(void) {
    tc_options options = shm_options();
    tc_context *pair[2];
    tc_memory *m;
    tc_signal *s;
    tc_block *b;
    options.checked = 1;
    open_group(2, &options, NULL, pair);
    OK(tc_memory_allocate(pair[1], 64, &m));
    OK(tc_signal_create(pair[1], TC_COUNTED, &s));
    tc_target *t = give(m, plain(0, 8), s, pair[0], 0, 3, &b);
    tc_plan *plan;
    tc_layout layout = plain(0, 8);
    void *base;
    uint64_t bytes;
    OK(tc_memory_base(m, &base, &bytes));
    OK(tc_plan_create(pair[0], TC_LOCAL, &plan));
    OK(tc_plan_put(plan, t, source, &layout, 0));
    OK(tc_plan_start(plan));
    OK(tc_signal_wait(s, 1));
    OK(tc_signal_rearm(s));
    memset(source, 1, 8);
    EXPECT_STATUS(tc_plan_start(plan), TC_ERR_NOT_PROVEN);
    EXPECT(memcmp(base, source, 8) != 0);
    OK(tc_plan_free(plan));
    OK(tc_context_close(pair[0]));
    OK(tc_context_close(pair[1]));
}

static int refuse(void *user, uint32_t peer_rank, const void *data, size_t bytes) {
    (void)user, (void)peer_rank, (void)data, (void)bytes;
    return TC_ERR_TRANSPORT;
}

static int nothing(void *user) {
    (void)user;
    return TC_OK;
}

static void network_fails(void) {
    tc_options options = shm_options();
    tc_context *one;
    tc_memory *m;
    tc_signal *s;
    tc_block *b;
    tc_plan *plan;
    unsigned char address[TC_ADDRESS_BYTES];
    size_t bytes;
    tc_layout layout = plain(0, 8);
    options.transports = TC_MSG;
    OK(tc_context_open(&options, &one));
    OK(tc_context_address(one, address, sizeof address, &bytes));
    EXPECT_STATUS(tc_context_connect(one, 0, address, bytes), TC_ERR_UNREACHABLE);
    OK(tc_context_messages(one, refuse, nothing, NULL));
    OK(tc_context_connect(one, 0, address, bytes));
    EXPECT_STATUS(tc_context_connect(one, 0, address, bytes), TC_ERR_BUSY);
    OK(tc_memory_allocate(one, 64, &m));
    OK(tc_signal_create(one, TC_COUNTED, &s));
    tc_target *t = give(m, layout, s, one, 0, 3, &b);
    OK(tc_plan_create(one, TC_LOCAL, &plan));
    OK(tc_plan_put(plan, t, source, &layout, 0));
    EXPECT_STATUS(tc_plan_start(plan), TC_ERR_TRANSPORT);
    EXPECT_STATUS(tc_message_in(one, "nonsense", 8), TC_ERR_BLOCK);
    OK(tc_plan_free(plan));
    OK(tc_context_close(one));
}

int main(void) {
    tc_options options = shm_options();
    tc_layout layout = plain(0, 64);
    open_group(2, &options, NULL, group);
    OK(tc_memory_allocate(group[1], 128, &memory));
    OK(tc_signal_create(group[1], TC_COUNTED, &counted));
    OK(tc_signal_create(group[1], TC_STREAM, &stream));
    OK(tc_block_issue(memory, &layout, counted, 0, 5, &block));
    OK(tc_block_export(block, wire, sizeof wire, &length));
    OK(tc_target_open(group[0], wire, length, &target));
    bad_arguments();
    bad_ranges();
    bad_blocks();
    freed_and_stale();
    back_pressure();
    time_out_names_the_missing();
    limits();
    not_proven();
    network_fails();
    OK(tc_target_close(target));
    OK(tc_block_free(block));
    OK(tc_context_close(group[0]));
    OK(tc_context_close(group[1]));
    for (int s = -20; s <= 3; s++) EXPECT(strlen(tc_status_text(s)) > 3);
    return 0;
}
