/* A program as it is kept: its bytes, and what is found out about its messages once, when it is loaded. */
#ifndef TOPOCOMM_PROGRAM_H
#define TOPOCOMM_PROGRAM_H
#include <stdatomic.h>
#include <stdbool.h>

#include "coll.h"

enum role { SEND_ROLE, RECV_ROLE, SCRATCH_ROLE, ROLES };
enum code { COPY = 1, SEND, RECV, REDUCE, WAIT, FENCE, LOOP };
enum flag { BEFORE = 1, LAND = 2, SENT = 4 };

#define NONE UINT32_MAX
#define MAX_MESSAGES (1u << 24) /* of one program, loops written out */
#define MAX_SLOTS (1 << 26)     /* of a program */
#define MAX_PIECES (1 << 20)    /* of a block */
#define MAX_WORK (1u << 26)     /* steps and waits, loops written out */

typedef struct step {
    int32_t code, peer, message, count, first, runs, source, flags;
} step;

typedef struct range { /* a run of positions; the name `run` is for what is under way */
    int32_t role, start, length, stride, modulus;
} range;

/* A step whose messages need memory of the engine: they land in it, or are packed in it. */
typedef struct lander {
    uint32_t step;
    uint32_t region; /* shared with landers whose messages are over, or not yet there */
    uint32_t copies; /* repetitions of a loop that need memory at a time; they take turns */
    uint32_t begin, end;
} lander;

/* Messages that a peer sends to this rank. */
typedef struct source {
    int32_t peer;
    uint32_t first, count; /* among all messages */
} source;

struct tc_program {
    atomic_uint holders; /* whoever loaded it, and runs */
    int64_t rank, size, nslots, pieces;
    uint32_t nsteps, nranges, positions[ROLES], nvector;
    step *steps;
    range *ranges;
    int32_t *layout[ROLES], *vector;
    /* Messages are numbered through: those of a peer and direction follow each other. */
    uint32_t nmessages;
    uint32_t nsources;
    source *sources;     /* in the order of peers */
    uint32_t *message;   /* of each step: its first message, NONE if it has none */
    uint32_t *poster;    /* of each message: the step that posts it */
    uint32_t *lander_of; /* of each step: its lander, or NONE */
    uint32_t nlanders, nregions;
    lander *landers;
    int64_t widest; /* blocks of the longest message */
};

/* Write the reason why a program is refused; return TC_ERR_PROGRAM. */
int refuse(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Blocks that a step's operand has. */
int64_t step_blocks(const tc_program *program, const step *s);
/* One holder less. */
void program_release(tc_program *program);

/* --- order.c: check the order of the steps; number the messages --------------------------------------------------- */
int order_check(tc_program *program, char *text);
/* --- landing.c: run the program without its data: check each repetition, find out how long every message needs memory */
int landing_plan(tc_program *program, char *text);
#endif
