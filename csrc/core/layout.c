/* Layouts: regular sets of byte runs, and copies between two of them. */
#include <string.h>

#include "internal.h"

uint64_t layout_bytes(const tc_layout *layout) {
    return layout->run * layout->count[0] * layout->count[1] * layout->count[2];
}

bool layout_fits(const tc_layout *layout, uint64_t room) {
    uint64_t end = 0, total = 0;
    if (__builtin_add_overflow(layout->offset, layout->run, &end)) return false;
    total = layout->run;
    for (int d = 0; d < 3; d++) {
        uint64_t span = 0;
        if (__builtin_mul_overflow(total, layout->count[d], &total)) return false;
        if (layout->count[d] == 0) continue;
        if (__builtin_mul_overflow(layout->count[d] - 1, layout->stride[d], &span)) return false;
        if (__builtin_add_overflow(end, span, &end)) return false;
    }
    return total == 0 ? layout->offset <= room : end <= room;
}

bool layout_contiguous(const tc_layout *layout) {
    return layout->count[0] * layout->count[1] * layout->count[2] <= 1 || layout->run == 0;
}

tc_layout layout_simple(uint64_t offset, uint64_t bytes) {
    tc_layout layout = {.offset = offset, .run = bytes, .count = {1, 1, 1}, .stride = {0, 0, 0}};
    return layout;
}

/* Where byte `at` of the sequence lies, and how many more of its run follow. */
uint64_t layout_locate(const tc_layout *layout, uint64_t at, uint64_t *rest) {
    uint64_t run = at / layout->run, inside = at % layout->run, i2, i1, i0;
    i2 = run % layout->count[2];
    run /= layout->count[2];
    i1 = run % layout->count[1];
    i0 = run / layout->count[1];
    *rest = layout->run - inside;
    return layout->offset + i0 * layout->stride[0] + i1 * layout->stride[1] + i2 * layout->stride[2] + inside;
}

/* Calls run(user, left offset, right offset, bytes) for each stretch contiguous in both. */
int layout_pairs(const tc_layout *left, const tc_layout *right, uint64_t from, uint64_t bytes, run_function run,
                 void *user) {
    uint64_t at = from, end = from + bytes;
    while (at < end) {
        uint64_t left_rest, right_rest;
        uint64_t a = layout_locate(left, at, &left_rest), b = layout_locate(right, at, &right_rest);
        uint64_t length = left_rest < right_rest ? left_rest : right_rest;
        if (length > end - at) length = end - at;
        int status = run(user, a, b, length);
        if (status) return status;
        at += length;
    }
    return TC_OK;
}

typedef struct copy_bases {
    char *to;
    const char *from;
} copy_bases;

static int copy_run(void *user, uint64_t left, uint64_t right, uint64_t bytes) {
    copy_bases *bases = user;
    memcpy(bases->to + left, bases->from + right, bytes);
    return TC_OK;
}

void layout_copy(char *to, const tc_layout *to_layout, const char *from, const tc_layout *from_layout, uint64_t start,
                 uint64_t bytes) {
    if (bytes == 0) return;
    if (layout_contiguous(to_layout) && layout_contiguous(from_layout)) {
        memcpy(to + to_layout->offset + start, from + from_layout->offset + start, bytes);
        return;
    }
    copy_bases bases = {to, from};
    layout_pairs(to_layout, from_layout, start, bytes, copy_run, &bases);
}

uint64_t of_head(const tc_op *op, uint64_t from, uint64_t bytes) {
    uint64_t left = from < op->head_bytes ? op->head_bytes - from : 0;
    return bytes < left ? bytes : left;
}

void gather(char *to, const tc_op *op, uint64_t from, uint64_t bytes) {
    uint64_t ahead = of_head(op, from, bytes), rest = bytes - ahead, start = from + ahead - op->head_bytes;
    if (ahead) memcpy(to, op->head + from, ahead);
    if (rest == 0) return;
    tc_layout plain = layout_simple(0, op->total - op->head_bytes);
    layout_copy(to + ahead - start, &plain, op->local, op->layout, start, rest);
}
