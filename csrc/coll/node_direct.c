/* Large calls in arrays that all ranks of a node reach: every rank does its part of the work and writes the result to
 * where it belongs. It goes in blocks that a cache holds: a block of every input is read, combined in the order of
 * ranks, and written to all who want it.
 */
#include <string.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "node_large.h"

typedef int (*reduce_function)(const void *, void *, int, intptr_t, intptr_t);

/* Copy past the caches, where the processor can. */
static void stream(char *to, const char *from, uint64_t bytes) {
#if defined(__x86_64__)
    uint64_t head = -(uintptr_t)to & 15, k = head < bytes ? head : bytes;
    memcpy(to, from, k);
    for (; k + 64 <= bytes; k += 64)
        for (int w = 0; w < 4; w++)
            _mm_stream_si128((__m128i *)(void *)(to + k) + w, _mm_loadu_si128((const __m128i *)(const void *)(from + k) + w));
    memcpy(to + k, from + k, bytes - k);
#else
    memcpy(to, from, bytes);
#endif
}

void large_copy(const tc_node_large *l, char *to, const char *from, uint64_t bytes) {
    if (l->past) stream(to, from, bytes);
    else memcpy(to, from, bytes);
}

void large_copied(const tc_node_large *l) {
#if defined(__x86_64__)
    if (l->past) _mm_sfence();
#else
    (void)l;
#endif
}

static int combine(tc_node_large *l, const char *in, char *inout, uint64_t bytes) {
    if (l->combine) {
        l->combine(in, inout, bytes / l->element_bytes);
        return TC_OK;
    }
    tc_node *node = l->node;
    int code = ((reduce_function)node->mpi.reduce_local)(in, inout, (int)(bytes / l->item), l->choice.type, l->choice.op);
    if (code == 0) return TC_OK;
    tc_node_fault fault = {.rank = node->rank, .peer = node->rank, .number = node->calls - 1, .code = code};
    return node_break(node, TC_ERR_MPI, &fault);
}

int large_combine(tc_node_large *l, span of, uint64_t done, uint64_t bytes, const char **block) {
    *block = l->inputs[of.first] + done;
    if (of.end - of.first == 1) return TC_OK;
    memcpy(l->block, *block, bytes);
    *block = l->block;
    for (uint32_t r = of.first + 1; r < of.end; r++) {
        int status = combine(l, l->inputs[r] + done, l->block, bytes);
        if (status != TC_OK) return status;
    }
    return TC_OK;
}

typedef struct task { /* `bytes` of the inputs of `in`, from `at` of each, go to `there` of the outputs of `out` */
    span in, out;
    uint64_t at, there, bytes;
} task;

static int do_task(tc_node_large *l, const task *t) {
    uint64_t most = BLOCK / l->item * l->item;
    for (uint32_t r = t->in.first; r < t->in.end; r++) l->inputs[r] = l->from[r] + t->at;
    for (uint64_t done = 0; done < t->bytes; done += most) {
        uint64_t bytes = t->bytes - done < most ? t->bytes - done : most;
        const char *block;
        int status = large_combine(l, t->in, done, bytes, &block);
        if (status != TC_OK) return status;
        for (uint32_t r = t->out.first; r < t->out.end; r++) {
            if (l->collective == TC_BCAST && r == l->root) continue;
            char *to = l->to[r] + t->there + done;
            if (to != block) large_copy(l, to, block, bytes);
        }
    }
    return TC_OK;
}

int direct_work(tc_node_large *l) {
    uint32_t me = l->node->rank, size = l->node->size;
    uint64_t at = l->starts[me], bytes = l->starts[me + 1] - at;
    span all = {0, size}, own = {me, me + 1};
    int status = TC_OK;
    switch (l->collective) {
    case TC_ALLREDUCE: status = do_task(l, &(task){all, all, at, at, bytes}); break;
    case TC_BCAST: status = do_task(l, &(task){{l->root, l->root + 1}, all, at, at, bytes}); break;
    case TC_ALLGATHER: status = do_task(l, &(task){own, all, 0, at, bytes}); break;
    case TC_ALLTOALL:
        for (uint32_t k = 0; k < size; k++) { /* not all from the same rank at a time */
            uint32_t r = (me + k) % size;
            do_task(l, &(task){{r, r + 1}, own, at, l->starts[r], bytes});
        }
        break;
    default: status = do_task(l, &(task){all, own, at, 0, bytes});
    }
    large_copied(l);
    return status;
}
