/* Assertions that read like English; a failure names the place and ends the test program. */
#ifndef EXPECT_H
#define EXPECT_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "topocomm.h"

#define EXPECT(condition)                                                                   \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);        \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)

#define EXPECT_STATUS(call, wanted)                                                         \
    do {                                                                                    \
        int got_ = (call), wanted_ = (wanted);                                              \
        if (got_ != wanted_) {                                                              \
            fprintf(stderr, "%s:%d: %s: %d (%s), expected %d (%s)\n", __FILE__, __LINE__,   \
                    #call, got_, tc_status_text(got_), wanted_, tc_status_text(wanted_));   \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)

#define OK(call) EXPECT_STATUS(call, TC_OK)

/* `size` contexts of this process, all connected. */
static inline void open_group(uint32_t size, const tc_options *base, const tc_faults *faults, tc_context **group) {
    static _Thread_local unsigned char address[64][TC_ADDRESS_BYTES];
    size_t bytes[64];
    EXPECT(size <= 64);
    for (uint32_t r = 0; r < size; r++) {
        tc_options options = *base;
        options.rank = r;
        options.size = size;
        OK(tc_context_open(&options, &group[r]));
        if (faults) OK(tc_context_faults(group[r], faults));
        OK(tc_context_address(group[r], address[r], sizeof address[r], &bytes[r]));
    }
    for (uint32_t r = 0; r < size; r++)
        for (uint32_t p = 0; p < size; p++) OK(tc_context_connect(group[r], p, address[p], bytes[p]));
}

static inline tc_options shm_options(void) {
    tc_options options;
    tc_options_default(&options);
    options.transports = TC_SHM;
    options.signals = 64;
    options.blocks = 256;
    return options;
}

static inline tc_layout plain(uint64_t offset, uint64_t bytes) {
    return (tc_layout){.offset = offset, .run = bytes, .count = {1, 1, 1}};
}

/* A block of `memory`, opened by `holder`. */
static inline tc_target *give(tc_memory *memory, tc_layout layout, tc_signal *signal, tc_context *holder, uint32_t rank,
                              uint32_t tag, tc_block **block) {
    unsigned char wire[TC_BLOCK_BYTES];
    size_t length;
    tc_target *target;
    OK(tc_block_issue(memory, &layout, signal, rank, tag, block));
    OK(tc_block_export(*block, wire, sizeof wire, &length));
    OK(tc_target_open(holder, wire, length, &target));
    return target;
}
#endif
