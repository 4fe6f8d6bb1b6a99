/* What the ranks of a node see and write. */
#ifndef TOPOCOMM_SHARED_NODE_H
#define TOPOCOMM_SHARED_NODE_H
#include <stdatomic.h>

#include "node.h"
#include "process.h"
#include "run.h"

#define LINES 8u       /* of a rank: a broadcast's root may be so many calls ahead of the slowest rank */
#define SLOTS 4u       /* of a rank, for data that do not fit its lines */
#define HISTORY_BITS 16
#define SPINS 400u     /* polls of a rank with a core of its own before it yields it */
#define LINE_BYTES 48u /* data in a line */

typedef struct line { /* one cache line */
    _Atomic uint64_t number; /* of the call + 1, and which calls were made before: written last */
    uint64_t digest;
    char data[LINE_BYTES];
} line;

typedef struct station { /* of a rank, written by it alone */
    _Atomic uint64_t done;   /* calls that it has ended: their lines may be overwritten */
    _Atomic uint64_t start;  /* when its process began, in the kernel's ticks */
    _Atomic int32_t pid;     /* 0: not attached yet */
    char pad[44];
    line lines[LINES];
    char apart[64]; /* pairs of lines travel together */
} station;

enum node_state { SOUND, BREAKING, BROKEN };

typedef struct node_head {
    uint64_t magic, nonce;
    _Atomic uint32_t state; /* a node_state */
    int32_t status;         /* once it is BROKEN: status and fault */
    tc_node_fault fault;
} node_head;

#define HEAD_BYTES 192u

struct tc_node {
    uint32_t rank, size;
    atomic_uint holders; /* whoever opened it, and calls */
    tc_node_mpi mpi;
    node_head *head; /* NULL: the memory was let go of */
    station *stations;
    char *slots;
    uint64_t bytes;
    int descriptor;
    bool borrowed; /* the memory is mapped by another node of this process */
    atomic_uint requests; /* calls under way that somebody waits for later: they come before any other */
    /* the call */
    uint64_t calls;  /* begun */
    uint64_t history; /* HISTORY_BITS that tell which calls were made */
    uint64_t settled; /* calls that every rank is known to have ended */
    const tc_node_call *call; /* under way, else NULL */
    const char *send;
    char *recv;
    bool posted;
    uint32_t next; /* rank whose line is waited for */
    char *scratch; /* TC_NODE_LARGEST bytes */
    char *block;   /* of large calls, once there was one */
    /* waiting */
    uint32_t spins, most_spins; /* polls before the core is yielded */
    uint32_t polls;
    double since, checked, limit; /* 0: the clock was not looked at */
};

struct tc_node_call {
    tc_node *node;
    uint32_t collective, root;
    uint64_t digest;
    uint32_t trace; /* that it leaves in the node's history */
    bool posts;
    uint32_t first, end;    /* ranks whose lines are read */
    uint64_t posted;        /* bytes that this rank gives, or would as the root */
    uint64_t offset, taken; /* bytes read of each line */
    uint64_t stride;        /* between what is read of two lines, in `recv` */
    uint32_t depth;         /* calls that a line, or a slot, holds its data for */
    bool framed; /* `posted` and `taken` are the room for a frame */
    bool reduces;
    kernel combine;
    uint32_t element_bytes, item;
    tc_operation_choice choice;
};

/* --- node.c --------------------------------------------------------------------------------------------------------- */
/* Break the node for all ranks, unless somebody has; return the status that it is broken with. */
int node_break(tc_node *node, int status, const tc_node_fault *fault);
/* Return the status of a broken node; TC_OK: it is sound. */
int node_sound(const tc_node *node);
void node_release(tc_node *node);

/* --- node_call.c ---------------------------------------------------------------------------------------------------- */
/* Let a call be known to the other ranks as one with these arguments, that gives so many bytes. */
void call_named(tc_node_call *call, const tc_node_arguments *a, uint64_t bytes);

/* --- node_frame.c --------------------------------------------------------------------------------------------------- */
/* Bytes of a frame with its header; at most `room`. */
uint64_t frame_bytes(const void *frame, uint64_t room);
/* Write a frame into a rank's line, and into its slot if the line is too short. */
void frame_post(const char *frame, uint64_t room, line *mine, char *slot);
void frame_take(const line *theirs, const char *slot, uint64_t room, char *to);

/* --- node_call.c --------------------------------------------------------------------------------------------------- */
/* Make a call although there are requests. */
int node_start(tc_node_call *call, const void *send, void *recv, double seconds);

/* --- node_wait.c ---------------------------------------------------------------------------------------------------- */
typedef bool (*missing_function)(const tc_node *node, uint32_t rank); /* is this rank waited for? */
/* Something came: what is waited for from now on is looked at often. */
void wait_again(tc_node *node);
/* Pause between two looks; TC_OK: look once more · TC_AGAIN: `seconds` have passed · errors: the node is broken. */
int wait_pause(tc_node *node, missing_function missing, double seconds);
#endif
