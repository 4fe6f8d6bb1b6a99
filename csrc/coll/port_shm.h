/* What two ranks of a host see and write, and what one of them knows about it. */
#ifndef TOPOCOMM_PORT_SHM_H
#define TOPOCOMM_PORT_SHM_H
#include <stdatomic.h>

#include "pool.h"
#include "run.h"

#define LINES 32u    /* of an inbox */
#define ANSWERS 32u  /* announcements to a peer that wait for an answer */
#ifndef DATA         /* tests choose less */
#define DATA 65536u  /* bytes of an inbox for what does not fit a line */
#endif
#ifndef EAGER
#define EAGER 8192u  /* bytes of a message up to which it is sent unasked */
#endif
#ifndef PIECE
#define PIECE 16384u /* bytes that a message is cut into if the receiver cannot read it */
#endif
#define INLINE 32u   /* bytes that fit a line */
#define PAIR_BYTES ((sizeof(inbox) + DATA + PAGE - 1) / PAGE * PAGE)

enum kind { SHORT, LONG, ANNOUNCED, PART }; /* data: in the line, in the inbox, to be fetched, some of what was announced */
enum answer { NOT_YET, FETCHED, REFUSED, OTHER_LENGTH }; /* the length that is needed << 2 */

typedef struct shm_line { /* one cache line */
    _Atomic uint64_t turn; /* number of the line + 1: written last */
    uint64_t run;          /* number of the run */
    uint32_t message;      /* of the pair, in this direction, in the run */
    uint16_t kind, slot;   /* slot: of the answer */
    uint64_t bytes;        /* of the whole message */
    union {
        char data[INLINE];
        struct {
            uint64_t at, from, part; /* position in the inbox or address; bytes of the message before it, and in it */
        };
    };
} shm_line;

typedef struct inbox { /* for the messages of one peer; `lines` and data written by it, the rest by its owner */
    _Atomic uint64_t taken, freed; /* lines, and bytes of data, that may be written again */
    char apart[112];
    _Atomic uint64_t answers[ANSWERS]; /* by the peer, to what the owner announced to it */
    char more[128];
    shm_line lines[LINES];
    char rest[PAGE - 512 - LINES * 64]; /* of the page */
    char data[];
} inbox;

typedef struct face { /* what a member shows to all others on its host; a page before its inboxes */
    _Atomic uint64_t key;   /* of its communicator; another one: it has let go of it */
    _Atomic uint64_t ended; /* runs that it has ended */
} face;

typedef struct kept { /* a line that came before it was expected, and its data */
    struct kept *next;
    shm_line line;
    char data[];
} kept;

typedef struct pair { /* to and from one peer */
    uint32_t peer;
    tc_share_address address;
    uint64_t offset, pointer; /* of the inbox that it has for this rank; in this process its address, too */
    inbox *in, *out;          /* here; there, mapped when first needed */
    const face *face;         /* of the peer; NULL: out of reach */
    uint64_t key;             /* that the face has */
    uint64_t read;            /* lines taken */
    uint32_t expected;        /* receives that are under way */
    kept *kept;
    uint64_t written, taken;  /* lines written, and those known to be taken */
    uint64_t next, freed;     /* position of the next data, and what is known to be freed */
    uint32_t slots;           /* of answers, in use */
} pair;

struct shared {
    uint32_t members, ready; /* pairs; all are usable */
    uint32_t way;            /* a tc_share_way */
    uint32_t unsent;         /* sends that are under way */
    uint64_t offset, bytes; /* of the part of the pool: a page with the face, then the inboxes */
    face *face;
    bool crowded; /* more members than cores */
    bool broken; /* a run failed: peers may still write here */
    pair **of; /* of every member of the communicator, NULL: on another host */
    pair pairs[];
};

/* --- pair.c: lines and data of an inbox --------------------------------------------------------------------------- */
int pair_open(pair *q);
/* Write a message, or a part of one; TC_AGAIN: there is no room. */
int pair_write(pair *q, shm_line line, const char *data);
/* Return the next line that came, or NULL; and its data. */
const shm_line *pair_next(const pair *q, const char **data);
/* Let the peer write it again. */
void pair_took(pair *q, const shm_line *line);
/* Keep a line that nobody expects yet, and its data. */
int pair_keep(pair *q, const shm_line *line, const char *data);
/* Copy a peer's memory here; TC_ERR_DENIED: the kernel does not let it. */
int pair_fetch(const pair *q, char *to, uint64_t from, uint64_t bytes);
#endif
