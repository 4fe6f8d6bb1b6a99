/* topocomm: collectives as programs that are walked in C, over the messages of the MPI library that the process uses.
 *
 * A *program* is what one rank does in a collective, for all sizes and buffers; topocomm/plan/program.py describes its
 * steps and bytes. A *run* is a program on a communicator with memory of its own: it is given sizes, then started as
 * often as wanted. Several runs may be under way on a communicator; whoever waits for one drives them all.
 *
 * MPI is known by the addresses of five functions and the widths of its handles, so one binary serves every library.
 * Handles are passed as integers, narrow ones with their sign extended.
 *
 * Every function returns a status: 0 done, > 0 not yet, < 0 error. Outputs come last and are set only on success. Runs
 * of one communicator may be tested and waited for by several threads, each run by one.
 */
#ifndef TOPOCOMM_COLL_H
#define TOPOCOMM_COLL_H
#include "topocomm.h"

#define TC_TEXT_BYTES 160 /* room for the reason why a program was refused */

enum tc_coll_status {
    TC_NEEDS_REDUCE = 3,  /* the caller must combine two operands: tc_run_operands, then tc_run_reduced */
    TC_ERR_PROGRAM = -32, /* these bytes are not a program, or one that must not run */
    TC_ERR_LENGTH = -33,  /* a message is shorter than the program expects: tc_run_failure */
    TC_ERR_MPI = -34      /* an MPI function failed: tc_run_failure */
};

/* Operations and elements that have kernels. A pair is a value and an int, as in a C struct. */
enum tc_operation { TC_SUM, TC_PROD, TC_MIN, TC_MAX, TC_LAND, TC_LOR, TC_LXOR, TC_BAND, TC_BOR, TC_BXOR, TC_MINLOC,
                    TC_MAXLOC, TC_OPERATIONS };
enum tc_element { TC_INT8, TC_INT16, TC_INT32, TC_INT64, TC_UINT8, TC_UINT16, TC_UINT32, TC_UINT64, TC_FLOAT, TC_DOUBLE,
                  TC_LONG_DOUBLE, TC_COMPLEX_FLOAT, TC_COMPLEX_DOUBLE, TC_PAIR_FLOAT, TC_PAIR_DOUBLE, TC_PAIR_LONG,
                  TC_PAIR_INT, TC_PAIR_SHORT, TC_PAIR_LONG_DOUBLE, TC_ELEMENTS };
/* Who combines: a kernel, MPI_Reduce_local called from C, or the caller. */
enum tc_combiner { TC_BY_KERNEL, TC_BY_MPI, TC_BY_CALLER };

typedef struct tc_program tc_program; /* checked and ready to run; never changes */
typedef struct tc_comm tc_comm;       /* communicator of MPI's that carries nothing else */
typedef struct tc_run tc_run;         /* program with sizes and memory */
typedef struct tc_net tc_net;         /* process's end of notified puts, for all its communicators */

typedef struct tc_mpi {
    uintptr_t isend, irecv, test, get_count, reduce_local; /* addresses of MPI's functions of these names */
    intptr_t byte;                                         /* handle of MPI_BYTE */
    uint32_t request_bytes, status_bytes;                  /* 4 or 8, at most 256 */
    uint64_t largest;                                      /* bytes of the longest message, alike on all ranks; longer
                                                              ones are split. At most 2^31 - 1 */
    uintptr_t iprobe;                                      /* MPI_Iprobe, which lets MPI move what is not ours where a
                                                              wait makes no other call of MPI; 0: there is none */
    int32_t any_source, any_tag;
} tc_mpi;

typedef struct tc_probe {
    uintptr_t iprobe;  /* address of MPI_Iprobe */
    intptr_t handle;   /* of a communicator */
    int32_t any_source, any_tag;
} tc_probe;

/* Let MPI move messages of the program. `probe`: a tc_probe. MPI's errors come back when the program asks. */
void tc_mpi_progress(void *probe);

typedef struct tc_program_facts {
    uint32_t rank, size;
    uint64_t positions[3];       /* of the send buffer, receive buffer and scratch memory */
    uint64_t blocks, pieces;     /* of the vector; slots that a block is cut into */
    uint64_t messages, landings; /* sent or received; regions that messages land in or are packed in */
} tc_program_facts;

typedef struct tc_needs {
    uint64_t send, recv; /* bytes of the caller's buffers */
    uint64_t memory;     /* bytes of the run's scratch memory and landings */
} tc_needs;

typedef struct tc_operation_choice {
    uint32_t by;                 /* a tc_combiner */
    uint32_t operation, element; /* of a kernel */
    intptr_t op, type;           /* handles for MPI_Reduce_local */
} tc_operation_choice;

typedef struct tc_failure {
    uint32_t peer, message;
    uint64_t found, needed; /* bytes */
    int32_t code;           /* MPI's error code, 0 if it reported none */
    uint32_t step;
    uint32_t sent; /* 1: the message went to the peer, which needs another length */
} tc_failure;

typedef struct tc_net_facts { /* since it was opened */
    uint64_t links, memory;   /* pairs of processes' shared channels; bytes that others may put into */
    uint64_t openings;        /* messages of MPI's that opened channels */
    uint64_t messages, parts; /* of programs, put by this process; puts that they took */
    uint64_t credits;         /* puts besides those: that room is free again */
} tc_net_facts;

/* --- programs ------------------------------------------------------------------------------------------- */
/* Check the bytes of a program and prepare it. TC_ERR_PROGRAM: `text` (TC_TEXT_BYTES of room) says why not. */
int tc_program_load(const void *bytes, size_t length, tc_program **program, char *text);
int tc_program_info(const tc_program *program, tc_program_facts *facts);
/* Let go of a program; it is freed when the last of its runs is. */
int tc_program_free(tc_program *program);

/* --- communicators -------------------------------------------------------------------------------------- */
/* `ranks`: the rank in MPI's communicator of each of `size` members, NULL: their own numbers. Runs take the `tags` tags
 * from `first_tag` on in turn, in the order in which they start, alike on all ranks; nothing else may use them. */
int tc_comm_open(const tc_mpi *mpi, intptr_t handle, uint32_t rank, uint32_t size, const int32_t *ranks,
                 int32_t first_tag, uint32_t tags, tc_comm **comm);
/* Let go of a communicator; it is freed when the last of its runs is. */
int tc_comm_close(tc_comm *comm);
/* Name the kind of transport that carries messages to a member: TC_SHM, TC_OFI or TC_MSG; TC_AGAIN: not known before the
 * first message. */
int tc_comm_transport(const tc_comm *comm, uint32_t member, uint32_t *kind);

/* --- notified puts ------------------------------------------------------------------------------------------------- */
/* Open a process's end. `context` has the number `world` among `size` processes, stays open as long as this end is in
 * use, and is used for nothing else; NULL: there is no network here, which peers are told. `most`: bytes that others may
 * put into, for all communicators together; peers for whom nothing is left are reached by MPI's messages. */
int tc_net_open(tc_context *context, uint32_t world, uint32_t size, uint64_t most, tc_net **net);
int tc_net_info(const tc_net *net, tc_net_facts *facts);
/* Let go of it; it ends with the last of its communicators. */
int tc_net_close(tc_net *net);
/* Let the messages between this rank and each member that have no nearer way go as puts; `worlds`: the members' numbers
 * among the processes, < 0: it has none. Both sides say so alike, before runs are made. `tag` is one that no run uses:
 * channels are opened with it. */
int tc_comm_puts(tc_comm *comm, tc_net *net, const int32_t *worlds, int32_t tag);

/* --- runs ----------------------------------------------------------------------------------------------- */
int tc_run_new(tc_comm *comm, tc_program *program, tc_run **run);
/* Give the elements of every block of the vector; n = 0: *counts of each block. */
int tc_run_sizes(tc_run *run, const int64_t *counts, size_t n, int64_t item_bytes);
/* Say how much memory the sizes need. A run keeps at most 64 KiB of it between calls, a communicator at most 64 MiB. */
int tc_run_needs(const tc_run *run, tc_needs *needs);
/* Choose who combines. Without this call a reduction is the caller's. */
int tc_run_operation(tc_run *run, const tc_operation_choice *choice);
/* Start with the caller's buffers, which stay as they are until it is complete. TC_ERR_BUSY: it is under way.
 * Where its tag is that of a run under way, it moves on once that one has ended. */
int tc_run_start(tc_run *run, const void *send, void *recv);
/* TC_OK: complete · TC_AGAIN: under way · TC_NEEDS_REDUCE · errors: it has ended. */
int tc_run_test(tc_run *run);
/* As tc_run_test, after at most `seconds`. TC_NEEDS_REDUCE may be for another run of the communicator. */
int tc_run_wait(tc_run *run, double seconds);
/* Start, then wait. */
int tc_run_call(tc_run *run, const void *send, void *recv, double seconds);
/* Name what the caller must combine: inout = in ∘ inout; TC_AGAIN: nothing. */
int tc_run_operands(const tc_run *run, uintptr_t *in, uintptr_t *inout, uint64_t *bytes);
/* Go on, the operands being combined. */
int tc_run_reduced(tc_run *run);
/* Say what ended a run with TC_ERR_LENGTH, TC_ERR_MPI or TC_ERR_RANGE. */
int tc_run_failure(const tc_run *run, tc_failure *failure);
/* TC_ERR_BUSY while messages are under way, those of a run that failed included. */
int tc_run_free(tc_run *run);

/* --- kernels -------------------------------------------------------------------------------------------- */
/* target = landing ∘ target (before) or target ∘ landing, for n elements. TC_ERR_UNSUPPORTED: there is no kernel. */
int tc_reduce(uint32_t operation, uint32_t element, uint32_t before, const void *landing, void *target, size_t n);
#endif
