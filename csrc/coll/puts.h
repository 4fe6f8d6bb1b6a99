/* Notified puts: what a process shares with another, and how the messages of a communicator go there.
 *
 * A *link* is for two processes: each has memory there that the other puts into, in TURNS lanes, and slots that tell it
 * of SLOTS messages a lane. Calls of a communicator take the lanes in turn, and the messages of a lane keep their order;
 * so both sides know where a message lies without asking. A *channel* is the link as one communicator uses it: it is
 * opened when a program first needs the pair, by one message of MPI's each way. When the communicator is gone, the link
 * serves the next one, with its numbers as they are.
 */
#ifndef TOPOCOMM_PUTS_H
#define TOPOCOMM_PUTS_H
#include <pthread.h>

#include "run.h"

#define TURNS 2u /* lanes of a link, each way */
#define SLOTS 16u /* messages of a lane that may be there at a time, a power of two */
#define ALIGN 64u
#define NOTICES (TURNS * SLOTS) /* blocks of the core for messages; one more is for credits */

/* Goes before the bytes of every message. */
typedef struct heading {
    uint32_t call, message; /* number of the call; of the message among those of the two ranks and its direction */
    uint64_t bytes;         /* of the whole message */
    uint32_t consumed[TURNS]; /* messages that its sender has taken from its own lanes */
    uint64_t spare;
} heading;
_Static_assert(sizeof(heading) == 32, "a heading has half the alignment");

/* A message that waits for its channel, to be put, or to come. */
typedef struct entry {
    struct entry *next;
    tc_run *run;
    uint32_t message;
    uint32_t last; /* number in its lane of its last part */
    uint64_t found; /* bytes of the message that came in its place */
    int status;    /* TC_AGAIN · TC_OK: it has come, or its bytes may be overwritten · the error that ended it */
} entry;

typedef struct queue {
    entry *first;
} queue;

/* What the peer puts into. Positions only grow; modulo `room` they are places in the lane. */
typedef struct landing_lane {
    char *base;
    tc_signal *signal[SLOTS];
    tc_block *block[SLOTS];
    uint64_t at, end[SLOTS];    /* position behind the last message that was looked at, and behind each of them */
    uint64_t freed_at, told_at; /* position up to which all is consumed; and up to which the peer knows */
    uint32_t next, consumed, told;
    entry *held[SLOTS]; /* a message whose bytes are read where they lie */
    queue expected;
} landing_lane;

/* What we put into. */
typedef struct target_lane {
    uint64_t offset; /* of the lane in the peer's memory */
    tc_target *target[SLOTS];
    tc_plan *plan[SLOTS];
    heading heading[SLOTS];
    uint64_t at, end[SLOTS], freed_at;
    uint32_t next, consumed, left; /* left: number of the first message whose bytes may not be overwritten yet */
    queue waiting, leaving;
} target_lane;

typedef struct link {
    struct link *next; /* of those with the same process */
    tc_net *net;
    uint32_t world, id;
    uint64_t room, room_there; /* bytes of a lane here, of one there */
    struct channel *user; /* NULL: none */
    tc_memory *memory;
    tc_signal *credited; /* one arrival for each time that the peer wrote `credits` */
    tc_block *credit_block;
    uint32_t *credits, told[TURNS]; /* in memory: messages that the peer has consumed; told: what is sent to it */
    tc_target *credit_target;
    tc_plan *credit_plan;
    landing_lane in[TURNS];
    target_lane out[TURNS];
    bool open, broken;
} link;

typedef struct process { /* another one, by its number */
    bool connected, refused;
    link *links;
} process;

struct tc_net {
    atomic_uint holders; /* whoever opened it, and communicators */
    pthread_mutex_t lock;
    tc_context *context; /* NULL: there is no network, which peers are told */
    uint32_t world, size;
    process *processes;
    uint64_t left; /* bytes that lanes may still take */
    _Atomic uint64_t links, memory, openings, messages, parts, credits;
};

/* One side of a link as the other needs it. */
typedef struct offer {
    uint32_t magic, version;
    uint32_t yes;   /* 0: messages go over MPI */
    uint32_t fresh; /* the link is new: what follows is to be opened */
    uint32_t id, address_bytes;
    uint64_t room;
    unsigned char address[TC_ADDRESS_BYTES];
    unsigned char block[NOTICES + 1][TC_BLOCK_BYTES];
} offer;

enum channel_state { CLOSED, ASKED, ANSWERED, OPEN, BY_MPI };

typedef struct channel channel;

struct channel {
    tc_comm *comm;
    uint32_t peer;
    enum channel_state state;
    bool listed; /* among the communicator's busy channels */
    struct channel *next_busy;
    link *link;
    queue early; /* messages posted before it was open */
    offer *mine, *theirs;
    char request[2][8]; /* of MPI: of what is sent, of what is expected */
    bool sent, came;
};

typedef struct channels { /* of a communicator */
    tc_net *net;
    int32_t *worlds, tag;
    channel **with; /* every member; NULL while there is none */
    channel *busy;
    double check_after; /* when it is asked again who lives */
    uint32_t polls;
} channels;

/* --- link.c: what two processes share ------------------------------------------------------------------------------ */
/* Fill in an offer to a process: of a link that no communicator uses, or of a new one. One that says no if there is
 * neither. */
link *link_offer(tc_net *net, uint32_t world, channel *user, offer *out);
/* Answer an offer; TC_AGAIN: its link is in use. NULL in *out: the answer is no. */
int link_answer(tc_net *net, uint32_t world, channel *user, const offer *theirs, offer *mine, link **out);
/* The offer was answered; TC_OK: the link is open. */
int link_accept(link *l, const offer *theirs);
void link_release(link *l);
void link_refused(link *l);
void net_release(tc_net *net);

/* --- lane.c: messages through a link ------------------------------------------------------------------------------- */
/* Move what can be moved: TC_OK, or the error that ended the link. */
int link_advance(link *l);
/* Nothing is to be sent or received. */
bool link_quiet(const link *l);
/* End all messages of a link that failed. */
void link_fail(link *l, int status);
void lane_expect(link *l, entry *e);
void lane_send(link *l, entry *e);
/* A message that was read where it landed is not needed any more. */
void lane_taken(link *l, const entry *e);
#endif
