/* topocomm: collectives among the ranks of one host, through memory that they share, without a program.
 *
 * A *node* is a communicator whose ranks share a host. Each rank has a few cache lines that it alone writes: a *line*
 * holds the number of a call, what is called, and up to 48 bytes of data; longer data lie in a *slot* of the rank. A
 * rank writes its line, reads the others' and combines in the order of ranks: one phase, no acknowledgement. All calls
 * of a communicator are numbered alike, so every line says which call it is for, and ranks that make different calls
 * learn of it.
 *
 * A node is used by one thread at a time. Every function returns a status: 0 done, > 0 not yet, < 0 error.
 */
#ifndef TOPOCOMM_NODE_H
#define TOPOCOMM_NODE_H
#include "coll.h"

#define TC_NODE_RANKS 256   /* of one node at most */
#define TC_NODE_LARGEST 4096 /* bytes that a rank gives in one call at most */

enum tc_node_status {
    TC_APART = 4,          /* large call that has no stages: nothing was done, on all ranks alike */
    TC_ERR_MISMATCH = -40, /* ranks make different calls: tc_node_failure */
    TC_ERR_LEFT = -41      /* a rank left a call, or an earlier call failed: no more calls on this node */
};

enum tc_collective { TC_ALLGATHER, TC_ALLREDUCE, TC_REDUCE_SCATTER, TC_REDUCE_SCATTER_BLOCK, TC_ALLTOALL, TC_BCAST,
                     TC_REDUCE, TC_GATHER, TC_SCATTER, TC_BARRIER, TC_FRAMES, TC_ROOT_FRAME, TC_COLLECTIVES };

/* A *frame* is a vector whose length only its sender knows: a header, the number of bytes behind it in its low half,
 * then these. TC_FRAMES brings every rank's frame to all, TC_ROOT_FRAME the root's to the others; `bytes` of the
 * arguments is the room for one, header included, and the operation of `choice` a number that all ranks must give alike.
 */
#define TC_FRAME_HEADER 8

typedef struct tc_node tc_node;
typedef struct tc_node_large tc_node_large; /* the same, of a large call */
typedef struct tc_node_call tc_node_call; /* a call with its arguments but the buffers; made as often as wanted */

typedef struct tc_node_mpi {
    uintptr_t iprobe, reduce_local; /* addresses of MPI's functions of these names */
    intptr_t handle;                /* communicator that carries nothing that a probe may find */
    int32_t any_source, any_tag;
} tc_node_mpi;

typedef struct tc_node_address { /* where the memory is, for the other ranks; plain bytes */
    uint64_t bytes, nonce, pointer;
    int32_t pid, descriptor;
    uint32_t size;
} tc_node_address;

typedef struct tc_node_arguments {
    uint32_t collective, root;
    uint64_t bytes;             /* of a vector that is broadcast or reduced; of one block of the others */
    const uint64_t *counts;     /* of a reduce_scatter: bytes of every rank's block; else NULL */
    uint32_t item;              /* bytes of an element that is reduced; 1 of frames */
    tc_operation_choice choice; /* of a reduction: by a kernel or by MPI. By MPI too it says operation and element */
    uint32_t staged;            /* 1: a large call goes through stages where a buffer cannot be reached; 0: TC_APART */
} tc_node_arguments;

/* What ended a call: the rank that noticed and what it calls, the other rank and what that one calls. The collective of
 * `theirs` is TC_COLLECTIVES if that rank made another call earlier, or one that gives nothing to this one. */
typedef struct tc_node_called {
    uint32_t collective, operation, element, root;
    uint64_t bytes;
} tc_node_called;

typedef struct tc_node_fault {
    uint32_t rank, peer;
    uint64_t number; /* of the call, from 0 */
    int32_t code;    /* MPI's error code, 0 if it reported none */
    tc_node_called mine, theirs;
} tc_node_fault;

/* Bytes of the memory that `size` ranks share: 192 + 640 size, rounded up to pages, and 16 KiB a rank that take room
 * when calls of more than 48 bytes use them. */
uint64_t tc_node_bytes(uint32_t size);
/* Make the memory, on one rank; the others open it by its address. NULL for `mpi`: nothing is driven. */
int tc_node_create(uint32_t rank, uint32_t size, const tc_node_mpi *mpi, tc_node **node, tc_node_address *address);
int tc_node_attach(uint32_t rank, uint32_t size, const tc_node_mpi *mpi, const tc_node_address *address,
                   tc_node **node);
/* Say, on every rank, that all are attached and nobody else may be, and how many cores they have together. */
int tc_node_seal(tc_node *node, uint32_t cores);
/* Let go of the memory. Calls that are left are refused with TC_ERR_FREED. In one process the rank that made the memory
 * is freed last. */
int tc_node_free(tc_node *node);

/* TC_ERR_RANGE: more than TC_NODE_LARGEST bytes of a rank · TC_ERR_UNSUPPORTED: the caller would have to combine. */
int tc_node_call_new(tc_node *node, const tc_node_arguments *arguments, tc_node_call **call);
int tc_node_call_free(tc_node_call *call);
/* Make a call, for at most `seconds`. A buffer that has no bytes may be NULL. In place, `send` lies in `recv`; a
 * broadcast has its vector in `send` on the root and in `recv` elsewhere.
 * TC_AGAIN: it is under way; go on with tc_node_wait, or leave it. TC_ERR_BUSY: a call or a request is under way. */
int tc_node_run(tc_node_call *call, const void *send, void *recv, double seconds);
int tc_node_wait(tc_node *node, double seconds);
/* Give up the call that is under way. The others' calls end with TC_ERR_LEFT, as all further ones do. */
int tc_node_leave(tc_node *node);
/* Make an array of at least `bytes` bytes, all 0, that the other processes of this host can reach. */
int tc_array_new(uint64_t bytes, void **at);
int tc_array_free(void *at);

/* Of a process's heap a node takes 5 KiB, and 16 KiB more once a large call was made on it; a call takes 0.3 KiB, a large
 * one 1 KiB and 88 bytes a rank. */
/* A large call: an allreduce, broadcast, allgather, alltoall or reduce_scatter of any size. Where all buffers that others
 * read or write lie in arrays made so, each rank does its part in them; else all goes through stages of 512 KiB, of which
 * a process keeps as many as it has had calls under way at once. A call takes several calls' numbers. Arguments, buffers
 * and statuses are those of other calls; TC_APART besides. */
int tc_node_large_new(tc_node *node, const tc_node_arguments *arguments, tc_node_large **large);
int tc_node_large_free(tc_node_large *large);
int tc_node_large_run(tc_node_large *large, const void *send, void *recv, double seconds);
int tc_node_large_wait(tc_node_large *large, double seconds);
/* Say what ended a call; alike on all ranks that it ended for. */
int tc_node_failure(const tc_node *node, tc_node_fault *fault);
#endif
