/* Every order in which up to 3 messages of up to 3 pieces of each of 2 epochs can arrive, with the re-arming anywhere
 * it may happen, and with every piece repeated at every moment: walked as a graph of states, so that all orders are
 * covered. In every state the signal must say exactly what a plain set of arrived pieces says.
 */
#include "internal.h"
#include "expect.h"

#define EPOCHS 2
#define MAX_PIECES 18

static tc_context *context;
static tc_signal *signal_;
static tc_memory *memory;
static tc_block *blocks[3];
static uint32_t messages, pieces[3], total;
static struct { uint32_t epoch, message, piece; } what[MAX_PIECES];

typedef struct snapshot {
    uint64_t lane[LANES], epoch, piece[3][LANES];
} snapshot;

static snapshot *seen;
static bool *reached;
static uint64_t states, steps;

static snapshot save(void) {
    snapshot s;
    memset(&s, 0, sizeof s);
    for (uint32_t l = 0; l < LANES; l++) {
        s.lane[l] = signal_->shared->lane[l];
        for (uint32_t m = 0; m < messages; m++) s.piece[m][l] = blocks[m]->shared->piece[l];
    }
    s.epoch = signal_->shared->epoch;
    return s;
}

static void load(const snapshot *s) {
    for (uint32_t l = 0; l < LANES; l++) {
        signal_->shared->lane[l] = s->lane[l];
        for (uint32_t m = 0; m < messages; m++) blocks[m]->shared->piece[l] = s->piece[m][l];
    }
    signal_->shared->epoch = s->epoch;
}

static int come(uint32_t i) {
    arrival a = {.block = blocks[what[i].message]->index, .generation = blocks[what[i].message]->generation,
                 .generation_mask = ~0u, .piece = what[i].piece, .pieces = pieces[what[i].message],
                 .epoch = what[i].epoch};
    return arrive(context, &a);
}

/* The oracle: which messages of which epoch are whole, from the set alone. */
static uint32_t whole(uint32_t set, uint32_t epoch) {
    uint32_t n = 0;
    for (uint32_t m = 0; m < messages; m++) {
        bool all = true;
        for (uint32_t i = 0; i < total; i++)
            if (what[i].epoch == epoch && what[i].message == m && !(set >> i & 1)) all = false;
        n += all;
    }
    return n;
}

static uint64_t key(uint32_t set, uint32_t rearmed) {
    return (uint64_t)rearmed << total | set;
}

static void judge(uint32_t set, uint32_t rearmed) {
    uint64_t epoch, expected, arrived, early, surplus;
    bool complete = rearmed < EPOCHS && whole(set, rearmed) == messages;
    EXPECT_STATUS(tc_signal_test(signal_), complete ? TC_OK : TC_AGAIN);
    OK(tc_signal_state(signal_, &epoch, &expected, &arrived, &early, &surplus));
    EXPECT(epoch == rearmed && expected == messages);
    EXPECT(arrived == (rearmed < EPOCHS ? whole(set, rearmed) : 0));
    EXPECT(early == (rearmed == 0 ? whole(set, 1) : 0));
}

/* A state reached twice must be the same state; true when it is new. */
static bool visit(uint32_t set, uint32_t rearmed) {
    uint64_t k = key(set, rearmed);
    snapshot s = save();
    steps++;
    if (reached[k]) {
        EXPECT(memcmp(&seen[k], &s, sizeof s) == 0);
        return false;
    }
    reached[k] = true;
    seen[k] = s;
    states++;
    judge(set, rearmed);
    return true;
}

static void walk(uint32_t set, uint32_t rearmed) {
    snapshot here = save();
    for (uint32_t i = 0; i < total; i++) {
        bool again = set >> i & 1;
        EXPECT_STATUS(come(i), again ? TC_ERR_SURPLUS
                               : __builtin_popcount(pieces[what[i].message]) && whole(set | 1u << i, what[i].epoch) >
                                                                                    whole(set, what[i].epoch)
                                   ? TC_OK : TC_AGAIN);
        if (again) {
            snapshot after = save();
            EXPECT(memcmp(&here, &after, sizeof here) == 0);
        } else if (visit(set | 1u << i, rearmed)) {
            walk(set | 1u << i, rearmed);
        }
        load(&here);
    }
    if (rearmed == EPOCHS) return;
    bool complete = whole(set, rearmed) == messages;
    EXPECT_STATUS(tc_signal_rearm(signal_), complete ? TC_OK : TC_AGAIN);
    if (complete && visit(set, rearmed + 1)) walk(set, rearmed + 1);
    load(&here);
}

static void run_case(void) {
    snapshot empty;
    memset(&empty, 0, sizeof empty);
    total = 0;
    for (uint32_t e = 0; e < EPOCHS; e++)
        for (uint32_t m = 0; m < messages; m++)
            for (uint32_t p = 0; p < pieces[m]; p++) {
                what[total].epoch = e;
                what[total].message = m;
                what[total++].piece = p;
            }
    size_t n = (size_t)(EPOCHS + 1) << total;
    seen = malloc(n * sizeof *seen);
    reached = calloc(n, sizeof *reached);
    EXPECT(seen && reached);
    for (uint32_t m = 0; m < messages; m++) {
        tc_layout layout = plain(8 * m, 8);
        OK(tc_block_issue(memory, &layout, signal_, 0, m, &blocks[m]));
    }
    load(&empty);
    if (visit(0, 0)) walk(0, 0);
    EXPECT(reached[key((1u << total) - 1, EPOCHS)]);
    for (uint32_t m = 0; m < messages; m++) OK(tc_block_free(blocks[m]));
    free(seen);
    free(reached);
}

int main(void) {
    tc_options options = shm_options();
    uint32_t cases = 0;
    open_group(1, &options, NULL, &context);
    OK(tc_memory_allocate(context, 64, &memory));
    OK(tc_signal_create(context, TC_COUNTED, &signal_));
    for (messages = 1; messages <= 3; messages++)
        for (pieces[0] = 1; pieces[0] <= 3; pieces[0]++)
            for (pieces[1] = 1; pieces[1] <= (messages > 1 ? 3u : 1u); pieces[1]++)
                for (pieces[2] = 1; pieces[2] <= (messages > 2 ? 3u : 1u); pieces[2]++, cases++) run_case();
    OK(tc_signal_free(signal_));
    OK(tc_memory_free(memory));
    OK(tc_context_close(context));
    EXPECT(cases == 3 + 9 + 27);
    printf("%u cases, %llu states, %llu steps\n", cases, (unsigned long long)states, (unsigned long long)steps);
    return 0;
}
