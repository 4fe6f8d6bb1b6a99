/* A thousand nodes made and freed, and a thousand different calls on one: descriptors and memory maps are as many as
 * before (the address sanitizer watches the heap, and at the end looks for leaks). Both ranks are driven in turn. */
#include <stdbool.h>

#include "counting.h"
#include "expect.h"
#include "node.h"

#define TIMES 1000
#define LARGEST 20000u

static unsigned char send[2][LARGEST], recv[2][LARGEST];

static void open_pair(tc_node **node) {
    tc_node_address address;
    OK(tc_node_create(0, 2, NULL, &node[0], &address));
    OK(tc_node_attach(1, 2, NULL, &address, &node[1]));
    for (int r = 0; r < 2; r++) OK(tc_node_seal(node[r], 2));
}

static tc_node_arguments sum_of(uint64_t bytes) {
    tc_node_arguments a = {.collective = TC_ALLREDUCE, .bytes = bytes, .item = 1, .staged = 1};
    a.choice = (tc_operation_choice){.by = TC_BY_KERNEL, .operation = TC_SUM, .element = TC_UINT8};
    return a;
}

static void fill(uint64_t bytes) {
    for (int r = 0; r < 2; r++) memset(send[r], r + 1, bytes);
    memset(recv, 0, sizeof recv);
}

static void expect_sum(uint64_t bytes) {
    for (int r = 0; r < 2; r++) EXPECT(recv[r][0] == 3 && recv[r][bytes - 1] == 3);
}

static void small(tc_node **node, uint64_t bytes) {
    tc_node_call *call[2];
    tc_node_arguments a = sum_of(bytes);
    fill(bytes);
    for (int r = 0; r < 2; r++) OK(tc_node_call_new(node[r], &a, &call[r]));
    EXPECT_STATUS(tc_node_run(call[0], send[0], recv[0], 0), TC_AGAIN);
    OK(tc_node_run(call[1], send[1], recv[1], 0));
    OK(tc_node_wait(node[0], 0));
    expect_sum(bytes);
    for (int r = 0; r < 2; r++) OK(tc_node_call_free(call[r]));
}

static void large(tc_node **node, uint64_t bytes) {
    tc_node_large *call[2];
    tc_node_arguments a = sum_of(bytes);
    int status[2];
    fill(bytes);
    for (int r = 0; r < 2; r++) {
        OK(tc_node_large_new(node[r], &a, &call[r]));
        status[r] = tc_node_large_run(call[r], send[r], recv[r], 0);
    }
    while (status[0] == TC_AGAIN || status[1] == TC_AGAIN)
        for (int r = 0; r < 2; r++)
            if (status[r] == TC_AGAIN) status[r] = tc_node_large_wait(call[r], 0);
    for (int r = 0; r < 2; r++) OK(status[r]);
    expect_sum(bytes);
    for (int r = 0; r < 2; r++) OK(tc_node_large_free(call[r]));
}

int main(void) {
    tc_node *node[2];
    open_pair(node);
    large(node, LARGEST); /* the process shows its memory, and has a stage for each rank */
    int maps = count_maps(), descriptors = count_descriptors();
    for (uint64_t n = 1; n <= TIMES; n++) {
        small(node, n);
        large(node, 5000 + n);
    }
    EXPECT(count_maps() == maps && count_descriptors() == descriptors);
    for (int i = 0; i < TIMES; i++) {
        tc_node *other[2];
        open_pair(other);
        small(other, 100);
        large(other, 10000);
        for (int r = 2; r-- > 0;) OK(tc_node_free(other[r]));
    }
    EXPECT(count_maps() == maps && count_descriptors() == descriptors);
    for (int r = 2; r-- > 0;) OK(tc_node_free(node[r]));
    EXPECT(count_maps() == maps - 1);
    return 0;
}
