/* What is under way: a communicator and its runs. */
#ifndef TOPOCOMM_RUN_H
#define TOPOCOMM_RUN_H
#include <sched.h>
#include <stdatomic.h>

#include "program.h"

#define STATUS_BYTES 256

typedef void (*kernel)(const void *landing, void *target, size_t n);

/* How the messages of a communicator go to and come from a peer: one table of functions for all peers of its kind.
 * A message has `length` bytes at `data`. Whoever finds it complete calls message_over. */
typedef struct port {
    int (*send)(tc_run *run, const step *s, uint32_t message);    /* begin to send; its bytes stay as they are */
    int (*receive)(tc_run *run, const step *s, uint32_t message); /* be ready for it */
    /* TC_OK: it has come, or its bytes may be overwritten · TC_AGAIN · errors. Not asked again after TC_OK. */
    int (*test)(tc_run *run, const step *s, uint32_t message);
    void (*taken)(tc_run *run, const step *s, uint32_t message); /* what landed has been read; NULL: no matter */
} port;

struct shared;   /* of a communicator, memory with the members on its host: port_shm.h */
struct channels; /* of a communicator whose messages go as notified puts: puts.h */
struct entry;

struct tc_comm {
    tc_mpi mpi;
    intptr_t handle;
    uint32_t rank, size;
    atomic_uint holders; /* whoever opened it, and runs */
    int32_t *ranks; /* in MPI's communicator, of every member */
    const port **ports; /* that lead to every member */
    struct shared *shared; /* NULL: none */
    struct channels *channels; /* NULL: no message is a put */
    int32_t first_tag;
    uint64_t tags, calls;
    tc_run *active; /* runs under way, driven by everybody who waits */
    tc_run *waiting, **last_waiting; /* runs that have started, but whose tags are in use: in order */
    atomic_flag busy;
    uint32_t spins, least_spins, most_spins; /* polls of a waiter before it yields its core: few when others need it */
    char *spare; /* memory of a run that has ended */
    uint64_t spare_room;
    char status[STATUS_BYTES] __attribute__((aligned(16)));
};

enum message_state { ABSENT, UNDER_WAY, DONE };

typedef struct place { /* where a program stands */
    uint32_t step, turn, turns, loop_first, loop_end;
    uint32_t part;    /* messages of the step waited for, or runs combined */
    uint64_t offset;  /* bytes of the landing combined */
} place;

typedef struct segment {
    char *at;
    int64_t bytes;
} segment;

struct tc_run {
    tc_comm *comm;
    tc_program *program;
    /* sizes */
    int64_t *cut[ROLES]; /* byte offset of every position, and of the end */
    int64_t item;
    uint64_t *region, *stride; /* of each region its offset in memory; of each lander the bytes of one message */
    uint64_t memory_bytes, memory_room;
    char *memory;    /* scratch, then landings */
    uint32_t chunks; /* requests of a message */
    uint64_t request_room;
    bool sized;
    /* who combines */
    tc_operation_choice choice;
    kernel combine[2]; /* target ∘ landing; BEFORE */
    uint32_t element_bytes;
    /* the call */
    char *base[ROLES];
    int32_t tag;
    uint64_t number; /* among the runs of the communicator */
    int status;
    int fault; /* found by a port meanwhile, with `failure`: the run ends with it. TC_OK: none */
    place at;
    unsigned char *state; /* of each message */
    uint32_t *finished;   /* of each message: parts that have come or gone, as its port counts them */
    int64_t *length;      /* of each message: bytes */
    char **data;          /* of each message: where it lies, or will */
    char *requests;
    struct entry *entries; /* of each message, once one is put */
    uint32_t *posted; /* since the last fence, in order */
    uint32_t nposted, pending; /* messages posted; not complete */
    uint64_t under_way;        /* their bytes */
    segment operand[2]; /* in, inout: for the caller to combine */
    tc_failure failure;
    /* waiting */
    uint64_t moved; /* grows with everything that happens */
    uint32_t polls;
    double since; /* when it had spun in vain */
    tc_run *next, **link;
    bool waits; /* for its tag */
};

/* One thread at a time works on a communicator. */
static inline void comm_lock(tc_comm *comm) {
    while (atomic_flag_test_and_set_explicit(&comm->busy, memory_order_acquire)) sched_yield();
}

static inline void comm_unlock(tc_comm *comm) {
    atomic_flag_clear_explicit(&comm->busy, memory_order_release);
}
/* --- comm.c -------------------------------------------------------------------------------------------------------- */
/* Drive all runs of a communicator; return whether one needs its caller. */
bool comm_drive(tc_comm *comm);
/* Let MPI move messages of the program, if nothing else of this communicator's does. */
void comm_drive_mpi(const tc_comm *comm);
int run_status(tc_run *run);

/* --- ground.c ----------------------------------------------------------------------------------------------------- */
/* Note which step failed and the bytes that it found and needed; return the status. */
int run_failed(tc_run *run, int status, uint64_t found, uint64_t needed);
/* The same, of a step's message; `code`: MPI's. */
int message_failed(tc_run *run, const step *s, uint32_t message, int status, int code, uint64_t found);

/* --- sizes.c ------------------------------------------------------------------------------------------------------ */
/* Return the memory of a step's message in its lander's region. */
char *landing_of(const tc_run *run, uint32_t message);
/* Return run `k` from `first` on, in repetition `turn` of a loop. */
segment range_of(const tc_run *run, uint32_t first, uint32_t k, uint32_t turn);
void sizes_free(tc_run *run);
/* Take the memory that the sizes need, and give back what is much. */
int memory_take(tc_run *run);
void memory_give(tc_run *run);

/* --- port_mpi.c ---------------------------------------------------------------------------------------------------- */
extern const port mpi_port; /* to any peer, over the MPI library's own messages */
/* Begin to send or receive; test. They return MPI's error code. */
int mpi_begin(tc_comm *comm, bool sends, void *at, int bytes, uint32_t peer, int32_t tag, void *request);
int mpi_ended(tc_comm *comm, void *request, bool *ended);
/* Let MPI move messages of the program, which another rank may need before it goes on: whoever waits, or tests in vain,
 * does so. `iprobe`: address of MPI_Iprobe on a communicator that carries nothing it may find; 0: nothing is done. Returns
 * MPI's error code. */
int mpi_progress(uintptr_t iprobe, int any_source, int any_tag, intptr_t handle);

/* --- port_puts.c --------------------------------------------------------------------------------------------------- */
/* Drive the network and all channels that have something to do. */
void puts_progress(tc_comm *comm);
void puts_close(tc_comm *comm);
/* As tc_comm_transport, of a member that this port leads to. */
int puts_transport(const tc_comm *comm, uint32_t member, uint32_t *kind);

/* --- port_shm.c ---------------------------------------------------------------------------------------------------- */
extern const port shm_port; /* to members on this host, through shared memory */
/* Take what has come and write what now has room, whatever is waited for; TC_OK or an error. */
int shm_progress(tc_comm *comm);
/* A run has ended. */
void shm_ended(tc_run *run);
/* Let go of the memory. */
void shm_close(tc_comm *comm);

/* --- messages.c ---------------------------------------------------------------------------------------------------- */
int message_post(tc_run *run, const step *s, uint32_t message);
/* TC_OK: it has come, or may be overwritten · TC_AGAIN · errors. */
int message_test(tc_run *run, uint32_t message);
/* For ports: a message has come, or its bytes may be overwritten. */
void message_over(tc_run *run, uint32_t message);
/* What landed has been read. */
void message_taken(tc_run *run, uint32_t message);

/* --- walk.c: the program's steps ----------------------------------------------------------------------------------- */
/* Go on as far as possible: TC_OK: to the end · TC_AGAIN · TC_NEEDS_REDUCE · errors. */
int walk(tc_run *run);
/* Go past the run that the caller has combined. */
void walk_reduced(tc_run *run);

/* --- reduce.c ------------------------------------------------------------------------------------------------------ */
kernel kernel_of(uint32_t operation, uint32_t element, bool before);
uint32_t element_bytes(uint32_t element);
#endif
